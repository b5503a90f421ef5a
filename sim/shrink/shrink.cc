#include "sim/shrink/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <vector>

#include "sim/shrink/record.h"
#include "sim/shrink/simpler.h"

namespace chalk::sim {
namespace {

using Pointer = Tree::json_pointer;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Calls `visit` with the place of every node, the outer before the inner.
template <class Visit>
void walk(const Tree& tree, const Pointer& at, Visit&& visit) {
  visit(at, tree);
  if (tree.is_object()) {
    for (const auto& [key, value] : tree.items()) walk(value, at / key, visit);
  } else if (tree.is_array()) {
    for (std::size_t i = 0; i < tree.size(); ++i) walk(tree[i], at / i, visit);
  }
}

bool is_zero(const Tree& map, const char* key) {
  if (!map.contains(key)) return true;
  const Tree& value = map.at(key);  // "0", "0s", "0m", ...
  return value.is_string() &&
         value.get<std::string>().find_first_of("123456789") == std::string::npos;
}

// Whether everything could end, were there no bug: faults end, somebody ends each sandbox, and
// there are nodes. Else work that is left undone would say nothing.
bool can_finish(const Tree& tree) {
  const auto each = [&](const Tree& map, const char* key, auto&& good) {
    if (!map.contains(key) || !map.at(key).is_array()) return true;
    return std::all_of(map.at(key).begin(), map.at(key).end(), good);
  };
  return each(tree, "faults", [](const Tree& fault) { return !is_zero(fault, "lasts"); }) &&
         each(tree, "pools",
              [](const Tree& pool) {
                return pool.contains("nodes_max") || !is_zero(pool, "nodes");
              }) &&
         each(tree, "workload", [&](const Tree& section) {
           return each(section, "arrivals", [](const Tree& arrival) {
             return !arrival.contains("sandbox") || !is_zero(arrival, "runs");
           });
         });
}

class Shrinker {
 public:
  Shrinker(std::string name, const ShrinkOptions& options,
           const std::function<void(const ShrinkProgress&)>& progress,
           const std::atomic<bool>* stop)
      : name_(std::move(name)),
        options_(options),
        progress_(progress),
        stop_(stop),
        began_(now()) {}

  ShrinkResult shrink(const std::string& text) {
    ShrinkResult result;
    best_ = tree_of(name_, text);
    result.before = size_of(best_);
    result.failure = first_failure(text);
    list_arrivals(text, result);
    shorten_the_end();
    while (!over()) {
      const Tree before = best_;
      leave_out_elements();
      leave_out_keys();
      make_smaller();
      make_alike();
      if (best_ == before && !over()) {
        result.complete = true;
        break;
      }
    }
    if (!what_.empty()) result.failure.what = what_;
    result.tree = best_;
    result.after = size_of(best_);
    result.runs = runs_;
    result.interrupted = !result.complete && stopped();
    return result;
  }

 private:
  Failure first_failure(const std::string& text) {
    step_ = "the case as it is";
    tell();
    const double start = now();
    Trial trial{name_, text, true, options_.trial_seconds_max};
    const TrialResult found = try_all({trial}, 1)[0];
    ++runs_;
    if (!found.readable) throw std::runtime_error(found.failure->what);
    if (!found.failure) {
      throw std::runtime_error(name_ +
                               ": found nothing that fails, expected a scenario that breaks "
                               "an invariant or an assertion, stops, or does not end");
    }
    kind_ = found.failure->kind;
    of_the_end_ = kind_.starts_with("invariant 9") || kind_.starts_with("assert unfinished");
    const double took = now() - start;
    if (kind_ != "no end") {
      limit_ = std::clamp(static_cast<unsigned>(std::ceil(took * 4)) + 5, 5U,
                          options_.trial_seconds_max);
    } else {
      limit_ = std::max(2U, options_.trial_seconds_max / 4);
    }
    return *found.failure;
  }

  void list_arrivals(const std::string& text, ShrinkResult& result) {
    step_ = "arrivals, one by one";
    tell();
    const auto workload = recorded_workload(name_, text, limit_);
    if (!workload) return;
    Tree listed = best_;
    listed["workload"] = *workload;
    const std::uint64_t before = runs_;  // a run that was cut off is not counted
    result.listed = take_first(0, 1, [&](std::size_t) { return std::optional(listed); }) == 0;
    result.list_passed = !result.listed && runs_ > before;
    if (result.listed) result.before.arrivals = size_of(listed).arrivals;
  }

  // What fails early need not be watched for a day: most runs of a shrink are then much shorter.
  void shorten_the_end() {
    if (of_the_end_) return;
    step_ = "the time after the last arrival";
    const char* drains[] = {"10s", "10m", "1h"};
    take_first(0, std::size(drains), [&](std::size_t i) {
      Tree candidate = best_;
      candidate["drain"] = drains[i];
      return std::optional<Tree>(std::move(candidate));
    });
  }

  bool stopped() const { return stop_ != nullptr && stop_->load(); }
  bool over() const { return stopped() || now() - began_ > options_.seconds_max; }
  void tell() {
    if (progress_) progress_({step_, runs_, size_of(best_)});
  }

  // Makes the candidates from `from` to `count` one after the other and takes the first that fails
  // in the same way; its index, or `count`. As many are run at a time as there are processes. A
  // candidate is made of the best tree so far; nothing where it makes no sense any more.
  using Make = std::function<std::optional<Tree>(std::size_t)>;
  std::size_t take_first(std::size_t from, std::size_t count, const Make& make) {
    while (from < count && !over()) {
      std::vector<Trial> trials;
      std::vector<std::pair<std::size_t, Tree>> candidates;
      for (; from < count && trials.size() < options_.parallel; ++from) {
        std::optional<Tree> candidate = make(from);
        if (!candidate || (of_the_end_ && !may_be_judged(*candidate))) continue;
        const std::string text = to_yaml(*candidate);
        if (!tried_.insert(text).second) continue;
        trials.push_back({name_, text, kind_ == "two digests", limit_});
        candidates.emplace_back(from, std::move(*candidate));
      }
      if (trials.empty()) continue;
      const auto results = try_all(trials, options_.parallel);
      if (stopped()) break;
      runs_ += results.size();
      for (std::size_t i = 0; i < results.size(); ++i) {
        if (!results[i].failure || results[i].failure->kind != kind_) continue;
        best_ = std::move(candidates[i].second);
        what_ = results[i].failure->what;
        tell();
        return candidates[i].first;
      }
      tell();
    }
    return count;
  }
  bool may_be_judged(const Tree& candidate) const {
    const auto drain = [](const Tree& tree) {
      return tree.contains("drain") ? tree.at("drain") : Tree("24h");
    };
    return can_finish(candidate) && drain(candidate) == drain(best_);
  }
  // Every candidate once, each made of what those before it left.
  void take_each(std::size_t count, const Make& make) {
    for (std::size_t at = 0; at < count && !over();) at = take_first(at, count, make) + 1;
  }

  void leave_out_elements() {
    std::vector<std::pair<std::size_t, Pointer>> lists;
    walk(best_, Pointer(), [&](const Pointer& at, const Tree& tree) {
      if (tree.is_array() && !tree.empty()) lists.emplace_back(tree.size(), at);
    });
    // The longest first: the runs that follow are the shorter for it.
    std::stable_sort(lists.begin(), lists.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [size, at] : lists) {
      if (best_.contains(at) && best_.at(at).is_array()) shorten(at);
    }
  }

  void shorten(const Pointer& at) {
    step_ = at.to_string();
    for (std::size_t chunk = best_.at(at).size(); chunk > 0; chunk /= 2) {
      for (std::size_t from = 0; from < best_.at(at).size() && !over();) {
        const std::size_t count = (best_.at(at).size() - from + chunk - 1) / chunk;
        from += chunk * take_first(0, count, [&](std::size_t i) {
                  Tree candidate = best_;
                  Tree& list = candidate.at(at);
                  const auto first = list.begin() + static_cast<std::ptrdiff_t>(from + i * chunk);
                  const std::size_t size = std::min(chunk, list.size() - from - i * chunk);
                  list.erase(first, first + static_cast<std::ptrdiff_t>(size));
                  return std::optional<Tree>(std::move(candidate));
                });
      }
    }
  }

  std::vector<Pointer> places() const {
    std::vector<Pointer> out;
    walk(best_, Pointer(), [&](const Pointer& at, const Tree&) {
      if (!at.empty() && at.to_string() != "/shows" && at.to_string() != "/seed") out.push_back(at);
    });
    return out;
  }

  void leave_out_keys() {
    step_ = "keys";
    const std::vector<Pointer> all = places();
    take_each(all.size(), [&](std::size_t i) -> std::optional<Tree> {
      const Pointer map = all[i].parent_pointer();
      if (!best_.contains(all[i]) || !best_.at(map).is_object()) return {};
      Tree candidate = best_;
      candidate.at(map).erase(all[i].back());
      return candidate;
    });
  }

  void make_smaller() {
    step_ = "numbers";
    for (const Pointer& at : places()) {
      for (bool again = true; again && !over() && best_.contains(at);) {
        const Tree value = best_.at(at);
        std::vector<Tree> smaller;
        if (value.is_object() && value.contains("mean")) smaller.push_back(value.at("mean"));
        if (value.is_string()) {
          for (const std::string& word : simpler_words(value)) smaller.push_back(word);
        }
        const std::size_t taken = take_first(0, smaller.size(), [&](std::size_t i) {
          Tree candidate = best_;
          candidate.at(at) = smaller[i];
          return std::optional<Tree>(std::move(candidate));
        });
        again = taken < smaller.size();
      }
    }
  }

  // Arrivals that could as well be of the first one's tenant, image or function.
  void make_alike() {
    step_ = "names";
    const std::set<std::string> names = {"call", "sandbox", "image", "tenant"};
    std::map<std::string, std::string> first;
    std::vector<std::pair<Pointer, std::string>> others;
    walk(best_, Pointer(), [&](const Pointer& at, const Tree& value) {
      if (at.empty() || !value.is_string() || !names.contains(at.back())) return;
      const auto [known, is_new] = first.emplace(at.back(), value.get<std::string>());
      if (!is_new && known->second != value) others.emplace_back(at, known->second);
    });
    take_each(others.size(), [&](std::size_t i) {
      Tree candidate = best_;
      candidate.at(others[i].first) = others[i].second;
      return std::optional<Tree>(std::move(candidate));
    });
  }

  std::string name_;
  const ShrinkOptions& options_;
  const std::function<void(const ShrinkProgress&)>& progress_;
  const std::atomic<bool>* stop_;
  double began_;
  Tree best_;
  std::string kind_, what_;
  bool of_the_end_ = false;  // it is judged when all should be done
  unsigned limit_ = 60;
  std::uint64_t runs_ = 0;
  std::string step_;
  std::set<std::string> tried_;
};

}  // namespace

ShrinkSize size_of(const Tree& tree) {
  ShrinkSize size;
  const std::string text = to_yaml(tree);
  size.lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  if (const auto faults = tree.find("faults"); faults != tree.end()) size.faults = faults->size();
  if (const auto workload = tree.find("workload"); workload != tree.end() && workload->is_array()) {
    for (const Tree& section : *workload) {
      if (section.is_object() && section.contains("arrivals")) {
        size.arrivals += section.at("arrivals").size();
      }
    }
  }
  return size;
}

ShrinkResult shrink(const std::string& name, const std::string& text, const ShrinkOptions& options,
                    const std::function<void(const ShrinkProgress&)>& progress,
                    const std::atomic<bool>* stop) {
  return Shrinker(name, options, progress, stop).shrink(text);
}

}  // namespace chalk::sim
