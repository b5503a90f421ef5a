#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "model/protocol/log_record.h"
#include "sim/command/command.h"
#include "sim/workload/input_error.h"

namespace chalk::sim {

constexpr double kLogEverySeconds = 10;

std::vector<Override> parse_sets(const std::vector<std::string>& sets) {
  std::vector<Override> overrides;
  for (const std::string& set : sets) {
    const auto equals = set.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw std::runtime_error("--set: found \"" + set + "\", expected a.b.c=value");
    }
    overrides.push_back({set.substr(0, equals), set.substr(equals + 1)});
  }
  return overrides;
}

ProgressLine::ProgressLine(bool quiet) : terminal_(isatty(STDERR_FILENO) != 0), quiet_(quiet) {}

void ProgressLine::show(const std::string& text) {
  if (quiet_) return;
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
  } else if (wall_seconds() - told_ >= kLogEverySeconds) {
    told_ = wall_seconds();
    std::fprintf(stderr, "%s\n", text.c_str());
  }
}

void ProgressLine::clear() {
  if (terminal_ && !quiet_) std::fprintf(stderr, "\r\033[K");
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<long long>(seconds);
  if (whole >= 86'400) return fmt::format("{}d{:02}h", whole / 86'400, whole % 86'400 / 3600);
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{:.1f}s", seconds);
}

std::string left_text(double wall, std::size_t done, std::size_t whole) {
  if (done == 0) return "?";
  return clock_text(wall * static_cast<double>(whole - done) / static_cast<double>(done));
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void make_folder(const std::string& option, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw std::runtime_error(option + " " + path + ": the folder cannot be made: " +
                             error.message() + "; choose one that you may write to");
  }
  std::string probe = path + "/.chalk-sim-XXXXXX";  // only writing tells whether one may
  const int file = mkstemp(probe.data());
  if (file < 0) {
    throw std::runtime_error(option + " " + path + ": the folder cannot be written to: " +
                             std::strerror(errno) + "; choose one that you may write to");
  }
  close(file);
  unlink(probe.c_str());
}

bool saved(const std::function<void()>& write) {
  try {
    write();
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "chalk-sim: %s\n", error.what());
    return false;
  }
}

void expect_log(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    throw std::runtime_error(path + ": found a folder, expected an event log, such as " + path +
                             "/events.log");
  }
  std::ifstream in(path, std::ios::binary);
  std::string begins(kLogMagic.size() + 8, '\0');
  in.read(begins.data(), static_cast<std::streamsize>(begins.size()));
  begins = begins.substr(0, std::min<std::size_t>(begins.find('\n'), in.gcount()));
  const std::string ours(kLogMagic.substr(0, kLogMagic.find('\n')));
  if (!begins.starts_with("chalk-log ") || begins == ours) return;  // the reader tells the rest
  throw std::runtime_error(path + ": found a log of the format " + quote(begins) + ", expected " +
                           quote(ours) + ": it was written by another version of chalk");
}

void refuse_no_numbers(CLI::App& app) {
  const CLI::Validator count(
      [](std::string& text) {
        std::uint64_t value = 0;
        const char* end = text.data() + text.size();
        const auto [at, problem] = std::from_chars(text.data(), end, value);
        const bool good = problem == std::errc() && at == end && value <= kSeedMax;
        return good ? std::string()
                    : fmt::format("found {}, expected a whole number from 0 to {}", text, kSeedMax);
      },
      "");
  const CLI::Validator finite(
      [](std::string& text) {
        const double value = std::strtod(text.c_str(), nullptr);  // as CLI11 reads it
        return std::isfinite(value) ? std::string() : "found " + text + ", expected a number";
      },
      "");
  for (CLI::App* sub : app.get_subcommands({})) {
    for (CLI::Option* option : sub->get_options()) {
      const std::string type = option->get_type_name();
      if (type.starts_with("UINT")) option->check(count);
      if (type.starts_with("FLOAT")) option->check(finite);
    }
  }
}

void expect_seeds(const std::string& option, std::uint64_t first, std::uint64_t count) {
  if (first <= kSeedMax && count <= kSeedMax - first + 1) return;
  throw std::runtime_error(fmt::format("{}: found {} seeds from {}, expected none above {}", option,
                                       count, first, kSeedMax));
}

unsigned cores() { return static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

}  // namespace chalk::sim
