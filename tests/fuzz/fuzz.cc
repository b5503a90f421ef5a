#include "tests/fuzz/fuzz.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

// The sanitizers end the process without a signal; they call this before, where they are linked.
extern "C" void __sanitizer_set_death_callback(void (*)()) __attribute__((weak));

namespace chalk::fuzz {
namespace {

constexpr std::size_t kInputBytesMax = 1 << 16;

// What a dying process says: written before each input, so that nothing has to be made then.
char last_words[1024];

void say_last_words() {
  [[maybe_unused]] const auto put = write(STDERR_FILENO, last_words, std::strlen(last_words));
}

extern "C" void on_signal(int number) {
  if (number == SIGALRM) {
    constexpr std::string_view kSlow = "fuzz: an input takes too long\n";
    [[maybe_unused]] const auto put = write(STDERR_FILENO, kSlow.data(), kSlow.size());
  }
  say_last_words();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void insert_some(std::string& bytes, std::size_t at, const Target& target, Random& random) {
  if (!target.dictionary.empty() && below(random, 2) == 0) {
    bytes.insert(at, target.dictionary[below(random, target.dictionary.size())]);
  } else {
    bytes.insert(at, 1 + below(random, 8), static_cast<char>(random()));
  }
}

void mutate(std::string& bytes, const Target& target, Random& random) {
  static constexpr unsigned char kEdges[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\n', '9'};
  const std::size_t at = below(random, bytes.size() + 1);
  const std::size_t rest = bytes.size() - at;
  switch (below(random, 12)) {
    case 0:
    case 1:
      if (rest > 0) bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(random, 8));
      break;
    case 2:
      if (rest > 0) bytes[at] = static_cast<char>(random());
      break;
    case 3:
      if (rest > 0) bytes[at] = static_cast<char>(kEdges[below(random, sizeof kEdges)]);
      break;
    case 4:
      if (rest > 0) bytes[at] = static_cast<char>(bytes[at] + (below(random, 2) != 0 ? 1 : -1));
      break;
    case 5: bytes.erase(at, 1 + below(random, 8)); break;
    case 6: bytes.erase(at, below(random, rest + 1)); break;
    case 7: insert_some(bytes, at, target, random); break;
    case 8: bytes.insert(at, bytes.substr(at, below(random, 64))); break;
    case 9: {  // a piece from elsewhere in it, over what is there
      const std::string piece = bytes.substr(below(random, bytes.size() + 1), below(random, 32));
      bytes.replace(at, std::min(piece.size(), rest), piece);
      break;
    }
    case 10: {  // the end of another one
      const std::string& other = target.corpus[below(random, target.corpus.size())];
      bytes = bytes.substr(0, at) + other.substr(below(random, other.size() + 1));
      break;
    }
    default: bytes.insert(at, std::string(1 + below(random, 9), '\xff') + '\x01'); break;
  }
}

struct Options {
  std::string target;
  std::uint64_t seed = 1, first = 0, runs = 0, times = 1;
};

Options read_options(int argc, char** argv) {
  Options out;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--target") out.target = argv[i + 1];
    else if (name == "--seed") out.seed = std::stoull(argv[i + 1]);
    else if (name == "--first") out.first = std::stoull(argv[i + 1]);
    else if (name == "--runs") out.runs = std::stoull(argv[i + 1]);
    else if (name == "--times") out.times = std::stoull(argv[i + 1]);
    else throw std::invalid_argument(name);
  }
  if (argc % 2 == 0) throw std::invalid_argument(argv[argc - 1]);
  return out;
}

// False where the inputs were so weak, or so strong, that nothing was shown.
bool run_target(const Target& target, const Options& options, const char* program) {
  const std::uint64_t runs = options.runs != 0 ? options.runs : target.runs * options.times;
  const auto began = std::chrono::steady_clock::now();
  std::uint64_t taken = 0;
  for (std::uint64_t number = options.first; number < options.first + runs; ++number) {
    std::snprintf(last_words, sizeof last_words,
                  "fuzz: %s is broken by input %llu; repeat with: %s --target %s --seed %llu "
                  "--first %llu --runs 1\n",
                  target.name.c_str(), static_cast<unsigned long long>(number), program,
                  target.name.c_str(), static_cast<unsigned long long>(options.seed),
                  static_cast<unsigned long long>(number));
    std::seed_seq words{options.seed, options.seed >> 32, number, number >> 32};
    Random random(words);
    const std::string input = mutated(target, random);
    alarm(target.seconds_max);
    try {
      taken += target.take(input);
    } catch (const std::exception& error) {
      broken(std::string("an exception left it: ") + error.what());
    }
    alarm(0);
  }
  last_words[0] = '\0';
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  std::printf("%s: %llu inputs, %llu taken, in %.1f s\n", target.name.c_str(),
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(taken), took);
  const bool telling = runs < 1'000 || (taken > runs / 100 && taken < runs - runs / 100);
  if (!telling) std::printf("%s: too few were taken, or too few refused\n", target.name.c_str());
  return telling;
}

}  // namespace

void broken(const std::string& what) {
  std::fprintf(stderr, "fuzz: %s\n", what.c_str());
  std::abort();
}

std::size_t below(Random& random, std::size_t bound) { return random() % bound; }

std::string mutated(const Target& target, Random& random) {
  std::string bytes = target.corpus[below(random, target.corpus.size())];
  for (std::size_t times = below(random, 6); times > 0; --times) mutate(bytes, target, random);
  if (bytes.size() > kInputBytesMax) bytes.resize(kInputBytesMax);
  return bytes;
}

int run(int argc, char** argv, const std::vector<Target>& targets) {
  Options options;
  try {
    options = read_options(argc, argv);
  } catch (const std::exception&) {
    std::fprintf(stderr, "usage: %s [--target NAME] [--seed N] [--first N] [--runs N] [--times N]\n",
                 argv[0]);
    return 2;
  }
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) {
    // The sanitizers' own handlers say more.
    if (__sanitizer_set_death_callback == nullptr || number == SIGABRT || number == SIGALRM) {
      std::signal(number, on_signal);
    }
  }
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(say_last_words);
  bool good = true, any = false;
  for (const Target& target : targets) {
    if (!options.target.empty() && options.target != target.name) continue;
    any = true;
    good = run_target(target, options, argv[0]) && good;
  }
  if (!any) std::fprintf(stderr, "%s: no target is called %s\n", argv[0], options.target.c_str());
  return good && any ? 0 : 1;
}

}  // namespace chalk::fuzz
