#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <deque>
#include <map>
#include <set>

#include "model/core/digest.h"
#include "model/core/fifo.h"
#include "model/core/ids.h"
#include "model/core/link.h"
#include "model/core/random.h"
#include "model/core/slot_table.h"
#include "model/core/timers.h"

namespace chalk {
namespace {

RC_GTEST_PROP(SlotTable, BehavesAsAMapWhoseIdsAreNeverReused, ()) {
  SlotTable<SandboxId, int> table;
  std::map<SandboxId, int> oracle;
  std::set<SandboxId> issued;
  for (const int what : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 1000))) {
    if (what % 3 != 0 || oracle.empty()) {
      const SandboxId id = table.insert(what);
      RC_ASSERT(id.value != 0);
      RC_ASSERT(issued.insert(id).second);
      oracle[id] = what;
    } else {
      const auto victim = std::next(oracle.begin(), what % static_cast<int>(oracle.size()));
      table.erase(victim->first);
      RC_ASSERT(table.find(victim->first) == nullptr);
      oracle.erase(victim);
    }
    RC_ASSERT(table.size() == oracle.size());
  }
  for (const auto& [id, value] : oracle) RC_ASSERT(table.at(id) == value);
  std::size_t seen = 0;
  table.for_each([&](SandboxId id, int value) {
    RC_ASSERT(oracle.at(id) == value);
    ++seen;
  });
  RC_ASSERT(seen == oracle.size());
}

TEST(SlotTable, FindsNothingForAnIdThatItDidNotIssue) {
  SlotTable<SandboxId, int> table;
  EXPECT_EQ(table.find(SandboxId{}), nullptr);
  EXPECT_EQ(table.find(SandboxId{~0ULL}), nullptr);
  table.insert(1);
  EXPECT_EQ(table.find(SandboxId{1ULL << 32 | 1}), nullptr);
}

RC_GTEST_PROP(Fifo, BehavesAsADeque, ()) {
  Fifo<int> fifo;
  std::deque<int> oracle;
  for (const int what : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 100))) {
    if (what % 3 != 0) {
      fifo.push_back(what);
      oracle.push_back(what);
    } else if (!oracle.empty()) {
      RC_ASSERT(fifo.pop_front() == oracle.front());
      oracle.pop_front();
    }
    RC_ASSERT(fifo.size() == oracle.size());
    for (std::size_t i = 0; i < oracle.size(); ++i) RC_ASSERT(fifo[i] == oracle[i]);
  }
}

TEST(Fifo, DigestsItsContentsAndNotItsPlaceInTheRing) {
  Fifo<int> moved;
  for (int i = 0; i < 3; ++i) moved.push_back(0);
  for (int i = 0; i < 3; ++i) moved.pop_front();
  Fifo<int> fresh;
  for (int i = 0; i < 4; ++i) {
    moved.push_back(i);
    fresh.push_back(i);
  }
  EXPECT_EQ(moved, fresh);
  EXPECT_EQ(digest_of(moved), digest_of(fresh));
}

RC_GTEST_PROP(Timers, FireInOrderOfDeadlineThenOfArming, ()) {
  Timers<int> timers;
  const auto deadlines = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 20));
  std::multimap<int, int> oracle;
  for (std::size_t i = 0; i < deadlines.size(); ++i) {
    timers.arm(Time{deadlines[i]}, static_cast<int>(i));
    oracle.emplace(deadlines[i], static_cast<int>(i));
  }
  for (const auto& [at, key] : oracle) {
    RC_ASSERT(timers.next() == Time{at});
    RC_ASSERT(timers.due(Time{at}));
    RC_ASSERT(!timers.due(Time{at - 1}));
    RC_ASSERT(timers.pop().key == key);
  }
  RC_ASSERT(timers.next() == kNever);
}

TEST(Timers, NeverFireWhatIsArmedForNever) {
  Timers<int> timers;
  timers.arm(kNever, 1);
  EXPECT_FALSE(timers.due(kNever));
}

// Over a network that loses, repeats and reorders, every message arrives once and in order.
RC_GTEST_PROP(Link, DeliversEverythingOnceAndInOrder, (std::uint64_t key)) {
  Random random{key, 0};
  Outbox<int> outbox;
  Inbox inbox;
  std::vector<std::pair<std::uint64_t, int>> network;
  std::vector<int> received;
  int sent = 0;
  const auto deliver = [&](std::size_t i) {
    const auto [sequence, message] = network[i];
    if (random.below(4) != 0)
      network.erase(network.begin() + static_cast<long>(i));  // else repeated
    if (inbox.accept(sequence)) received.push_back(message);
  };
  for (int turn = 0; turn < 400; ++turn) {
    const auto what = random.below(10);
    if (what < 3 && sent < 60) network.emplace_back(outbox.push(sent), sent), ++sent;
    if (what >= 3 && what < 7 && !network.empty()) {
      const auto i = random.below(network.size());
      if (random.below(3) == 0)
        network.erase(network.begin() + static_cast<long>(i));
      else
        deliver(i);
    }
    if (what == 7) outbox.resend([&](std::uint64_t s, int m) { network.emplace_back(s, m); });
    if (what == 8) outbox.acknowledge(inbox.received);
  }
  for (int beat = 0; beat < 3; ++beat) {  // the network heals
    outbox.acknowledge(inbox.received);
    outbox.resend([&](std::uint64_t s, int m) {
      if (inbox.accept(s)) received.push_back(m);
    });
  }
  outbox.acknowledge(inbox.received);
  RC_ASSERT(outbox.empty());
  RC_ASSERT(received.size() == static_cast<std::size_t>(sent));
  for (int i = 0; i < sent; ++i) RC_ASSERT(received[static_cast<std::size_t>(i)] == i);
}

TEST(Random, IsAFunctionOfKeyAndCounter) {
  Random random{42, 0};
  const auto first = random.next();
  EXPECT_EQ(first, random_at(42, 0));
  EXPECT_EQ(random.next(), random_at(42, 1));
  EXPECT_NE(random.stream(1).next(), random.stream(2).next());
}

RC_GTEST_PROP(Random, StaysBelowItsBound, (std::uint64_t key)) {
  const auto bound = *rc::gen::inRange<std::uint64_t>(1, 1000);
  Random random{key, 0};
  for (int i = 0; i < 100; ++i) RC_ASSERT(random.below(bound) < bound);
}

}  // namespace
}  // namespace chalk
