// One input for the unpacker of layers: the first byte chooses the compression, the rest is the
// blob. Whatever it is, nothing outside of the root may change, the process must live, and what was
// written must be removable. tests/adapters/images/fuzz_test.cc runs it over mutated archives;
// fuzz_unpack.cc makes a libFuzzer program of it.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "adapters/images/tree.h"
#include "tests/adapters/images/scratch.h"
#include "tests/adapters/images/tree_listing.h"
#include "tests/adapters/images/unpacking.h"

namespace chalk::images::testing {

// Ends the process with words on stderr if a promise is broken. True: the layer was accepted.
inline bool unpack_input(const std::uint8_t* data, std::size_t size) {
  static const Scratch scratch;
  static const std::string outer = scratch.folder("outer");
  static const std::string folder = scratch.folder("outer/canary_folder");
  static const std::string canary = [] {
    const std::string path = outer + "/canary";
    const File made(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return path;
  }();
  static const Listing untouched = list_tree(outer);

  if (size == 0) return false;
  UnpackLimits limits;
  limits.entries = 10'000;
  limits.bytes = 16 << 20;
  limits.ratio_from = 1 << 20;
  const std::string root = scratch.folder("outer/root");
  const auto unpacked = unpack_bytes(std::string(reinterpret_cast<const char*>(data + 1), size - 1),
                                     static_cast<Compression>(data[0] % 3), root, "", limits);
  const File parent(open(outer.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto removed = remove_tree(parent.get(), "root");
  if (!removed || list_tree(outer) != untouched) {
    std::fprintf(
        stderr, "unpack_input: %s\n",
        removed ? "something outside of the root changed" : removed.error().message.c_str());
    std::abort();
  }
  return unpacked.has_value();
}

}  // namespace chalk::images::testing
