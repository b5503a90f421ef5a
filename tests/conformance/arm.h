// What carries out the orders of a node's machine and says what became of them. There are two: the
// simulator's world and an agent's parts over runsc. The bodies in node_test.cc run against either,
// so what the machine is told in a simulation is what it is told by a real node.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "model/node/node.h"

namespace chalk::conformance {

enum class Program {
  runs,         // until it is killed
  ends,         // by itself, at once
  cannot_start  // the runtime says no
};

class Arm {
 public:
  virtual ~Arm() = default;

  virtual StartOrder order(std::uint64_t number, Program program) = 0;
  // The order has come to the node; its machine is not told by this.
  virtual void accepted(const StartOrder&) {}
  // StartSandbox, KillSandbox, PullLayers, CancelPull, EvictLayers, Scrub.
  virtual void obey(const node::Effect& effect) = 0;
  // The next thing that is to be told to the machine; none when nothing came in time.
  virtual std::optional<node::Event> next(Duration wait) = 0;
  virtual Time now() = 0;

  // ---- what goes wrong
  virtual void break_registry(bool broken) = 0;
  virtual void slow_registry(bool slow) = 0;  // so slow that no layer comes meanwhile
  virtual void end(SandboxId sandbox) = 0;  // its process, by itself; also while the agent is away
  virtual void agent_goes() = 0;            // what it had not told yet is lost
  // Over the same data; `state` is what its log says. Resumed is the last of what it tells then.
  virtual void agent_returns(const node::State& state) = 0;

  // ---- the truth
  virtual std::set<SandboxId> living() = 0;

  Duration patience = seconds(60);  // for anything to come
};

struct Made {
  std::unique_ptr<Arm> arm;  // none: see why_not
  std::string why_not;          // what the machine lacks; a fault of ours is thrown
};
Made simulated_arm();
Made real_arm(bool small_disk);  // small: no image fits on it

}  // namespace chalk::conformance
