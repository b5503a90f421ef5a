// Makes layers and images for tests, hostile ones too: any name, any type, any compression.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "adapters/images/image.h"

namespace chalk::images::testing {

struct Item {
  enum class Type { file, directory, symlink, hard_link, character_device, fifo };
  std::string path;
  Type type = Type::file;
  std::string content = {};  // of a file; the target of a link
  int mode = 0644;
  std::int64_t user = 0;
  std::int64_t group = 0;
  std::int64_t time = 1'000'000'000;
  std::vector<std::pair<std::string, std::string>> attributes = {};
};

Item file(std::string path, std::string content, int mode = 0644);
Item directory(std::string path, int mode = 0755);
Item symlink(std::string path, std::string target);
Item hard_link(std::string path, std::string target);

std::string make_tar(const std::vector<Item>& items);
std::string compress(const std::string& bytes, Compression compression);

// A layer as a registry holds it.
struct Blob {
  Layer layer;
  std::string bytes;
};
Blob make_blob(const std::string& tar, Compression compression = Compression::gzip);
Blob make_layer(const std::vector<Item>& items, Compression compression = Compression::gzip);

// Everything that a registry answers for an image.
struct Published {
  std::string manifest;
  std::string manifest_type = "application/vnd.oci.image.manifest.v1+json";
  std::string config;
  std::map<std::string, std::string> blobs;  // by digest, the configuration too
};
Published publish(const std::vector<Blob>& layers, bool docker_types = false);

}  // namespace chalk::images::testing
