// A scheduler for tests, and short names for what they send it.
#pragma once
#include <gtest/gtest.h>

#include <variant>

#include "model/core/print.h"
#include "model/scheduler/scheduler.h"

namespace chalk::scheduler {

inline constexpr std::int64_t kGi = std::int64_t{1} << 30;

// A scheduler with shorthand for the events of these tests; slots are written from 1.
class Desk {
 public:
  explicit Desk(Config config = {}) : machine_(config) {}
  Effects send(const Event& event) {
    Effects effects;
    machine_.step({}, event, effects);
    return effects;
  }
  void add(std::uint64_t node, NodeShape shape, std::uint64_t zone = 1, std::uint64_t owner = 0,
           std::uint64_t pool = 1, bool dedicated = false) {
    send(NodeAdded{{node}, shape, {pool}, {zone}, {owner}, dedicated});
  }
  Effect ask(PlaceAsked asked) {
    const Effects effects = send(asked);
    EXPECT_EQ(effects.size(), 1u);
    return effects.front();
  }
  // The node of an ask that must be placed.
  std::uint64_t place(PlaceAsked asked) {
    const Effect effect = ask(asked);
    const auto* placed = std::get_if<Placed>(&effect);
    EXPECT_NE(placed, nullptr) << to_text(effect);
    return placed == nullptr ? 0 : placed->node.value;
  }
  NotPlaced refused(PlaceAsked asked) {
    const Effect effect = ask(asked);
    const auto* no = std::get_if<NotPlaced>(&effect);
    EXPECT_NE(no, nullptr) << to_text(effect);
    return no == nullptr ? NotPlaced{} : *no;
  }
  const State& state() const { return machine_.state(); }

 private:
  Scheduler machine_;
};

inline NodeShape cores(std::int64_t count, std::int32_t gpus = 0, std::int32_t model = 0) {
  NodeShape shape;
  shape.cpu_millicores = count * 1000;
  shape.memory_bytes = count * 4 * kGi;
  shape.disk_bytes = 100 * kGi;
  shape.gpus = gpus;
  shape.gpu_model = model;
  return shape;
}
inline PlaceAsked one(std::uint64_t sandbox, std::int64_t millicores = 1000,
                      std::uint64_t owner = 7) {
  PlaceAsked asked;
  asked.sandbox = {sandbox};
  asked.owner = {owner};
  asked.ask.cpu_millicores = millicores;
  asked.ask.memory_bytes = millicores * kBytesPerMillicore;
  return asked;
}
inline PlaceAsked gpu(std::uint64_t sandbox, std::int32_t gpus, std::int32_t millis,
               std::uint32_t models = 0) {
  PlaceAsked asked = one(sandbox);
  asked.ask.gpus = gpus;
  asked.ask.gpu_millis = millis;
  asked.ask.gpu_models = models;
  return asked;
}

}  // namespace chalk::scheduler
