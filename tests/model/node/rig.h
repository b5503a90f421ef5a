// A node that control has welcomed, for tests, and the orders that they give it.
#pragma once
#include <gtest/gtest.h>

#include <vector>

#include "model/node/node.h"
#include "tests/support/said.h"

namespace chalk::node {

using test::said;

inline Time at(std::int64_t s) { return {seconds(s).nanos}; }

inline constexpr std::int64_t kGi = 1LL << 30;
inline constexpr NodeShape kShape{.cpu_millicores = 4000,
                       .memory_bytes = 8 * kGi,
                       .disk_bytes = 20 * kGi,
                       .gpus = 2,
                       .start_slots = 2,
                       .sandboxes_max = 4};

inline StartOrder order(std::uint64_t sandbox, std::uint64_t owner, Resources resources) {
  StartOrder start;
  start.sandbox = {sandbox};
  start.owner = {owner};
  start.resources = resources;
  return start;
}
inline constexpr Resources kOne{.cpu_millicores = 1000, .memory_bytes = kGi};

// A node that control has welcomed; orders get their sequence numbers here, and what it reports is
// taken out of its envelopes.
struct Rig {
  Config config;
  Node node;
  std::uint64_t sent = 0;
  std::uint64_t incarnation = 1;
  Inbox received{};
  std::vector<NodeReport> reports{};

  Rig() : config(), node(config, {7, 1, 0, {1}, {1}, kShape}) {
    tell(at(0), Booted{});
    tell(at(0), Welcomed{1, {3}});
  }
  std::vector<Effect> tell(Time now, const Event& event) {
    std::vector<Effect> effects;
    node.step(now, event, effects);
    for (const auto& message : said<ToControl>(effects)) {
      if (!message.envelope.message || !received.accept(message.envelope.sequence)) continue;
      reports.push_back(*message.envelope.message);
    }
    return effects;
  }
  std::vector<Effect> give(Time now, NodeOrder one) {
    return tell(now, FromControl{{incarnation, ++sent, 0, std::move(one)}});
  }
  template <class T>
  std::vector<T> reported() const {
    return said<T>(reports);
  }
};

}  // namespace chalk::node
