// Which processes somebody here will wait for. A subreaper inherits processes that nobody knows of,
// and something has to take these when they end; what is claimed it leaves alone, so that no exit
// status is lost to it.
#pragma once
#include <sys/types.h>

#include <shared_mutex>

namespace chalk::process {

class Claim {
 public:
  Claim() = default;
  explicit Claim(pid_t pid);
  Claim(Claim&& other) noexcept : pid_(other.pid_) { other.pid_ = 0; }
  Claim& operator=(Claim&& other) noexcept;
  ~Claim() { drop(); }
  void drop();

 private:
  pid_t pid_ = 0;
};

// Held shared from before a child exists until it is claimed, and alone by whoever asks.
std::shared_mutex& births();
bool claimed(pid_t pid);

}  // namespace chalk::process
