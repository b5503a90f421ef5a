// Of those that wait for the same sandbox the newest: an older one may be of a connection that is dead
// for long, and its end says nothing of the newer one. Thread safe; outlives what it hands out.
#pragma once
#include <cstdint>
#include <map>
#include <mutex>

#include "model/core/ids.h"

namespace chalk::server {

class Newest {
 public:
  class Held {
   public:
    Held(Newest& of, SandboxId sandbox) : of_(of), sandbox_(sandbox) {
      const std::lock_guard lock(of_.mutex_);
      number_ = ++of_.last_;
      of_.newest_[sandbox_] = number_;
    }
    ~Held() {
      const std::lock_guard lock(of_.mutex_);
      if (is()) of_.newest_.erase(sandbox_);
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

    // False where a newer one has come since, also one that has gone again.
    bool is_newest() const {
      const std::lock_guard lock(of_.mutex_);
      return is();
    }

   private:
    bool is() const {
      const auto found = of_.newest_.find(sandbox_);
      return found != of_.newest_.end() && found->second == number_;
    }

    Newest& of_;
    const SandboxId sandbox_;
    std::uint64_t number_ = 0;
  };

 private:
  std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::map<SandboxId, std::uint64_t> newest_;  // by number, of which none is given twice
};

}  // namespace chalk::server
