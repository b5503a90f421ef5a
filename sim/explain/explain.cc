#include "sim/explain/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "model/core/print.h"

namespace chalk::sim {
namespace {

constexpr std::size_t kTextMax = 500;

std::string shortened(std::string text) {
  if (text.size() > kTextMax) text = text.substr(0, kTextMax) + "...";
  return text;
}

std::string machine_of(const ReplayEvent& event) {
  if (event.root == Root::control) return "control plane";
  return fmt::format("{} {}", event.root == Root::gateway ? "gateway" : "node", event.index);
}

std::string event_text(const ReplayEvent& event) {
  return std::visit([](const auto* one) { return to_text(*one); }, event.event);
}

std::vector<std::string> effect_texts(const ReplayEffects& effects) {
  std::vector<std::string> out;
  std::visit(
      [&](const auto* all) {
        for (const auto& one : *all) out.push_back(to_text(one));
      },
      effects);
  return out;
}

void add(std::vector<Decision>& all, std::vector<Decision>&& more) {
  all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

class Explainer final : public ReplayWatcher {
 public:
  Explainer(std::uint64_t number, Explanation& out) : number_(number), out_(out) {}

  void before(const ReplayEvent& event, const Machines& machines) override {
    if (event.number != number_) return;
    if (event.root == Root::control) control_ = machines.control();
    if (event.root == Root::gateway) gateway_ = machines.gateway(event.index);
  }

  bool after(const ReplayEvent& event, const Machines& machines,
             const ReplayEffects& effects) override {
    if (event.number != number_) return true;
    found_ = true;
    out_.number = number_;
    out_.at = event.at;
    out_.machine = machine_of(event);
    out_.event = shortened(event_text(event));
    for (std::string& text : effect_texts(effects)) out_.effects.push_back(shortened(text));
    if (control_) {
      const auto& taken = *std::get<const control::Event*>(event.event);
      const auto& said = *std::get<const std::vector<control::Effect>*>(effects);
      add(out_.decisions, explain_scaling(*control_, event.at, taken));
      add(out_.decisions, explain_placements(*control_, machines.control(), event.at, taken, said));
      add(out_.decisions, explain_supply(*control_, machines.control(), event.at, said));
      add(out_.decisions, explain_answers(said));
    } else if (gateway_) {
      add(out_.decisions,
          explain_calls(*gateway_, *std::get<const std::vector<gateway::Effect>*>(effects)));
    } else {
      add(out_.decisions, explain_node(*std::get<const node::Event*>(event.event),
                                       *std::get<const std::vector<node::Effect>*>(effects)));
    }
    return false;
  }
  bool found() const { return found_; }

 private:
  std::uint64_t number_;
  Explanation& out_;
  std::optional<control::Control> control_;
  std::optional<gateway::Gateway> gateway_;
  bool found_ = false;
};

class Finder final : public ReplayWatcher {
 public:
  Finder(const std::string& text, std::size_t most, std::vector<Found>& out)
      : text_(text), most_(most), out_(out) {}
  void before(const ReplayEvent&, const Machines&) override {}
  bool after(const ReplayEvent& event, const Machines&, const ReplayEffects& effects) override {
    std::string where;
    if (const std::string told = event_text(event); told.contains(text_)) where = told;
    if (where.empty()) {
      for (const std::string& told : effect_texts(effects)) {
        if (where.empty() && told.contains(text_)) where = told;
      }
    }
    if (!where.empty()) {
      out_.push_back({event.number, event.at, machine_of(event), shortened(where)});
    }
    return out_.size() < most_;
  }

 private:
  const std::string& text_;
  std::size_t most_;
  std::vector<Found>& out_;
};

}  // namespace

Explanation explain(const std::string& path, std::uint64_t number,
                    const std::function<void(std::uint64_t)>& progress) {
  Explanation out;
  Explainer explainer(number, out);
  const ReplayReport report = replay(path, false, progress, &explainer);
  out.header = report.header;
  out.same = report.same;
  out.difference = report.difference;
  if (!explainer.found()) {
    throw std::runtime_error(
        report.same
            ? fmt::format("{}: --event: found {}, expected 1 to {}", path, number, report.events)
            : fmt::format(
                  "{}: this program decides differently than the log says, before event {}: "
                  "{}",
                  path, number, report.difference));
  }
  return out;
}

std::vector<Found> find_events(const std::string& path, const std::string& text, std::size_t most,
                               const std::function<void(std::uint64_t)>& progress) {
  std::vector<Found> out;
  Finder finder(text, most, out);
  replay(path, false, progress, &finder);
  return out;
}

}  // namespace chalk::sim
