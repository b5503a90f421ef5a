// The channel between roots: whatever the network does, each message arrives once and in order.
#include "model/core/link.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace chalk {
namespace {

struct Sent {
  std::uint64_t sequence;
  int message;
};

RC_GTEST_PROP(Link, DeliversEachMessageOnceAndInOrderOverABadNetwork, ()) {
  Outbox<int> outbox;
  Inbox inbox;
  std::vector<Sent> network;
  std::vector<int> received;
  int next = 0;
  const auto deliver = [&](std::size_t which) {
    if (inbox.accept(network[which].sequence)) received.push_back(network[which].message);
  };
  const auto draws = *rc::gen::container<std::vector<int>>(
      rc::gen::resize(rc::kNominalSize, rc::gen::inRange(0, 10'000)));
  for (const int draw : draws) {
    const auto which = static_cast<std::size_t>(draw / 10);
    switch (draw % 10) {
      case 0:
      case 1:
      case 2: {
        const int message = next++;
        network.push_back({outbox.push(message), message});
        break;
      }
      case 3: outbox.resend([&](std::uint64_t s, int m) { network.push_back({s, m}); }); break;
      case 4:
        if (!network.empty())
          network.erase(network.begin() + static_cast<int>(which % network.size()));
        break;  // lost
      case 5: outbox.acknowledge(inbox.received); break;
      default:
        if (!network.empty()) deliver(which % network.size());  // late, early, or once more
    }
  }
  // The network heals: two heartbeats and an acknowledgement bring everything over.
  for (int heartbeat = 0; heartbeat < 2; ++heartbeat) {
    outbox.resend([&](std::uint64_t sequence, int message) {
      if (inbox.accept(sequence)) received.push_back(message);
    });
  }
  outbox.acknowledge(inbox.received);
  RC_ASSERT(outbox.empty());
  RC_ASSERT(received.size() == static_cast<std::size_t>(next));
  for (int i = 0; i < next; ++i) RC_ASSERT(received[static_cast<std::size_t>(i)] == i);
}

TEST(Link, SendsEverythingAgainOnceTheOldestWasOutAtTheLastHeartbeat) {
  Outbox<int> outbox;
  outbox.push(1);
  int resent = 0;
  outbox.resend([&](std::uint64_t, int) { ++resent; });
  EXPECT_EQ(resent, 0);
  outbox.push(2);
  outbox.resend([&](std::uint64_t, int) { ++resent; });
  EXPECT_EQ(resent, 2);
  outbox.acknowledge(1);
  EXPECT_EQ(outbox.size(), 1u);
}

}  // namespace
}  // namespace chalk
