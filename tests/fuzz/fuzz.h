// Targets and their runs. Each input is made of a seed and its own number alone, so one command
// repeats the one that broke something, and the same inputs are tried on every machine.
#pragma once
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace chalk::fuzz {

using Random = std::mt19937_64;

struct Target {
  std::string name;
  std::vector<std::string> corpus;      // good inputs; each one tried is one of them, mutated
  std::vector<std::string> dictionary;  // what mutations may put in
  // Ends the process by broken() where a promise is; true: the input was taken.
  std::function<bool(std::string_view input)> take;
  std::uint64_t runs = 20'000;  // where the command line says nothing
  // The other target's part of a cost: an input that takes longer ends the process.
  unsigned seconds_max = 30;
};

[[noreturn]] void broken(const std::string& what);

std::size_t below(Random& random, std::size_t bound);
std::string mutated(const Target& target, Random& random);

// fuzz_NAME [--target NAME] [--seed N] [--first N] [--runs N] [--times N] [--list]
// --times: so many times the usual number of runs. Ends with 0 where nothing was broken.
int run(int argc, char** argv, const std::vector<Target>& targets);

}  // namespace chalk::fuzz
