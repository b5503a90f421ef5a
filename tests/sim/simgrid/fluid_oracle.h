// What the resource model should say, computed the slow way and without SimGrid: weighted max-min
// fair sharing by progressive filling, in long double, over any set of capacities.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

namespace chalk::sim::oracle {

struct Work {
  std::uint64_t key = 0;
  std::vector<int> through;  // indices of capacities
  long double amount = 0;
  long double weight = 1;
  long double cap = std::numeric_limits<long double>::infinity();
};

class Fluid {
 public:
  explicit Fluid(std::vector<long double> capacities) : capacities_(std::move(capacities)) {}

  long double now() const { return now_; }
  bool idle() const { return works_.empty(); }
  void start(Work work) { works_.push_back(std::move(work)); }
  void remove(std::uint64_t key) {
    std::erase_if(works_, [&](const Work& work) { return work.key == key; });
  }
  void set_capacity(int index, long double value) { capacities_[index] = value; }

  long double next_completion() const {
    const std::vector<long double> rates = share();
    long double least = std::numeric_limits<long double>::infinity();
    for (std::size_t i = 0; i < works_.size(); ++i) {
      if (rates[i] > 0) least = std::min(least, works_[i].amount / rates[i]);
    }
    return now_ + least;
  }

  // Moves to `until`, which is not beyond the next completion; the keys of what ended.
  std::vector<std::uint64_t> run_to(long double until) {
    const std::vector<long double> rates = share();
    std::vector<std::uint64_t> ended;
    for (std::size_t i = 0; i < works_.size(); ++i) {
      works_[i].amount -= rates[i] * (until - now_);
      if (works_[i].amount <= rates[i] * 0.5e-9L) ended.push_back(works_[i].key);
    }
    now_ = until;
    for (const std::uint64_t key : ended) remove(key);
    return ended;
  }

 private:
  // Raises every rate in proportion to its weight until a cap or a capacity holds it.
  std::vector<long double> share() const {
    std::vector<long double> rates(works_.size(), 0), left = capacities_;
    std::vector<bool> held(works_.size(), false);
    while (true) {
      std::vector<long double> weights(left.size(), 0);
      for (std::size_t i = 0; i < works_.size(); ++i) {
        if (held[i]) continue;
        for (const int at : works_[i].through) weights[at] += works_[i].weight;
      }
      long double step = std::numeric_limits<long double>::infinity();
      for (std::size_t at = 0; at < left.size(); ++at) {
        if (weights[at] > 0) step = std::min(step, left[at] / weights[at]);
      }
      for (std::size_t i = 0; i < works_.size(); ++i) {
        if (!held[i]) step = std::min(step, (works_[i].cap - rates[i]) / works_[i].weight);
      }
      if (step == std::numeric_limits<long double>::infinity()) return rates;
      for (std::size_t i = 0; i < works_.size(); ++i) {
        if (held[i]) continue;
        rates[i] += step * works_[i].weight;
        for (const int at : works_[i].through) left[at] -= step * works_[i].weight;
      }
      for (std::size_t i = 0; i < works_.size(); ++i) {
        if (held[i]) continue;
        held[i] = rates[i] >= works_[i].cap * (1 - 1e-15L);
        for (const int at : works_[i].through) {
          if (left[at] <= capacities_[at] * 1e-15L) held[i] = true;
        }
      }
    }
  }

  std::vector<long double> capacities_;
  std::vector<Work> works_;
  long double now_ = 0;
};

}  // namespace chalk::sim::oracle
