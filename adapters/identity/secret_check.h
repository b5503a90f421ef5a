// Whether a client's secret is right, at a bounded cost: few hashes at once, few wrong secrets of
// one client a minute, and no hash at all for a secret that was found right before. Thread safe.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "adapters/error.h"
#include "adapters/identity/store.h"

namespace chalk::identity {

class SecretCheck {
 public:
  SecretCheck(std::uint32_t wrong_per_minute, std::uint32_t hashes_at_once,
              std::function<UnixSeconds()> now);
  // Nothing when it is right. denied: wrong; exhausted: too many were; unavailable: too busy.
  Result<void> check(const std::string& client_id, std::string_view secret,
                     const std::string& kept_hash);

 private:
  struct Wrong {
    UnixSeconds since = 0;
    std::uint32_t count = 0;
  };
  bool proven(const std::string& client_id, const std::string& tag);
  bool may_try(const std::string& client_id);
  bool enter();
  void leave();

  const std::uint32_t wrong_per_minute_, hashes_at_once_;
  const std::function<UnixSeconds()> now_;
  const std::string tag_key_;  // of this process: the tags are worth nothing elsewhere
  std::mutex mutex_;
  std::condition_variable left_;
  std::uint32_t hashing_ = 0, waiting_ = 0;
  std::map<std::string, Wrong> wrong_;
  std::map<std::string, std::string> proven_;  // client -> keyed hash of its right secret
};

}  // namespace chalk::identity
