#include "adapters/images/layer_record.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "adapters/images/tree.h"

namespace chalk::images {
namespace {

using nlohmann::json;
constexpr std::size_t kMaxRecord = 64 << 10;

}  // namespace

std::string read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

Result<void> write_record(int folder, const LayerRecord& record, const std::string& boot_id) {
  const std::string text = json{
      {"bytes", record.bytes},
      {"whiteouts", record.whiteouts},
      {"blob", record.blob},
      {"boot", boot_id}}.dump();
  const File file(openat(folder, "layer.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file) return system_error("layer.json", errno);
  if (write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return system_error("layer.json", errno);
  return {};
}

std::optional<LayerRecord> read_record(int layers, const std::string& hex,
                                       const std::string& boot_id) {
  const File file(openat(layers, (hex + "/layer.json").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return std::nullopt;
  std::string text(kMaxRecord, '\0');
  const ssize_t size = read(file.get(), text.data(), text.size());
  if (size <= 0) return std::nullopt;
  const json written = json::parse(text.substr(0, static_cast<std::size_t>(size)), nullptr, false);
  if (!written.is_object()) return std::nullopt;
  LayerRecord record;
  for (auto [key, to] : {std::pair{"bytes", &record.bytes}, {"whiteouts", &record.whiteouts}}) {
    const auto found = written.find(key);
    if (found == written.end() || !found->is_number_integer() || *found < 0) return std::nullopt;
    *to = found->get<std::int64_t>();
  }
  record.blob = written.value("blob", json()).is_string() ? written["blob"].get<std::string>() : "";
  const bool synced = faccessat(layers, (hex + "/synced").c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  const auto boot = written.find("boot");
  if (synced || (!boot_id.empty() && boot != written.end() && *boot == boot_id))
    return record;
  return std::nullopt;
}

void mark_synced(int layers, const std::string& hex) {
  const File made(
      openat(layers, (hex + "/synced").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
}

}  // namespace chalk::images
