// How many long calls may go on at once: each holds threads and a channel to a node.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace chalk::server {

class Places {
 public:
  // `what`: several of them, for sentences.
  Places(std::size_t total_max, std::size_t of_tenant_max,
         std::string what = "commands, sessions and transfers")
      : total_max_(total_max), of_tenant_max_(of_tenant_max), what_(std::move(what)) {}
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  // Given back when it dies. False when there was no place left.
  class Place {
   public:
    Place() = default;
    Place(Places* places, std::uint32_t tenant) : places_(places), tenant_(tenant) {}
    Place(Place&& other) noexcept
        : places_(std::exchange(other.places_, nullptr)), tenant_(other.tenant_) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(places_, other.places_);
      std::swap(tenant_, other.tenant_);
      return *this;
    }
    ~Place() {
      if (places_ != nullptr) places_->leave(tenant_);
    }
    explicit operator bool() const { return places_ != nullptr; }

   private:
    Places* places_ = nullptr;
    std::uint32_t tenant_ = 0;
  };

  Place take(std::uint32_t tenant) {
    const std::lock_guard lock(mutex_);
    if (total_ >= total_max_) return {};
    std::size_t& mine = of_tenant_[tenant];
    if (mine >= of_tenant_max_) return {};
    ++mine;
    ++total_;
    return {this, tenant};
  }
  std::string full() const {
    return "too many " + what_ + " go on at once: at most " +
           std::to_string(of_tenant_max_) + " of an environment and " +
           std::to_string(total_max_) + " of all; try again when some have ended";
  }

 private:
  void leave(std::uint32_t tenant) {
    const std::lock_guard lock(mutex_);
    --total_;
    const auto mine = of_tenant_.find(tenant);
    if (--mine->second == 0) of_tenant_.erase(mine);
  }

  const std::size_t total_max_, of_tenant_max_;
  const std::string what_;
  std::mutex mutex_;
  std::size_t total_ = 0;
  std::map<std::uint32_t, std::size_t> of_tenant_;
};

}  // namespace chalk::server
