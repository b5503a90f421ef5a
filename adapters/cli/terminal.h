// The user's terminal: raw mode while a command in a sandbox has it, its size, and a line of progress.
#pragma once
#include <termios.h>

#include <chrono>
#include <cstdint>
#include <string>

namespace chalk::cli {

// Bytes go through as they are while this lives; the terminal is as before afterwards.
class RawMode {
 public:
  RawMode();  // of standard input; throws Stop where that is no terminal
  ~RawMode();
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  termios before_{};
};

struct WindowSize {
  std::uint32_t columns = 80;
  std::uint32_t rows = 24;
};
WindowSize window_size();

// What goes on, on one line of standard error that is overwritten and leaves no trace. Nothing in the
// first second, and nothing where standard error is no terminal.
class Progress {
 public:
  ~Progress() { clear(); }
  void show(const std::string& text);
  void clear();

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

}  // namespace chalk::cli
