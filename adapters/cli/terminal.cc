#include "adapters/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"

namespace chalk::cli {

RawMode::RawMode() {
  if (tcgetattr(STDIN_FILENO, &before_) != 0) {
    throw Stop("-t needs a terminal as standard input; leave -t out in scripts");
  }
  termios raw = before_;
  cfmakeraw(&raw);
  if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) != 0) throw Stop("cannot set the terminal's mode");
}

RawMode::~RawMode() { tcsetattr(STDIN_FILENO, TCSANOW, &before_); }

WindowSize window_size() {
  WindowSize size;
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    winsize found{};
    if (ioctl(descriptor, TIOCGWINSZ, &found) == 0 && found.ws_col > 0 && found.ws_row > 0) {
      size.columns = found.ws_col;
      size.rows = found.ws_row;
      break;
    }
  }
  return size;
}

void Progress::show(const std::string& text) {
  const auto passed = std::chrono::steady_clock::now() - began_;
  if (passed < std::chrono::seconds(1) || !is_terminal(STDERR_FILENO)) return;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(passed).count();
  const std::string line =
      "\r\033[K" + harmless(text) + " (" + std::to_string(seconds) + " s) ...";
  (void)!write(STDERR_FILENO, line.data(), line.size());
  shown_ = true;
}

void Progress::clear() {
  if (!shown_) return;
  (void)!write(STDERR_FILENO, "\r\033[K", 4);
  shown_ = false;
}

}  // namespace chalk::cli
