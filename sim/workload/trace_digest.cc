// Whether two traces are one, without reading all of what may be a terabyte.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "model/core/digest.h"
#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr std::uint64_t kBlock = 64 << 10;
constexpr std::uint64_t kBlocksMax = 1024;  // 64 MiB

// Files of up to 64 MiB are read whole. Of larger ones the size counts, and 1024 blocks of 64 KiB
// that are spread evenly, the first and the last among them: another day, a longer excerpt or rows
// that were scaled differ everywhere, while a few rows changed in place, with no byte more or less,
// may stay unseen. The time of the last change says nothing: shards read copies.
void add_file(Digest& digest, const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw InputError(path, 0, "a file that cannot be opened", "a readable file");
  const std::uint64_t size = std::filesystem::file_size(path);
  digest.add(size);
  const std::uint64_t blocks = (size + kBlock - 1) / kBlock;
  const std::uint64_t read = std::min(blocks, kBlocksMax);
  std::string block(kBlock, '\0');
  for (std::uint64_t i = 0; i < read; ++i) {
    const std::uint64_t which = read == blocks ? i : i * (blocks - 1) / (read - 1);
    in.seekg(static_cast<std::streamoff>(which * kBlock));
    in.read(block.data(), static_cast<std::streamsize>(kBlock));
    digest.add(std::string_view(block.data(), static_cast<std::size_t>(in.gcount())));
    in.clear();
  }
}

}  // namespace

std::uint64_t trace_digest(std::string_view text) {
  const std::optional<TraceSpec> spec = parse_trace_spec(text);
  if (!spec) throw InputError("trace", 0, quote(text), kTraceSpecs);
  Digest digest;
  if (!std::filesystem::is_directory(spec->path)) {
    add_file(digest, spec->path);
    return digest.value();
  }
  std::vector<std::filesystem::path> files;  // all that the formats of a folder may read
  for (const auto& entry : std::filesystem::directory_iterator(spec->path)) {
    if (entry.path().extension() == ".csv") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    digest.add(file.filename().string());
    add_file(digest, file);
  }
  return digest.value();
}

}  // namespace chalk::sim
