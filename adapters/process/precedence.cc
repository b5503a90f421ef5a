#include "adapters/process/precedence.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace chalk::process {
namespace {

constexpr const char* kOomScoreAdj = "/proc/self/oom_score_adj";
constexpr const char* kAutogroup = "/proc/self/autogroup";

bool g_raised = false;
rlimit g_descriptors_before{};  // 0: was not changed
char g_oom_before[16] = "";  // as text: a child writes it; empty: was not changed

bool write_text(const char* file, const char* text) {
  const int fd = open(file, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const auto size = static_cast<ssize_t>(std::strlen(text));
  const bool written = write(fd, text, static_cast<std::size_t>(size)) == size;
  const int error = errno;
  close(fd);
  errno = error;
  return written;
}

bool read_text(const char* file, char (&text)[16]) {
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  text[size > 0 ? size : 0] = 0;
  return size > 0;
}

}  // namespace

std::string take_precedence() {
  std::string missing;
  const auto note = [&](const char* what) {
    if (!missing.empty()) missing += ", ";
    missing += std::string(what) + ": " + std::strerror(errno);
  };
  if (getpriority(PRIO_PROCESS, 0) == 0) {
    g_raised = setpriority(PRIO_PROCESS, 0, kServingNice) == 0;
    if (!g_raised) note("priority");
    // Where the kernel shares time by session (sched(7), autogroups) a nice value counts only inside
    // one; the session's own is ours to raise when we lead it. No such file: no such sharing.
    if (getsid(0) == getpid() && access(kAutogroup, W_OK) == 0 &&
        !write_text(kAutogroup, std::to_string(kServingNice).c_str())) {
      note(kAutogroup);
    }
  }
  rlimit descriptors{};
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0 &&
      descriptors.rlim_cur < descriptors.rlim_max) {
    const rlimit all{descriptors.rlim_max, descriptors.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &all) == 0) {
      g_descriptors_before = descriptors;
    } else {
      note("RLIMIT_NOFILE");
    }
  }
  if (!read_text(kOomScoreAdj, g_oom_before) ||
      !write_text(kOomScoreAdj, std::to_string(kServingOomScoreAdj).c_str())) {
    g_oom_before[0] = 0;
    note(kOomScoreAdj);
  }
  return missing;
}

bool give_up_precedence() {
  // A new session begins an autogroup of its own, at 0.
  return (!g_raised || setpriority(PRIO_PROCESS, 0, 0) == 0) &&
         (g_oom_before[0] == 0 || write_text(kOomScoreAdj, g_oom_before));
}

bool give_back_descriptors() {
  return g_descriptors_before.rlim_max == 0 ||
         setrlimit(RLIMIT_NOFILE, &g_descriptors_before) == 0;
}

}  // namespace chalk::process
