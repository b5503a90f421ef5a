#include "adapters/network/supply.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "adapters/network/flows.h"
#include "adapters/network/links.h"
#include "adapters/network/namespaces.h"

namespace chalk::network {
namespace {

constexpr std::size_t kDoomedMax = 64;  // more do not wait for a pause

}  // namespace

Supply::Supply(SupplyOptions options, Netlink netlink, Netlink flows, const std::set<Slot>& taken)
    : options_(std::move(options)), netlink_(std::move(netlink)), flows_(std::move(flows)) {
  const Slot size = Slot{1} << (32 - options_.pool.bits);
  occupied_.assign(size, false);
  for (const Slot slot : {Slot{0}, Slot{1}, size - 1}) occupied_[slot] = true;  // never given out
  for (const Slot slot : taken) {
    if (slot < size) occupied_[slot] = true;
  }
  free_ = static_cast<std::size_t>(std::ranges::count(occupied_, false));
  if (!taken.empty()) cursor_ = (*taken.rbegin() + 1) % size;
  thread_ = std::thread([this] { run(); });
}

Supply::~Supply() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

std::string Supply::name_of(Slot slot) const {
  std::array<char, 16> number{};
  (void)std::snprintf(number.data(), number.size(), "%04x", slot);
  return options_.name + '-' + number.data();
}

std::string Supply::path_of(Slot slot) const { return options_.namespaces + '/' + name_of(slot); }

Result<Slot> Supply::take(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  const auto failures_before = make_failures_;
  ++waiting_;
  changed_.notify_all();
  const auto hopeless = [&] {
    return draining_ || stopping_ || make_failures_ != failures_before ||
           (free_ == 0 && !making_ && doomed_.empty() && !destroying_);
  };
  changed_.wait_for(lock, timeout, [&] { return !spares_.empty() || hopeless(); });
  --waiting_;
  if (!spares_.empty() && !draining_) {
    const Slot slot = spares_.front();
    spares_.pop_front();
    taken_at_ = Clock::now();
    changed_.notify_all();
    return slot;
  }
  const std::string where = "network " + options_.name + ": ";
  if (draining_ || stopping_) return fail(Error::Kind::unavailable, where + "is being removed");
  if (make_failures_ != failures_before) {
    return fail(Error::Kind::unavailable, where + counts_.last_failure);
  }
  if (free_ == 0 && !making_ && doomed_.empty() && !destroying_) {
    return fail(Error::Kind::exhausted,
                where + "all " + std::to_string(occupied_.size() - 3) + " addresses of pool " +
                    text_of(options_.pool) + " are in use");
  }
  return fail(Error::Kind::timeout,
              where + "no namespace became ready within " + std::to_string(timeout.count()) +
                  " ms, last failure: " +
                  (counts_.last_failure.empty() ? "none" : counts_.last_failure));
}

void Supply::destroy(Slot slot) {
  const std::lock_guard lock(mutex_);
  doomed_.push_back({slot, {}});
  changed_.notify_all();
}

bool Supply::settle(std::chrono::milliseconds timeout) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return is_settled(); });
}

bool Supply::drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  changed_.notify_all();
  const auto deadline = Clock::now() + timeout;
  if (!changed_.wait_until(lock, deadline, [&] { return !making_; })) return false;
  for (const Slot slot : spares_) doomed_.push_back({slot, {}});
  spares_.clear();
  changed_.notify_all();
  return changed_.wait_until(lock, deadline, [&] { return is_settled(); });
}

Supply::Counts Supply::counts() const {
  const std::lock_guard lock(mutex_);
  Counts result = counts_;
  result.spares = spares_.size();
  result.free = free_;
  return result;
}

bool Supply::is_settled() const {
  const bool stocked = draining_ || spares_.size() >= options_.spare || free_ == 0;
  return !making_ && !destroying_ && doomed_.empty() && stocked;
}

bool Supply::is_quiet() const { return Clock::now() >= taken_at_ + kQuiet; }

// While many start one after another, half of the spares are kept ahead of them.
bool Supply::must_make() const {
  const std::size_t ahead = is_quiet() ? options_.spare : options_.spare / 2;
  return !draining_ && free_ > 0 && spares_.size() < ahead + waiting_ &&
         Clock::now() >= make_not_before_;
}

bool Supply::can_destroy() const {
  return !doomed_.empty() && Clock::now() >= doomed_.front().not_before &&
         (draining_ || free_ == 0 || is_quiet() || doomed_.size() > kDoomedMax);
}

// Making comes first: it is much faster than destroying, which nobody waits for as long as there are
// free addresses.
void Supply::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (must_make()) {
      make_one(lock);
    } else if (can_destroy()) {
      destroy_some(lock);
    } else if (!doomed_.empty() || make_not_before_ > Clock::now() || !is_quiet()) {
      changed_.wait_for(lock, kQuiet);
    } else {
      changed_.wait(lock);
    }
  }
}

Slot Supply::next_free() {
  while (occupied_[cursor_]) cursor_ = (cursor_ + 1) % static_cast<Slot>(occupied_.size());
  return cursor_;
}

void Supply::make_one(std::unique_lock<std::mutex>& lock) {
  const Slot slot = next_free();
  occupied_[slot] = true;
  --free_;
  cursor_ = (cursor_ + 1) % static_cast<Slot>(occupied_.size());
  making_ = true;
  lock.unlock();
  auto made = make(slot);
  lock.lock();
  making_ = false;
  if (made) {
    ++counts_.made;
    spares_.push_back(slot);
  } else {
    ++make_failures_;
    failed(made.error());
    make_not_before_ = Clock::now() + kPause;
    doomed_.push_back({slot, {}});  // whatever there is of it
  }
  changed_.notify_all();
}

// All that are due, because forgetting flows costs as much for many as for one.
void Supply::destroy_some(std::unique_lock<std::mutex>& lock) {
  std::vector<Slot> slots;
  while (slots.size() < kDoomedMax && !doomed_.empty() && Clock::now() >= doomed_.front().not_before) {
    slots.push_back(doomed_.front().slot);
    doomed_.pop_front();
  }
  destroying_ = true;
  lock.unlock();
  std::vector<Result<void>> gone;
  for (const Slot slot : slots) gone.push_back(unmake(slot));
  forget(slots);
  lock.lock();
  destroying_ = false;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (!gone[i]) {
      failed(gone[i].error());
      doomed_.push_back({slots[i], Clock::now() + kPause});
    } else if (is_for_sandboxes(slots[i])) {
      occupied_[slots[i]] = false;
      ++free_;
    }
  }
  changed_.notify_all();
}

bool Supply::is_for_sandboxes(Slot slot) const { return slot >= 2 && slot + 1 < occupied_.size(); }

void Supply::failed(const Error& error) {
  ++counts_.failures;
  counts_.last_failure = error.message;
}

Result<void> Supply::make(Slot slot) {
  const auto name = name_of(slot);
  const auto address = address_of(slot);
  auto inside = make_namespace(path_of(slot));
  if (!inside) return std::unexpected(inside.error());
  const auto hardware = hardware_address(address);
  auto done =
      make_pair(netlink_, name, "eth0", inside->descriptor.get(), hardware, options_.mtu, kLinkGroup);
  if (!done) return done;
  const auto index = link_index(name);
  if (!index) return std::unexpected(index.error());
  // The host learns no neighbour but the one that the route leads to, and routes by no wish of the
  // sender.
  const auto ipv4 = "/proc/sys/net/ipv4/conf/" + name;
  done = write_setting(ipv4 + "/arp_filter", "1");
  if (done) done = write_setting(ipv4 + "/accept_source_route", "0");
  if (done) done = write_setting(ipv4 + "/forwarding", "1");
  if (done) {
    done = write_setting("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6", "1", true);
  }
  if (done) done = set_up(netlink_, *index);
  if (done) done = add_neighbour(netlink_, *index, address, hardware);
  if (done) done = add_host_route(netlink_, *index, address, options_.gateway);
  if (done) done = set_up(inside->netlink, kLoopbackIndex);
  if (done) done = add_address(inside->netlink, kPeerIndex, address, address, options_.pool.bits);
  if (done) done = set_up(inside->netlink, kPeerIndex);
  if (done) done = add_default_route(inside->netlink, kPeerIndex, options_.gateway);
  return done;
}

Result<void> Supply::unmake(Slot slot) {
  auto gone = delete_link(netlink_, name_of(slot));
  if (!gone && gone.error().kind != Error::Kind::not_found) return gone;
  return drop_namespace(path_of(slot));
}

void Supply::forget(const std::vector<Slot>& slots) {
  std::set<Address> addresses;
  for (const Slot slot : slots) addresses.insert(address_of(slot));
  const auto forgotten = forget_flows(flows_, addresses);
  if (forgotten) return;
  // They end by themselves in the end. A kernel that cannot do it would never get further here.
  const std::lock_guard lock(mutex_);
  failed(forgotten.error());
}

}  // namespace chalk::network
