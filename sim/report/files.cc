#include "sim/report/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace chalk::sim {
namespace {

mode_t file_mode() {
  const mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

}  // namespace

void write_file(const std::string& path, const std::string& text) {
  constexpr int kEnding = 8;
  std::string partial = path + ".XXXXXX.partial";
  const int file = mkstemps(partial.data(), kEnding);
  const auto fail = [&](const char* what) {
    const std::string reason = std::strerror(errno);
    if (file >= 0) {
      close(file);
      std::remove(partial.c_str());
    }
    throw std::runtime_error(path + ": cannot " + what + ": " + reason);
  };
  if (file < 0) fail("create");
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t wrote = write(file, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail("write");
    done += static_cast<std::size_t>(wrote);
  }
  if (fchmod(file, file_mode()) != 0 || fsync(file) != 0) fail("write");
  if (std::rename(partial.c_str(), path.c_str()) != 0) fail("rename into place");
  close(file);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) throw std::runtime_error(path + ": cannot read");
  return text.str();
}

}  // namespace chalk::sim
