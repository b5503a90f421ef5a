#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "sim/command/command.h"

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
}

unsigned cores() { return static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

}  // namespace chalk::sim
