#include "sim/plan/plan.h"

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>

#include "sim/simgrid/isolated.h"

namespace chalk::sim {
namespace {

class Search {
 public:
  Search(const PlanQuestion& question, const PlanRun& run, const PlanProgress& progress,
         const std::atomic<bool>* stop, const Condition& condition)
      : question_(question), run_(run), progress_(progress), stop_(stop), condition_(condition) {
    std::size_t rounds = 2;
    for (std::int64_t span = question.high - question.low; span > 0; span /= 2) ++rounds;
    expected_ = (rounds + 2) * question.seeds.size();
  }

  PlanResult find() {
    // Upwards in doubling steps: the dear runs are those with too little, and the answer is often
    // near the low end of a generous range.
    std::int64_t fails = question_.low - 1;
    std::int64_t holds = question_.high + 1;
    for (std::int64_t step = 1, value = question_.low;; step *= 2) {
      const std::optional<bool> met = meets(value);
      if (!met) break;
      if (*met) {
        holds = value;
        break;
      }
      fails = value;
      if (value == question_.high) break;
      value = std::min(question_.high, value + step);
    }
    while (holds <= question_.high && holds - fails > 1) {
      const std::int64_t middle = fails + (holds - fails) / 2;
      const std::optional<bool> met = meets(middle);
      if (!met) break;
      (*met ? holds : fails) = middle;
    }
    const bool known = holds - fails == 1;
    if (known && holds <= question_.high) look_around(holds);
    PlanResult plan = result(known ? holds : question_.high + 1);
    if (!known && holds <= question_.high) {
      plan.notes.push_back(question_.knob + "=" + std::to_string(holds) +
                           " meets it; whether less does was not known yet.");
    }
    return plan;
  }

 private:
  bool stopped() const { return stop_ != nullptr && stop_->load(); }

  // Nothing: it was interrupted before that was known.
  std::optional<bool> meets(std::int64_t value) {
    const PlanPoint* point = at(value);
    if (point == nullptr) return std::nullopt;
    return point->satisfied == question_.seeds.size();
  }

  // Runs all seeds of one value, each in a process of its own. None, where that was interrupted: a
  // run that was cut short has good figures, since its queues have not grown yet.
  const PlanPoint* at(std::int64_t value) {
    if (const auto known = points_.find(value); known != points_.end()) return &known->second;
    if (stopped()) return nullptr;
    if (progress_) progress_(done_, expected_, value);
    std::vector<std::function<std::string()>> bodies;
    for (const std::uint64_t seed : question_.seeds) {
      bodies.push_back([this, value, seed] { return json_text(to_json(run_(value, seed))); });
    }
    const auto outcomes = run_isolated_all(bodies, question_.parallel);
    if (stopped()) return nullptr;
    PlanPoint point;
    point.value = static_cast<double>(value);
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      if (!outcomes[i]) {
        throw std::runtime_error("the run with " + question_.knob + "=" + std::to_string(value) +
                                 " and seed " + std::to_string(question_.seeds[i]) +
                                 " failed: " + outcomes[i].error());
      }
      const Result result = result_from_json(*outcomes[i]);
      const double metric = lookup_metric(result, condition_.metric).value_or(0);
      if (has_samples(result, condition_.metric)) point.metrics.push_back(metric);
      point.not_begun = std::max(point.not_begun, result.not_begun);
      const bool holds = condition_.holds(metric);
      const std::string unfit = why_unfit(result, holds);
      if (!unfit.empty()) point.unfit.push_back(unfit);
      if (unfit.empty() && holds) ++point.satisfied;
      if (i == 0) references_.emplace(value, result);
    }
    done_ += outcomes.size();
    return &points_.emplace(value, std::move(point)).first->second;
  }

  // A fleet that breaks what must hold, or serves nobody, is no answer however good its figure. Where
  // that is not good enough by itself, assertions decide nothing.
  std::string why_unfit(const Result& result, bool holds) const {
    const std::string seed = "with seed " + std::to_string(result.seed) + " ";
    if (!result.broken.empty()) return seed + "an invariant is broken: " + result.broken[0];
    if (!has_samples(result, condition_.metric)) {
      return seed + "there is nothing to measure " + condition_.metric + " of";
    }
    for (const Assertion& assertion : result.assertions) {
      if (holds && !assertion.passed) return seed + "the scenario's assertion " + assertion.text + " fails";
    }
    return "";
  }

  // One below and some above the answer: for the picture, and to see whether more ever harms.
  void look_around(std::int64_t answer) {
    std::vector<std::int64_t> around = {answer - 1, answer + 1,
                                        answer + std::max<std::int64_t>(2, answer / 4),
                                        answer + std::max<std::int64_t>(3, answer / 2)};
    for (const std::int64_t value : around) {
      if (value >= question_.low && value <= question_.high) at(value);
    }
  }

  PlanResult result(std::int64_t holds) {
    PlanResult plan;
    plan.knob = question_.knob;
    plan.condition = question_.condition;
    plan.seeds = question_.seeds;
    plan.found = holds <= question_.high;
    plan.chosen = static_cast<double>(holds);
    plan.low = static_cast<double>(question_.low);
    plan.high = static_cast<double>(question_.high);
    plan.interrupted = stopped();
    for (const auto& [value, point] : points_) {
      if (plan.found && value > holds && point.satisfied < question_.seeds.size()) {
        plan.notes.push_back(
            question_.knob + "=" + std::to_string(value) +
            " fails although it is more: either that is chance, which more seeds would tell, or "
            "more is not better for " + condition_.metric + ", and the answer is no threshold.");
      }
      plan.points.push_back(point);
    }
    const auto reference = references_.find(plan.found ? holds : question_.high);
    if (reference != references_.end()) plan.reference = reference->second;
    return plan;
  }

  const PlanQuestion& question_;
  const PlanRun& run_;
  const PlanProgress& progress_;
  const std::atomic<bool>* stop_;
  const Condition& condition_;
  std::map<std::int64_t, PlanPoint> points_;
  std::map<std::int64_t, Result> references_;
  std::size_t done_ = 0;
  std::size_t expected_ = 0;
};

}  // namespace

PlanResult plan(const PlanQuestion& question, const PlanRun& run, const PlanProgress& progress,
                const std::atomic<bool>* stop) {
  for (const char* equality : {"==", "!="}) {
    if (question.condition.find(equality) == std::string::npos) continue;
    throw std::runtime_error("--until: found \"" + question.condition +
                             "\", expected METRIC<=NUMBER, also <, >= and >: the search takes "
                             "more to be better, which " + equality + " is not");
  }
  const auto condition = parse_condition(question.condition);
  if (!condition) throw std::runtime_error("--until: " + condition.error());
  if (question.low > question.high) {
    throw std::runtime_error("--range: found " + std::to_string(question.low) + ":" +
                             std::to_string(question.high) + ", expected LO:HI with LO <= HI");
  }
  return Search(question, run, progress, stop, *condition).find();
}

}  // namespace chalk::sim
