#include "adapters/gvisor/pid_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace chalk::gvisor {

Result<PidPipe> PidPipe::make(const std::string& path) {
  PidPipe made;
  if (mkfifo(path.c_str(), 0600) == 0) {
    made.end_.reset(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  if (made.end_) return made;
  return fail(Error::Kind::exhausted, path + ": cannot make a pipe: " + strerror(errno));
}

pid_t PidPipe::read(int runsc, std::chrono::steady_clock::time_point until) const {
  using std::chrono::milliseconds;
  std::string digits;
  while (true) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0) return -1;
    pollfd polled[2] = {{end_.get(), POLLIN, 0}, {runsc, POLLIN, 0}};
    const int ready = poll(polled, 2, static_cast<int>(std::min<long>(left.count(), 60'000)));
    if (ready < 0 && errno != EINTR) return -1;
    if (ready <= 0) continue;
    const bool ended = polled[1].revents != 0;
    const bool closed = (polled[0].revents & POLLHUP) != 0;
    char buffer[32];
    const ssize_t got = ::read(end_.get(), buffer, sizeof buffer);
    if (got > 0) digits.append(buffer, static_cast<std::size_t>(got));
    if (digits.size() > 20) return -1;
    if (got > 0 && !closed) continue;  // until its writer has closed it
    if (!digits.empty() && (closed || ended)) return std::max(0, std::atoi(digits.c_str()));
    if (ended) return 0;
    if (closed) poll(nullptr, 0, 1);  // opened and closed with nothing written: its end will tell
  }
}

}  // namespace chalk::gvisor
