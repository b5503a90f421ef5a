#include "sim/workload/generate.h"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "model/core/random.h"

namespace chalk::sim {
namespace {

// Purposes of the independent random streams below one seed.
enum Purpose : std::uint64_t { kPace = 11, kContent = 12, kCatalogue = 13, kThink = 14 };

class OpenLoop : public Source {
 public:
  OpenLoop(const Pace& pace, const Work& work, std::uint64_t seed)
      : times_(arrival_times(pace, Random{seed}.stream(kPace).key)),
        content_(content(work, Random{seed}.stream(kCatalogue).key)),
        content_key_(Random{seed}.stream(kContent).key) {
    refill();
  }
  const Catalogue& catalogue() const override { return content_->catalogue(); }
  const Arrival* peek() override { return &batch_[next_]; }
  void pop() override {
    if (++next_ == kBatch) refill();
  }
  bool exhausted() const override { return false; }
  double progress() const override { return 0; }

 private:
  // A batch pays the virtual calls once and lets the processor overlap independent draws.
  static constexpr std::size_t kBatch = 64;

  void refill() {
    std::array<Time, kBatch> at;
    times_->fill(at);
    content_->fill(batch_.data(), kBatch, content_key_, filled_);
    for (std::size_t i = 0; i < kBatch; ++i) batch_[i].at = at[i];
    filled_ += kBatch;
    next_ = 0;
  }

  std::unique_ptr<ArrivalTimes> times_;
  std::unique_ptr<Content> content_;
  std::uint64_t content_key_;
  std::uint64_t filled_ = 0;
  std::size_t next_ = 0;
  std::array<Arrival, kBatch> batch_;
};

class ClosedSource : public Source {
 public:
  ClosedSource(const ClosedLoop& loop, const Requests& requests, std::uint64_t seed)
      : think_(loop.think),
        content_(content(requests, Random{seed}.stream(kCatalogue).key)),
        think_key_(Random{seed}.stream(kThink).key),
        content_key_(Random{seed}.stream(kContent).key),
        clients_(loop.clients) {
    if (loop.clients == 0 || loop.clients == kNoClient) {
      throw std::invalid_argument("a closed loop without clients");
    }
    for (std::uint32_t i = 0; i < loop.clients; ++i) think(i, Time{0});
  }
  const Catalogue& catalogue() const override { return content_->catalogue(); }
  const Arrival* peek() override {
    if (ready_.empty()) return nullptr;
    const Ready& first = ready_.front();
    if (shown_.client != first.client || shown_.at != first.at) {
      shown_ = {};
      std::uint64_t key = random_at(content_key_, first.client);
      content_->fill(&shown_, 1, key, clients_[first.client].asked);
      shown_.at = first.at;
      shown_.client = first.client;
    }
    return &shown_;
  }
  void pop() override {
    if (ready_.empty()) return;
    Client& client = clients_[ready_.front().client];
    client.waiting = true;
    client.asked_at = ready_.front().at;
    ++client.asked;
    std::pop_heap(ready_.begin(), ready_.end());
    ready_.pop_back();
    shown_.client = kNoClient;
  }
  void finished(std::uint32_t number, Time now) override {
    if (number >= clients_.size() || !clients_[number].waiting) return;
    const Time asked = clients_[number].asked_at;
    think(number, now, now == asked ? asked + kAtOnce : now);
  }
  bool exhausted() const override { return false; }
  double progress() const override { return 0; }

 private:
  // Who is refused in the moment of asking, and does not think, would ask for ever in that moment.
  static constexpr Duration kAtOnce = milliseconds(1);

  struct Client {
    std::uint64_t asked = 0;
    Time asked_at;
    bool waiting = false;
  };
  struct Ready {
    Time at;
    std::uint32_t client;
    // The standard heap shows the greatest: the earliest, and of one instant the lowest number.
    bool operator<(const Ready& other) const {
      return at != other.at ? at > other.at : client > other.client;
    }
  };

  void think(std::uint32_t number, Time now, Time earliest = {}) {
    Client& client = clients_[number];
    client.waiting = false;
    std::uint64_t bits = random_at(random_at(think_key_, number), client.asked);
    ready_.push_back({std::max(now + think_.sample(bits), earliest), number});
    std::push_heap(ready_.begin(), ready_.end());
  }

  Distribution think_;
  std::unique_ptr<Content> content_;
  std::uint64_t think_key_;
  std::uint64_t content_key_;
  std::vector<Client> clients_;
  std::vector<Ready> ready_;
  Arrival shown_;
};

}  // namespace

std::unique_ptr<Source> open_loop(const Pace& pace, const Work& work, std::uint64_t seed) {
  return std::make_unique<OpenLoop>(pace, work, seed);
}

std::unique_ptr<Source> closed_loop(const ClosedLoop& loop, const Requests& requests,
                                    std::uint64_t seed) {
  return std::make_unique<ClosedSource>(loop, requests, seed);
}

}  // namespace chalk::sim
