// Valid files with random bytes changed: a reader succeeds or throws InputError, nothing else.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"
#include "tests/sim/workload/trace_files.h"

namespace chalk::sim {
namespace {

using namespace std::string_view_literals;

constexpr int kRounds = 1500;
constexpr std::size_t kArrivalsMax = 20'000;  // a changed count may be large; some are enough

std::string mutated(std::string_view valid, Random& random) {
  constexpr std::string_view kLikely = "0123456789-+.eE,\"\r\n{}[]:|\0\xFF\x80 "sv;
  std::string text(valid);
  std::uint64_t changes = random.below(2) == 0 ? 1 : 1 + random.below(4);
  for (std::uint64_t i = 0; i < changes && !text.empty(); ++i) {
    std::size_t at = random.below(text.size());
    char byte = random.below(4) == 0 ? static_cast<char>(random.below(256))
                                     : kLikely[random.below(kLikely.size())];
    switch (random.below(6)) {
      case 0: text.insert(at, 1, byte); break;
      case 1: text.erase(at, 1 + random.below(8)); break;
      case 2: text.resize(at); break;
      case 3:
        text.insert(at, std::string(text, random.below(text.size()), random.below(40)));
        break;
      default: text[at] = byte;
    }
  }
  return text;
}

struct Format {
  const char* name;
  std::vector<std::pair<std::string, std::string>> files;
  bool by_directory;
};

class Fuzz : public ::testing::TestWithParam<int> {
 public:
  static std::vector<Format> formats() {
    return {{"azure2019",
             {{"invocations.csv", azure2019_calls(70)},
              {"durations.csv", std::string(kAzure2019Durations)},
              {"memory.csv", std::string(kAzure2019Memory)}},
             true},
            {"azure2021", {{"t", std::string(kAzure2021)}}, false},
            {"azurellm", {{"t", std::string(kAzureLlm)}}, false},
            {"openb",
             {{"openb_node_list_all_node.csv", std::string(kOpenbNodes)},
              {"openb_pod_list_default.csv", std::string(kOpenbPods)}},
             true},
            {"jsonl", {{"t", std::string(kJsonl)}}, false}};
  }
};

TEST_P(Fuzz, MutatedFilesGiveSuccessOrInputError) {
  Format format = formats()[GetParam()];
  TemporaryDirectory directory;
  int accepted = 0, refused = 0;
  for (int round = 0; round < kRounds; ++round) {
    Random random = Random{static_cast<std::uint64_t>(round)}.stream(GetParam());
    std::size_t victim = random.below(format.files.size());
    for (std::size_t i = 0; i < format.files.size(); ++i) {
      const auto& [name, valid] = format.files[i];
      directory.write(name, i == victim ? mutated(valid, random) : valid);
    }
    std::string spec = fmt::format("{}:{}", format.name, directory.path());
    if (!format.by_directory) spec += "/t";
    try {
      TraceOptions options;
      options.sort_memory_bytes = 100;
      auto source = open_trace(spec, options);
      take(*source, kArrivalsMax);
      ++accepted;
    } catch (const InputError& error) {
      EXPECT_FALSE(error.expected.empty());
      ++refused;
    } catch (const std::exception& error) {
      FAIL() << format.name << " round " << round << ": " << error.what();
    }
  }
  // Both outcomes happen: the changes are neither harmless nor always fatal.
  EXPECT_GT(accepted, kRounds / 200);
  EXPECT_GT(refused, kRounds / 10);
}

INSTANTIATE_TEST_SUITE_P(Formats, Fuzz, ::testing::Range(0, 5), [](const auto& info) {
  return std::string(Fuzz::formats()[info.param].name);
});

}  // namespace
}  // namespace chalk::sim
