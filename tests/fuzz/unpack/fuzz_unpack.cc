// The libFuzzer program, for a clang whose standard library has std::expected (19 or later):
//   clang++ -std=c++23 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/unpack/fuzz_unpack.cc
//     tests/adapters/images/{scratch,layers,tree_listing}.cc adapters/images/*.cc
//     -larchive -lcurl -lcrypto
// Needs root, as the unpacker does.
#include "tests/fuzz/unpack/unpack_input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  chalk::images::testing::unpack_input(data, size);
  return 0;
}
