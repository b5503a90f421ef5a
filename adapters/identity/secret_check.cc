#include "adapters/identity/secret_check.h"

#include <chrono>

#include "adapters/identity/keys.h"
#include "adapters/identity/secret_hash.h"

namespace chalk::identity {
namespace {

constexpr std::size_t kRememberedMax = 16'384;  // clients
constexpr std::uint32_t kWaitingMax = 64;       // for a hash
constexpr auto kWaitMax = std::chrono::seconds(5);
constexpr UnixSeconds kWindow = 60;

}  // namespace

SecretCheck::SecretCheck(std::uint32_t wrong_per_minute, std::uint32_t hashes_at_once,
                         std::function<UnixSeconds()> now)
    : wrong_per_minute_(wrong_per_minute),
      hashes_at_once_(hashes_at_once),
      now_(std::move(now)),
      tag_key_(random_bytes(32)) {}

bool SecretCheck::proven(const std::string& client_id, const std::string& tag) {
  const std::lock_guard lock(mutex_);
  const auto at = proven_.find(client_id);
  return at != proven_.end() && same_bytes(at->second, tag);
}

// Counts the attempt as wrong before it is made, so that many at once do not slip through.
bool SecretCheck::may_try(const std::string& client_id) {
  const UnixSeconds now = now_();
  const std::lock_guard lock(mutex_);
  if (wrong_.size() >= kRememberedMax && !wrong_.contains(client_id)) {
    std::erase_if(wrong_, [&](const auto& one) { return now - one.second.since >= kWindow; });
    if (wrong_.size() >= kRememberedMax) return false;
  }
  Wrong& wrong = wrong_[client_id];
  if (now - wrong.since >= kWindow || now < wrong.since) wrong = {now, 0};
  if (wrong.count >= wrong_per_minute_) return false;
  ++wrong.count;
  return true;
}

bool SecretCheck::enter() {
  std::unique_lock lock(mutex_);
  if (hashing_ >= hashes_at_once_) {
    if (waiting_ >= kWaitingMax) return false;
    ++waiting_;
    const bool free = left_.wait_for(lock, kWaitMax, [&] { return hashing_ < hashes_at_once_; });
    --waiting_;
    if (!free) return false;
  }
  ++hashing_;
  return true;
}

void SecretCheck::leave() {
  {
    const std::lock_guard lock(mutex_);
    --hashing_;
  }
  left_.notify_one();
}

Result<void> SecretCheck::check(const std::string& client_id, std::string_view secret,
                                const std::string& kept_hash) {
  if (secret.size() > kSecretBytesMax) return fail(Error::Kind::denied, "secret: too long");
  const std::string tag = hmac_sha256(tag_key_, secret);
  if (proven(client_id, tag)) return {};
  if (!may_try(client_id)) {
    return fail(Error::Kind::exhausted,
                "client: more than " + std::to_string(wrong_per_minute_) +
                    " wrong secrets within a minute; try again in a minute");
  }
  if (!enter()) {
    return fail(Error::Kind::unavailable, "too many secrets are being checked; try again");
  }
  struct Leaving {
    SecretCheck& check;
    ~Leaving() { check.leave(); }
  };
  const auto right = [&] {
    const Leaving leaving{*this};
    return check_secret(secret, kept_hash);
  }();
  if (!right) return std::unexpected(right.error());
  if (!*right) return fail(Error::Kind::denied, "secret: wrong");
  const std::lock_guard lock(mutex_);
  wrong_.erase(client_id);
  if (proven_.size() >= kRememberedMax) proven_.clear();
  proven_[client_id] = tag;
  return {};
}

}  // namespace chalk::identity
