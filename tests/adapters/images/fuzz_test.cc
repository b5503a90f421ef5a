// Mutated archives through the unpacker, always the same ones: a failure can be run again. More of
// them with CHALK_FUZZ_RUNS=100000, others with CHALK_FUZZ_SEED.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/adapters/images/layers.h"
#include "tests/fuzz/unpack/unpack_input.h"

namespace chalk::images {
namespace {

using namespace testing;
using Random = std::minstd_rand;

std::size_t below(Random& random, std::size_t bound) { return random() % bound; }

std::vector<std::string> seeds() {
  Item rich = file("usr/bin/x", std::string(2000, 'x'), 06755);
  rich.attributes = {{"user.a", "1"}, {"trusted.overlay.opaque", "y"}};
  return {
      make_tar({directory("usr"), rich, hard_link("y", "usr/bin/x"), symlink("z", "usr/bin/x")}),
      make_tar({symlink("out", ".."), directory("d"), file("d/canary", "x"),
                symlink("d/up", "../.."), hard_link("d/h", "d/canary"), file("e/canary", "y")}),
      make_tar({directory("canary_folder"), file("canary_folder/.wh.x", ""),
                file("canary_folder/.wh..wh..opq", ""), file(".wh.canary", ""),
                directory("canary")}),
      make_tar({file(std::string(200, 'l') + "/" + std::string(200, 'n'), "long"),
                symlink("s", std::string(300, 't')), file("\xc3\xa4", "")}),
  };
}

constexpr std::size_t kBlock = 512;

bool is_header(const std::string& tar, std::size_t at) {
  return at + kBlock <= tar.size() && tar.compare(at + 257, 5, "ustar") == 0;
}

void fix_checksums(std::string& tar) {
  for (std::size_t at = 0; at + kBlock <= tar.size(); at += kBlock) {
    if (!is_header(tar, at)) continue;
    std::memset(&tar[at + 148], ' ', 8);
    unsigned sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(tar[at + i]);
    std::snprintf(&tar[at + 148], 8, "%06o", sum);
  }
}

void put(std::string& tar, std::size_t at, std::size_t width, const std::string& text) {
  for (std::size_t i = 0; i < width; ++i) tar[at + i] = i < text.size() ? text[i] : '\0';
}

void mutate(std::string& tar, Random& random) {
  static const std::array<std::string, 16> names = {"../canary",
                                                    "/../canary",
                                                    "out/canary",
                                                    "out/canary_folder/x",
                                                    "d/up/canary",
                                                    "./../canary",
                                                    "z/x",
                                                    "s/x",
                                                    ".wh...",
                                                    ".wh.",
                                                    "out/.wh.canary",
                                                    "",
                                                    ".",
                                                    "d/../../canary",
                                                    "out",
                                                    "canary"};
  std::vector<std::size_t> headers;
  for (std::size_t at = 0; at + kBlock <= tar.size(); at += kBlock)
    if (is_header(tar, at)) headers.push_back(at);
  if (headers.empty()) return;
  const std::size_t header = headers[below(random, headers.size())];
  const std::size_t other = headers[below(random, headers.size())];
  switch (below(random, 9)) {
    case 0: put(tar, header, 100, names[below(random, names.size())]); break;
    case 1: put(tar, header + 157, 100, names[below(random, names.size())]); break;
    case 2: tar[header + 156] = "0123456757xgLKSDVMNA"[below(random, 20)]; break;
    case 3: put(tar, header + 124, 12, std::to_string(random() % 100'000)); break;
    case 4: tar[header + 124 + below(random, 12)] = static_cast<char>(random()); break;
    case 5: tar[below(random, tar.size())] = static_cast<char>(random()); break;
    case 6: tar.insert(header, tar.substr(other, kBlock)); break;
    case 7: tar.erase(header, kBlock); break;
    case 8: tar.resize(below(random, tar.size())); break;
  }
}

int from_environment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}

TEST(UnpackFuzz, MutatedArchivesWriteNothingOutsideAndEndNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: owners and whiteouts";
  const int runs = from_environment("CHALK_FUZZ_RUNS", 1500);
  Random random(static_cast<unsigned>(from_environment("CHALK_FUZZ_SEED", 1)));
  const auto tars = seeds();
  int accepted = 0;
  for (int run = 0; run < runs; ++run) {
    std::string tar = tars[below(random, tars.size())];
    for (std::size_t times = 1 + below(random, 4); times > 0; --times) mutate(tar, random);
    if (below(random, 8)) fix_checksums(tar);
    const auto compression = static_cast<Compression>(below(random, 4) ? 0 : 1 + below(random, 2));
    std::string bytes = compress(tar, compression);
    if (compression != Compression::none && below(random, 2) && !bytes.empty())
      bytes[below(random, bytes.size())] ^= static_cast<char>(1 << below(random, 8));
    bytes.insert(bytes.begin(), static_cast<char>(compression));
    accepted += unpack_input(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  // Both roads are taken, else the mutations are too weak or too strong to show anything.
  EXPECT_GT(accepted, runs / 20);
  EXPECT_LT(accepted, runs * 19 / 20);
}

}  // namespace
}  // namespace chalk::images
