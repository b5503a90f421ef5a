// What a Store writes beside a layer's files: layer.json when it was unpacked, and the empty file
// "synced" once its bytes are on the disk for sure.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "adapters/error.h"

namespace chalk::images {

struct LayerRecord {
  std::int64_t bytes = 0;
  std::int64_t whiteouts = 0;
  std::string blob;  // the digest it was downloaded by
};

// Changes when the machine starts; empty if unknown.
std::string read_boot_id();

// Into the layer's folder, which is still a temporary one.
Result<void> write_record(int folder, const LayerRecord& record, const std::string& boot_id);

// What is written of layers/<hex>, if that can be trusted: it is synced, or was written since the
// machine started.
std::optional<LayerRecord> read_record(int layers, const std::string& hex,
                                       const std::string& boot_id);

// A mark that gets lost costs a download after the next crash, no more.
void mark_synced(int layers, const std::string& hex);

}  // namespace chalk::images
