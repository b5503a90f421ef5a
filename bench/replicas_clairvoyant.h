// What replicas cost at least when every arrival and service time is known beforehand, but a start
// still takes its time and is paid for.
//
// Two figures. `floor`: the work itself and one start for each replica beyond those at the
// beginning that the work cannot do without; nothing beats it, and perhaps nothing reaches it.
// `least`: the cheapest schedule found in a family that knows the true load: around each moment the
// mean of the calls that would be in service if none waited, plus b standard deviations, over
// windows of 1 to 60 s, and idle replicas kept wherever that costs less than a start; run through a
// queue, the cheapest one whose p99 of the wait is no higher than asked. And with no wait at all
// the exact optimum: a replica for each call at once, idle gaps below a start time bridged.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <queue>
#include <vector>

namespace chalk::bench {

struct Call {
  double at, takes;  // seconds
};
struct Outcome {
  double replica_seconds = 0, p99 = 0, mean = 0, most = 0, turns = 0;
};

inline void waits_of(std::vector<double>& waits, Outcome& out) {
  if (waits.empty()) return;
  for (const double wait : waits) out.mean += wait / static_cast<double>(waits.size());
  auto at = waits.begin() + static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(waits.size()));
  std::nth_element(waits.begin(), at, waits.end());
  out.p99 = *at;
}

class Clairvoyant {
 public:
  Clairvoyant(const std::vector<Call>& calls, double warm, double length, double start)
      : calls_(calls), warm_(warm), length_(length), start_(start) {
    busy_.assign(static_cast<std::size_t>(length) + 1, 0);
    for (const Call& call : calls) spend(call.at, std::min(call.at + call.takes, length));
    no_wait();
    for (const double window : {1., 3., 10., 30., 60.}) {
      for (const double b : {-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0}) tries(window, b);
    }
  }
  double least(double p99) const {
    double best = no_wait_;
    for (const Outcome& one : tried_) {
      if (one.p99 <= p99) best = std::min(best, one.replica_seconds);
    }
    return best;
  }
  double floor() const {
    double work = 0, most = 0;
    const auto from = static_cast<std::size_t>(warm_);
    for (std::size_t i = from; i + 1 < busy_.size(); ++i) work += busy_[i];
    // Over ten start times the work cannot be put off much further: its mean there is needed.
    const auto span = static_cast<std::size_t>(start_ * 10);
    double sum = 0;
    for (std::size_t i = from; i + 1 < busy_.size(); ++i) {
      sum += busy_[i];
      if (i >= from + span) sum -= busy_[i - span];
      if (i + 1 >= from + span) most = std::max(most, sum / static_cast<double>(span));
    }
    return work + start_ * std::max(0.0, most - busy_[from]);
  }
  const std::vector<double>& busy() const { return busy_; }  // calls in service, by second

 private:
  void spend(double from, double to) {
    const auto first = static_cast<std::size_t>(from);
    for (std::size_t s = first; s < busy_.size() && static_cast<double>(s) < to; ++s) {
      const double begin = std::max(from, static_cast<double>(s));
      busy_[s] += std::min(to, static_cast<double>(s + 1)) - begin;
    }
  }

  // Replicas stand in a row; a call takes the lowest free one. Each pays for its calls, and between
  // two of them for the gap or for a start, whichever is less.
  void no_wait() {
    struct End {
      double at;
      std::size_t replica;
      bool operator<(const End& other) const { return at > other.at; }
    };
    std::priority_queue<End> ends;
    std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> free;
    std::vector<double> idle_since;
    double sum = 0;
    const auto paid = [&](double from, double to) {
      return std::max(0.0, std::min(to, length_) - std::max(from, warm_));
    };
    for (const Call& call : calls_) {
      for (; !ends.empty() && ends.top().at <= call.at; ends.pop()) {
        idle_since[ends.top().replica] = ends.top().at;
        free.push(ends.top().replica);
      }
      std::size_t replica = idle_since.size();
      if (free.empty()) {
        idle_since.push_back(-start_);
      } else {
        replica = free.top();
        free.pop();
      }
      const double gap = call.at - idle_since[replica];
      sum += paid(call.at - std::min(gap, start_), call.at + call.takes);
      ends.push({call.at + call.takes, replica});
    }
    no_wait_ = sum;
  }

  void tries(double window, double b) {
    std::vector<int> plan(busy_.size());
    const auto half = static_cast<std::ptrdiff_t>(window / 2);
    const auto size = static_cast<std::ptrdiff_t>(busy_.size());
    for (std::ptrdiff_t i = 0; i < size; ++i) {
      double sum = 0;
      const std::ptrdiff_t from = std::max<std::ptrdiff_t>(0, i - half);
      const std::ptrdiff_t to = std::min(size - 1, i + half + 1);
      for (std::ptrdiff_t k = from; k < to; ++k) sum += busy_[static_cast<std::size_t>(k)];
      const double mean = sum / static_cast<double>(std::max<std::ptrdiff_t>(1, to - from));
      const double wanted = std::ceil(mean + b * std::sqrt(mean));
      plan[static_cast<std::size_t>(i)] = std::max(1, static_cast<int>(wanted));
    }
    bridge(plan);
    tried_.push_back(serve(plan));
  }

  // A dip shorter than a start time is not worth a start.
  void bridge(std::vector<int>& plan) const {
    const auto reach = static_cast<std::size_t>(start_);
    std::vector<int> kept = plan;
    for (std::size_t i = 0; i < plan.size(); ++i) {
      const auto here = plan.begin() + static_cast<std::ptrdiff_t>(i);
      const auto left = static_cast<std::ptrdiff_t>(std::min(i, reach));
      const auto right = static_cast<std::ptrdiff_t>(std::min(plan.size() - i, reach + 1));
      // What is planned within a start time on both sides would have to be started again.
      const int before = *std::max_element(here - left, here + 1);
      const int after = *std::max_element(here, here + right);
      kept[i] = std::min(before, after);
    }
    plan = kept;
  }

  Outcome serve(const std::vector<int>& plan) const {
    std::priority_queue<double, std::vector<double>, std::greater<>> ends;
    std::vector<double> waits;
    waits.reserve(calls_.size());
    Outcome out;
    std::size_t head = 0;  // of the calls that wait, next to arrive at `next`
    double paid_until = warm_;
    int owned = plan[static_cast<std::size_t>(warm_)];
    for (std::size_t s = 0; s + 1 < plan.size(); ++s) {
      const double end = static_cast<double>(s + 1);
      double now = static_cast<double>(s);
      while (true) {
        while (!ends.empty() && ends.top() <= now) ends.pop();
        if (head < calls_.size() && calls_[head].at <= now &&
            static_cast<int>(ends.size()) < plan[s]) {
          if (calls_[head].at >= warm_) waits.push_back(now - calls_[head].at);
          ends.push(now + calls_[head].takes);
          ++head;
          continue;
        }
        double next = end;
        if (head < calls_.size() && calls_[head].at > now) next = std::min(next, calls_[head].at);
        if (!ends.empty() && ends.top() > now) next = std::min(next, ends.top());
        if (next >= end) break;
        now = next;
      }
      if (end <= paid_until) continue;
      // A replica that still serves is paid for although it is not planned any more.
      const int have = std::max(plan[s], static_cast<int>(ends.size()));
      out.replica_seconds += have + start_ * std::max(0, plan[s] - owned);
      owned = plan[s];
    }
    for (; head < calls_.size(); ++head) waits.push_back(length_ - calls_[head].at);
    waits_of(waits, out);
    return out;
  }

  const std::vector<Call>& calls_;
  double warm_, length_, start_;
  std::vector<double> busy_;
  double no_wait_ = 0;
  std::vector<Outcome> tried_;
};

}  // namespace chalk::bench
