#include "adapters/process/claim.h"

#include <mutex>
#include <set>

namespace chalk::process {
namespace {

struct Claims {
  std::mutex mutex;
  // More than one of a pid: its number may be in use again before the older claim is dropped.
  std::multiset<pid_t> pids;
};

Claims& claims() {
  static Claims* const all = new Claims;  // never destroyed: claims may be dropped at the very end
  return *all;
}

}  // namespace

Claim::Claim(pid_t pid) : pid_(pid) {
  const std::lock_guard lock(claims().mutex);
  claims().pids.insert(pid);
}

Claim& Claim::operator=(Claim&& other) noexcept {
  if (this == &other) return *this;
  drop();
  pid_ = other.pid_;
  other.pid_ = 0;
  return *this;
}

void Claim::drop() {
  if (pid_ == 0) return;
  const std::lock_guard lock(claims().mutex);
  const auto found = claims().pids.find(pid_);
  if (found != claims().pids.end()) claims().pids.erase(found);
  pid_ = 0;
}

std::shared_mutex& births() {
  static std::shared_mutex* const one = new std::shared_mutex;
  return *one;
}

bool claimed(pid_t pid) {
  const std::lock_guard lock(claims().mutex);
  return claims().pids.contains(pid);
}

}  // namespace chalk::process
