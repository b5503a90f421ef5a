// What a person reads: the answer in words, and the numbers on a terminal.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <string_view>

#include "sim/report/result.h"

namespace chalk::sim {
namespace {

std::string count_text(double n) {
  return n == std::floor(n) && std::abs(n) < 1e15 ? fmt::format("{:L}", static_cast<long long>(n))
                                                  : number_text(n);
}

std::string ms_text(double ms) {
  if (ms >= 60'000) return fmt::format("{:.1f} min", ms / 60'000);
  if (ms >= 1'000) return fmt::format("{:.2f} s", ms / 1'000);
  if (ms >= 10 || ms == 0) return fmt::format("{:.0f} ms", ms);
  return fmt::format("{:.2g} ms", ms);
}

std::string bytes_of(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  while (bytes >= 1000 && unit < 5) {
    bytes /= 1000;
    ++unit;
  }
  return fmt::format("{:.3g} {}", bytes, units[unit]);
}

std::string time_text(double seconds) {
  if (seconds >= 2 * 86'400) return fmt::format("{:.1f} days", seconds / 86'400);
  if (seconds >= 2 * 3'600) return fmt::format("{:.1f} hours", seconds / 3'600);
  if (seconds >= 120) return fmt::format("{:.1f} minutes", seconds / 60);
  return fmt::format("{:.1f} seconds", seconds);
}

double total(const std::map<std::string, std::uint64_t>& counts) {
  double all = 0;
  for (const auto& [name, count] : counts) all += static_cast<double>(count);
  return all;
}

std::string by_name(const std::map<std::string, std::uint64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count_text(static_cast<double>(count)),
                        name);
  }
  return text;
}

// Means, node hours and cost stop at the last arrival; where much comes after it that is said, or
// a reader would take them for those of the whole run.
std::string after_arrivals(const Result& r) {
  constexpr double kLittle = 0.05;
  const bool longer = r.simulated_seconds * (1 - kLittle) > r.arrivals_seconds;
  const bool dearer = r.node_hours_total * (1 - kLittle) > r.node_hours ||
                      r.cost_total * (1 - kLittle) > r.cost;
  if (!longer && !dearer) return "";
  return fmt::format(
      "That is until the last arrival, at {}; the run went on to {}, with {:.1f} node hours and a "
      "cost of {} in all.",
      time_text(r.arrivals_seconds), time_text(r.simulated_seconds), r.node_hours_total,
      number_text(r.cost_total));
}

// Nodes, latency and cost of one run, in sentences.
std::vector<std::string> facts(const Result& r) {
  std::vector<std::string> say;
  const double requests = static_cast<double>(r.requests);
  const double waited = static_cast<double>(r.wait_ms.count);  // not so those refused
  if (requests == 0) {
    say.push_back("No request arrived.");
  } else if (waited == 0) {
    say.push_back(fmt::format("None of {} requests was served.", count_text(requests)));
  } else {
    say.push_back(fmt::format(
        "Of {} requests {}half began service within {}, 99 % within {} and 99.9 % within {}.",
        count_text(requests),
        waited == requests ? "" : fmt::format("{} were served or still wait: ", count_text(waited)),
        ms_text(r.wait_ms.p50), ms_text(r.wait_ms.p99), ms_text(r.wait_ms.p999)));
  }
  if (r.not_begun != 0) {
    say.push_back(fmt::format("{} had not begun by the end: the waits are lower bounds.",
                              count_text(static_cast<double>(r.not_begun))));
  }
  say.push_back(
      fmt::format("{} of them ({:.3g} %) met a cold start; {} sandboxes were started, {:.1f} were "
                  "there on average "
                  "and {:.1f} requests in service.",
                  count_text(static_cast<double>(r.cold_starts)),
                  requests > 0 ? 100 * static_cast<double>(r.cold_starts) / requests : 0,
                  count_text(static_cast<double>(r.replica_starts)), r.replicas_mean, r.busy_mean));
  if (r.shell_starts + r.snapshots_saved != 0) {
    say.push_back(fmt::format("{} were started in a shell that was ready and {} from one of {} snapshots.",
                              count_text(static_cast<double>(r.shell_starts)),
                              count_text(static_cast<double>(r.restored_starts)),
                              count_text(static_cast<double>(r.snapshots_saved))));
  }
  const auto cpu = r.utilisation.find("cpu");
  const auto gpu = r.utilisation.find("gpu");
  std::string use =
      fmt::format("{:.0f} % of the processors and {:.0f} % of the memory were allocated",
                  cpu == r.utilisation.end() ? 0 : cpu->second * 100,
                  r.utilisation.contains("memory") ? r.utilisation.at("memory") * 100 : 0);
  if (gpu != r.utilisation.end() && gpu->second > 0) {
    use += fmt::format(", and {:.1f} GPUs ({:.0f} %)", r.gpu_allocated_mean, gpu->second * 100);
  }
  say.push_back(fmt::format(
      "At most {} nodes ran at once, {:.1f} on average: {:.1f} node hours, {}. {}.",
      count_text(r.nodes_max), r.nodes_mean, r.node_hours,
      r.cost == 0 && r.node_hours > 0 ? "without a price" : "costing " + number_text(r.cost), use));
  if (const std::string rest = after_arrivals(r); !rest.empty()) say.push_back(rest);
  if (!r.refused.empty()) {
    say.push_back(
        fmt::format("{} requests ({:.3g} %) were refused: {}.", count_text(total(r.refused)),
                    100 * total(r.refused) / std::max(1.0, requests), by_name(r.refused)));
  }
  if (!r.failed.empty()) {
    say.push_back(
        fmt::format("{} requests failed: {}.", count_text(total(r.failed)), by_name(r.failed)));
  }
  if (r.image_bytes_pulled + r.image_bytes_from_peers > 0) {
    say.push_back(fmt::format(
        "Nodes pulled {} of images{}; {:.1f} % of the starts found theirs on the node.",
        bytes_of(r.image_bytes_pulled),
        r.image_bytes_from_peers > 0
            ? fmt::format(" from registries and {} from other nodes",
                          bytes_of(r.image_bytes_from_peers))
            : "",
        r.image_hit_ratio * 100));
  }
  return say;
}

}  // namespace

std::string number_text(double value) {
  if (std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

std::string shell_word(const std::string& word) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("-_./:=,+@%").contains(c);
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> answer(const Result& r) {
  std::vector<std::string> say = facts(r);
  for (const Assertion& a : r.assertions) {
    const std::string found =
        a.measured ? "it is " + number_text(a.value) : "there is nothing to measure";
    say.push_back(
        fmt::format("{}: {} ({}).", a.passed ? "Holds" : "DOES NOT HOLD", a.text, found));
  }
  for (const std::string& broken : r.broken) say.push_back("BROKEN: " + broken);
  if (r.interrupted) say.push_back("The run was interrupted: these are the figures until then.");
  for (const std::string& note : r.notes) say.push_back(note);
  return say;
}

std::string confidence_text(const PlanResult& plan) {
  if (!plan.found) return "";
  const auto n = static_cast<double>(plan.seeds.size());
  // With no failure in n trials, the chance of success is above 0.05^(1/n) with 95 % confidence.
  return fmt::format(
      "It held with {} of {} seeds: with 95 % confidence it holds in at least {:.0f} % of such "
      "runs.",
      plan.seeds.size(), plan.seeds.size(), 100 * std::pow(0.05, 1 / n));
}

std::string measured(const PlanResult& plan) {
  const auto condition = parse_condition(plan.condition);
  return condition ? condition->metric : plan.condition;
}

std::vector<std::string> answer(const PlanResult& plan) {
  std::vector<std::string> say;
  if (!plan.found && plan.interrupted) {
    say.push_back(fmt::format("There is no answer yet: the least {} that meets {} was being sought.",
                              plan.knob, plan.condition));
  } else if (!plan.found) {
    std::string tried;
    for (const PlanPoint& point : plan.points) {
      tried += (tried.empty() ? "" : ", ") + number_text(point.value);
    }
    say.push_back(fmt::format(
        "None of the values of {} that were tried ({}) meets {} with every one of {} seeds. More "
        "is taken to be better, so that nothing between them was tried.",
        plan.knob, tried, plan.condition, plan.seeds.size()));
  } else {
    // The figure alone may have been good with less.
    const bool by_figure = std::ranges::all_of(
        plan.points, [](const PlanPoint& point) { return point.unfit.empty(); });
    say.push_back(fmt::format("{} = {} is the least that meets {}{}.", plan.knob,
                              number_text(plan.chosen), plan.condition,
                              by_figure ? "" : " and is fit for use (see below)"));
    say.push_back(confidence_text(plan));
  }
  for (const PlanPoint& point : plan.points) {
    if (point.value != plan.chosen && point.value != plan.chosen - 1) continue;
    const auto [least, most] = std::minmax_element(point.metrics.begin(), point.metrics.end());
    if (least == point.metrics.end()) continue;
    say.push_back(fmt::format("With {} = {}, {} lies between {} and {}.", plan.knob,
                              number_text(point.value), measured(plan), number_text(*least),
                              number_text(*most)));
    if (point.not_begun != 0 && plan.condition.contains("wait_")) {
      say.push_back(fmt::format(
          "Up to {} had not begun by the end of such a run: the waits are lower bounds.",
          count_text(static_cast<double>(point.not_begun))));
    }
  }
  for (const PlanPoint& point : plan.points) {
    if (point.unfit.empty()) continue;
    say.push_back(fmt::format("{} = {} does not count, whatever was measured: {}{}", plan.knob,
                              number_text(point.value), point.unfit[0],
                              point.unfit.size() == 1
                                  ? "."
                                  : fmt::format("; and {} more.", point.unfit.size() - 1)));
  }
  if (plan.interrupted) {
    say.push_back("It was interrupted: values whose runs were cut short count for nothing.");
  }
  say.insert(say.end(), plan.notes.begin(), plan.notes.end());
  return say;
}

std::string summary(const Result& r) {
  std::string text = fmt::format("{}: {}\n\n", r.scenario, r.shows);
  for (const std::string& line : answer(r)) text += fmt::format("  {}\n", line);
  const auto row = [&](const char* name, const Times& t) {
    text += fmt::format("  {:8} {:>10} {:>10} {:>10} {:>10} {:>10}\n", name, ms_text(t.mean),
                        ms_text(t.p50), ms_text(t.p90), ms_text(t.p99), ms_text(t.p999));
  };
  text += fmt::format("\n  {:8} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "", "mean", "p50", "p90",
                      "p99", "p99.9");
  row("wait", r.wait_ms);
  row("total", r.total_ms);
  text += fmt::format(
      "\n  simulated {} in {:.2f} s: {:.3g} requests/s, {:.3g} events/s, {} of memory\n"
      "  seed {}, commit {}, scenario {}, digest {}\n",
      time_text(r.simulated_seconds), r.wall_seconds, r.requests_per_second, r.events_per_second,
      bytes_of(static_cast<double>(r.peak_memory_bytes)), r.seed, r.commit,
      hex_text(r.scenario_hash), hex_text(r.digest));
  return text;
}

std::string plan_summary(const PlanResult& plan) {
  std::string text = "\n";
  for (const std::string& line : answer(plan)) text += fmt::format("  {}\n", line);
  text += fmt::format("\n  {} over {} seeds, by {}:\n", measured(plan), plan.seeds.size(), plan.knob);
  text += fmt::format("  {:>12} {:>12} {:>12} {:>12}  seeds that meet all\n", "value", "least",
                      "mean", "most");
  for (const PlanPoint& point : plan.points) {
    std::string least = "-", most = "-", mean = "-";
    if (!point.metrics.empty()) {
      double sum = 0;
      for (const double m : point.metrics) sum += m;
      least = number_text(*std::min_element(point.metrics.begin(), point.metrics.end()));
      most = number_text(*std::max_element(point.metrics.begin(), point.metrics.end()));
      mean = number_text(sum / static_cast<double>(point.metrics.size()));
    }
    text += fmt::format("  {:>12} {:>12} {:>12} {:>12}  {} of {}{}\n", number_text(point.value),
                        least, mean, most, point.satisfied, plan.seeds.size(),
                        plan.found && point.value == plan.chosen ? "  <- the answer" : "");
  }
  if (plan.reference.scenario.empty()) return text;  // interrupted before any run of it
  text += fmt::format("\nWith {} = {} (seed {}):\n\n", plan.knob,
                      number_text(plan.found ? plan.chosen : plan.high), plan.reference.seed);
  return text + summary(plan.reference);
}

}  // namespace chalk::sim
