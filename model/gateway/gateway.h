// The root of one gateway shard: calls in, dispatches out, and a reliable link to control.
//
// In: calls and their ends, envelopes of control, waking. Out: what functions decides, envelopes to
// control. Demand is a total that only grows, so while control does not answer only the newest of a
// group is kept beyond `reports_max` messages; replicas given back are always delivered.
// Invariant: what control said is taken once and in order, whatever the network does.
#pragma once
#include <cstdint>
#include <map>
#include <variant>
#include <vector>

#include "model/core/link.h"
#include "model/core/machine.h"
#include "model/functions/functions.h"
#include "model/protocol/protocol.h"

namespace chalk::gateway {

struct Config {
  GatewayId gateway;
  std::uint64_t incarnation = 1;
  Duration heartbeat = seconds(1);   // carries acknowledgements; what was lost is sent again
  std::uint32_t reports_max = 1024;  // unacknowledged; beyond it a newer demand replaces an older
  functions::Config functions;
  CHALK_FIELDS(Config, gateway, incarnation, heartbeat, reports_max, functions)
};

struct FromControl {
  Envelope<GatewayOrder> envelope;
  CHALK_FIELDS(FromControl, envelope)
};
using Event = std::variant<functions::RequestArrived, functions::RequestFinished,
                           functions::RequestAbandoned, FromControl, Woken>;

struct ToControl {
  Envelope<GatewayReport> envelope;
  CHALK_FIELDS(ToControl, envelope)
};
using Effect = std::variant<functions::Dispatch, functions::RefuseRequest, functions::AbortReplica,
                            ToControl, WakeAt>;

struct State {
  functions::State functions;
  Outbox<GatewayReport> reports;
  std::map<GroupId, Demand> late;  // the newest of a group, not in `reports` yet
  Inbox orders;
  Time functions_wake = kNever;
  Time heartbeat_at;  // the first wake begins it
  Time wake = kNever;
  CHALK_FIELDS(State, functions, reports, late, orders, functions_wake, heartbeat_at, wake)
};

class Gateway {
 public:
  using Config = gateway::Config;
  using Event = gateway::Event;
  using Effect = gateway::Effect;
  using State = gateway::State;
  using Effects = std::vector<Effect>;

  explicit Gateway(Config config, State state = {});
  void step(Time now, const Event& event, Effects& effects);
  State state() const;
  std::uint64_t digest() const;
  const Config& config() const { return config_; }
  const functions::Functions& functions() const { return functions_; }

 private:
  void on(Time, const FromControl&, Effects&);
  void on(Time, const Woken&, Effects&);
  template <class One>
  void on(Time now, const One& event, Effects& effects) {
    drive(now, event, effects);
  }
  template <class One>
  void drive(Time now, const One& event, Effects& effects);
  void send(GatewayReport report, Effects& effects);
  void send_demand(const Demand& demand, Effects& effects);

  Config config_;
  State state_;  // its `functions` is empty: the machine owns that part
  functions::Functions functions_;
  std::vector<functions::Effect> scratch_;  // empty between steps
};

}  // namespace chalk::gateway
