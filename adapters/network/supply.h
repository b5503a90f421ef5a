// Namespaces in stock. A slot is an address of the pool with the namespace and the links that carry
// its number. A thread makes spares ahead and destroys what came back, in pauses between starts; an address is given out again
// only after everything of it is gone, and as late as possible, so that packets of an old connection
// do not meet a new sandbox. A failed step is tried again after a pause, and counted.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/netlink.h"

namespace chalk::network {

using Slot = std::uint32_t;  // its address is the pool's first one plus this

struct SupplyOptions {
  std::string name;
  Range pool;
  Address gateway = 0;
  std::string namespaces;  // folder
  std::uint32_t mtu = 1500;
  std::size_t spare = 4;
};

class Supply {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPause{1};  // before a failed step is tried again
  // After take() nothing is done ahead for so long: a sandbox starts in about this time, and the kernel
  // works as long on a namespace as it costs to wait for it.
  static constexpr std::chrono::milliseconds kQuiet{250};

  // `taken`: slots that an earlier process left; they stay as they are.
  // `flows`: of NETLINK_NETFILTER.
  Supply(SupplyOptions options, Netlink netlink, Netlink flows, const std::set<Slot>& taken);
  ~Supply();  // leaves everything that is made
  Supply(const Supply&) = delete;
  Supply& operator=(const Supply&) = delete;

  std::string name_of(Slot slot) const;  // of link and namespace
  std::string path_of(Slot slot) const;
  Address address_of(Slot slot) const { return options_.pool.first + slot; }

  // A namespace, ready. Error::exhausted: no address is free or becomes free by a destruction.
  Result<Slot> take(std::chrono::milliseconds timeout);
  void destroy(Slot slot);  // one that was taken, in the background
  bool settle(std::chrono::milliseconds timeout) const;
  // Destroys the spares too and makes no more; false after the timeout.
  bool drain(std::chrono::milliseconds timeout);

  struct Counts {
    std::size_t spares = 0;
    std::size_t free = 0;  // addresses, spares not counted
    std::uint64_t made = 0;
    std::uint64_t failures = 0;
    std::string last_failure;
  };
  Counts counts() const;

 private:
  struct Doomed {
    Slot slot = 0;
    Clock::time_point not_before;
  };

  void run();
  void make_one(std::unique_lock<std::mutex>& lock);
  void destroy_some(std::unique_lock<std::mutex>& lock);
  Result<void> make(Slot slot);
  Result<void> unmake(Slot slot);  // but for its flows
  void forget(const std::vector<Slot>& slots);  // their flows
  void failed(const Error& error);      // with mutex_
  bool must_make() const;               // with mutex_
  bool is_quiet() const;                // with mutex_
  bool can_destroy() const;             // with mutex_
  bool is_settled() const;              // with mutex_
  Slot next_free();                     // with mutex_; there is one
  bool is_for_sandboxes(Slot slot) const;

  const SupplyOptions options_;
  Netlink netlink_;  // of the thread
  Netlink flows_;    // of the thread

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<bool> occupied_;  // by slot: spare, taken, being made or destroyed
  std::size_t free_ = 0;
  Slot cursor_ = 2;
  std::deque<Slot> spares_;
  std::deque<Doomed> doomed_;
  std::size_t waiting_ = 0;
  bool making_ = false;
  bool destroying_ = false;
  bool draining_ = false;
  bool stopping_ = false;
  Clock::time_point make_not_before_;
  Clock::time_point taken_at_;  // the last time
  Counts counts_;
  std::uint64_t make_failures_ = 0;
  std::thread thread_;
};

}  // namespace chalk::network
