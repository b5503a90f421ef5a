// Random lives of single sandboxes and of gangs: what the machine keeps, and what it says, against
// the rules of its header, worked out from what it was told.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "model/core/codec.h"
#include "model/core/random.h"
#include "model/sandbox/sandbox.h"
#include "tests/support/said.h"

namespace chalk::sandbox {
namespace {

using test::said;

// Ends that leave the rest of a gang to its work.
bool leaves_others(EndReason reason) {
  return reason == EndReason::exited || reason == EndReason::lifetime_reached;
}

constexpr std::uint64_t kGroups = 2;

struct World {
  Config config;
  Sandboxes sandboxes;
  Random random;
  Time now{seconds(1).nanos};
  std::uint64_t next_reply = 1;
  std::uint64_t next_gang = 1;
  std::map<std::uint64_t, SandboxId> live{};      // by reply_to: accepted and not gone
  std::map<std::uint64_t, Requested> asks{};      // by reply_to
  std::map<GangKey, std::uint32_t> came{};        // of gangs that live
  std::map<GangKey, Time> began{};
  std::map<Key, std::optional<Time>> keys{};      // known; until when, once its sandbox is gone
  std::map<SandboxId, bool> reserved{};           // asked admission, and not given back
  std::map<std::string, int> seen{};

  World(std::uint64_t key, Config how) : config(how), sandboxes(how), random{key, 0} {}

  // ---- what it is told, and what it may say to that

  template <class E>
  std::vector<Effect> tell(const E& event) {
    const State before = sandboxes.state();
    const auto effects = test::tell(sandboxes, now, event);
    for (const Effect& effect : effects) {
      std::visit([&](const auto& one) { heard(before, one); }, effect);
    }
    for (auto at = keys.begin(); at != keys.end();) {
      const bool over = std::is_same_v<E, Woken> && at->second && *at->second <= now;
      at = over ? keys.erase(at) : std::next(at);
    }
    check(before, effects, std::is_same_v<E, Woken>);
    return effects;
  }
  const Record* before_it(const State& before, SandboxId id) { return before.sandboxes.find(id); }

  void heard(const State&, const Accepted& one) {
    if (one.repeated) {
      ++seen["repeated"];
      const Requested& ask = asks.at(one.reply_to);
      RC_ASSERT(keys.contains({ask.tenant, ask.key}));
      return;
    }
    const Requested& ask = asks.at(one.reply_to);
    live[one.reply_to] = one.sandbox;
    if (!ask.key.empty()) RC_ASSERT(keys.emplace(Key{ask.tenant, ask.key}, std::nullopt).second);
    if (!ask.gang) return;
    const GangKey gang{ask.tenant, ask.gang.id};
    if (++came[gang] == 1) began[gang] = now;
    RC_ASSERT(came[gang] <= ask.gang.size && ask.gang.size <= config.gang_max);
  }
  void heard(const State& before, const Refused& one) {
    const Requested& ask = asks.at(one.reply_to);
    if (!one.sandbox) {
      RC_ASSERT(one.rule != Refusal::admission && one.admission_rule == 0);
      if (one.rule != Refusal::gang_size) return;
      ++seen["gang_size"];
      const auto found = before.gangs.find({ask.tenant, ask.gang.id});
      const bool known = found != before.gangs.end();
      RC_ASSERT(one.needed == ask.gang.size && one.in_use == (known ? found->second.came : 0));
      RC_ASSERT(one.limit == (known ? found->second.size : config.gang_max));
      return;
    }
    ++seen["admission"];
    RC_ASSERT(one.rule == Refusal::admission && one.admission_rule == 3);
    RC_ASSERT(live.erase(one.reply_to) == 1);
    if (!ask.key.empty()) keys.erase({ask.tenant, ask.key});
    // Of a gang what stood in line is taken out of it.
    reserved.erase(one.sandbox);
  }
  void heard(const State&, const AskAdmission& one) {
    RC_ASSERT(!reserved[one.sandbox]);
    reserved[one.sandbox] = true;
  }
  void heard(const State&, const Unplace& one) {
    const auto found = reserved.find(one.sandbox);
    if (found != reserved.end()) RC_ASSERT(found->second);
    reserved[one.sandbox] = false;
  }
  void heard(const State& before, const SendStart& one) {
    RC_ASSERT(before_it(before, one.sandbox)->phase == Phase::accepted);
    const Record& record = *sandboxes.find(one.sandbox);
    RC_ASSERT(record.node == one.node && record.phase == Phase::placed);
  }
  void heard(const State& before, const SendStop& one) {
    const Record* record = before_it(before, one.sandbox);
    if (record == nullptr || record->node != one.node) return;  // a late start on another node
    // Else its node is lost, and it went in the same step.
    const Record* is = sandboxes.find(one.sandbox);
    if (is != nullptr && is->node == one.node) RC_ASSERT(is->phase == Phase::ending);
  }
  void heard(const State&, const StartSettled&) {}
  void heard(const State&, const WakeAt&) {}
  void heard(const State&, const Restarted&) { ++seen["restarted"]; }
  void heard(const State& before, const Running& one) {
    ++seen["running"];
    RC_ASSERT(one.took == now - before_it(before, one.sandbox)->requested);
    RC_ASSERT(sandboxes.find(one.sandbox)->phase == Phase::running);
  }
  void heard(const State& before, const Gone& one) {
    ++seen["gone " + std::to_string(static_cast<int>(one.reason))];
    RC_ASSERT(live.erase(one.reply_to) == 1);
    RC_ASSERT(!reserved[one.sandbox]);
    reserved.erase(one.sandbox);
    const Record& was = *before_it(before, one.sandbox);
    const bool over = one.reason == EndReason::exited || one.reason == EndReason::out_of_memory;
    RC_ASSERT(one.was_running == (was.ran || (over && !was.restart && !was.group)));
    if (!was.key.empty()) keys.at({was.tenant, was.key}) = now + config.key_retention;
  }

  // ---- what it keeps

  void check(const State& before, const std::vector<Effect>& effects, bool woken) {
    const State& state = sandboxes.state();
    RC_ASSERT(state.sandboxes.size() == live.size());
    std::map<GangKey, std::set<SandboxId>> members;
    std::map<std::uint32_t, std::set<SandboxId>> on_node;
    std::map<std::uint64_t, std::set<SandboxId>> waiting;  // by group
    state.sandboxes.for_each([&](SandboxId id, const Record& one) {
      RC_ASSERT(live.at(one.reply_to) == id && reserved.at(id));
      if (one.gang) members[{one.tenant, one.gang.id}].insert(id);
      const bool has_node = one.phase != Phase::accepted;
      RC_ASSERT(has_node == static_cast<bool>(one.node) && (has_node || one.gpu_mask == 0u));
      if (has_node) on_node[slot(one.node)].insert(id);
      if (!has_node && one.group) waiting[one.group.value].insert(id);
      RC_ASSERT(one.ran == (one.runs_since != kNever));
      RC_ASSERT(!one.moving || (one.phase == Phase::ending && !one.stop_asked && !one.gang_ended));
      RC_ASSERT(!one.stop_asked || one.phase == Phase::ending);
      RC_ASSERT(!one.preempted || one.phase == Phase::ending);
      RC_ASSERT(!one.moving || !one.ran || one.restart);
      if (one.phase == Phase::placed) {
        RC_ASSERT(one.start_deadline <= now + config.start_timeout);
        RC_ASSERT(state.wake <= one.start_deadline && (!woken || one.start_deadline > now));
      }
    });
    const auto listed_from = [&](SandboxId first) {
      std::set<SandboxId> listed;
      SandboxId previous;
      for (SandboxId id = first; id;) {
        RC_ASSERT(listed.insert(id).second);
        RC_ASSERT(state.sandboxes.at(id).previous_beside == previous);
        previous = id;
        id = state.sandboxes.at(id).next_beside;
      }
      return listed;
    };
    for (std::uint32_t at = 0; at < state.first_on_node.size(); ++at) {
      RC_ASSERT(listed_from(state.first_on_node[at]) == on_node[at]);
    }
    for (std::uint64_t group = 1; group <= kGroups; ++group) {
      RC_ASSERT(listed_from(sandboxes.last_waiting({group})) == waiting[group]);
    }
    RC_ASSERT(state.keys.size() == keys.size());
    for (const auto& [key, until] : keys) RC_ASSERT(state.keys.contains(key));
    RC_ASSERT(state.gangs.size() == members.size());
    for (const auto& [key, ids] : members) check_gang(key, ids, before, effects, woken);
    std::erase_if(came, [&](const auto& one) { return !members.contains(one.first); });
  }

  void check_gang(const GangKey& key, const std::set<SandboxId>& ids, const State& before,
                  const std::vector<Effect>& effects, bool woken) {
    const State& state = sandboxes.state();
    const GangMembers& gang = state.gangs.at(key);
    RC_ASSERT(std::set(gang.members.begin(), gang.members.end()) == ids);
    RC_ASSERT(gang.members.size() == ids.size() && gang.came == came.at(key));
    bool gathers = false, works = false;
    for (const SandboxId id : ids) {
      const Record& one = state.sandboxes.at(id);
      RC_ASSERT(one.gang.size == gang.size);
      gathers |= one.phase == Phase::accepted;
      works |= one.phase == Phase::placed || one.phase == Phase::running;
      RC_ASSERT(one.gang_ended == gang.ended);
      if (gang.ended) RC_ASSERT(one.phase == Phase::ending && !one.moving);
      if (one.phase != Phase::accepted || gang.came < gang.size) continue;
      for (const SandboxId other : ids) {  // while one waits, none goes on without it
        const Phase phase = state.sandboxes.at(other).phase;
        RC_ASSERT(phase == Phase::accepted || phase == Phase::ending);
      }
    }
    if (gathers && gang.came == gang.size) RC_ASSERT(ids.size() == gang.size);
    if (gang.came < gang.size && !gang.ended) {
      RC_ASSERT(ids.size() == gang.came && !works);
      RC_ASSERT(gang.deadline == began.at(key) + config.gang_gather && state.wake <= gang.deadline);
      RC_ASSERT(!woken || now < gang.deadline);
    }
    // It ends where one of it did that should not, or where it cannot be whole again.
    const auto was = before.gangs.find(key);
    const bool ends = gang.ended && !(was != before.gangs.end() && was->second.ended);
    bool lost = false, left = false;
    for (const Effect& effect : effects) {
      const auto* gone = std::get_if<Gone>(&effect);
      const auto* refused = std::get_if<Refused>(&effect);
      const SandboxId id = gone != nullptr      ? gone->sandbox
                           : refused != nullptr ? refused->sandbox
                                                : SandboxId{};
      const Record* record = id ? before.sandboxes.find(id) : nullptr;
      if (record == nullptr || !record->gang) continue;
      if (GangKey{record->tenant, record->gang.id} != key) continue;
      left = true;
      lost |= gone == nullptr || !leaves_others(gone->reason);
    }
    if (lost) RC_ASSERT(gang.ended);
    if (!ends) return;
    ++seen["gang ends"];
    bool gathered = false;
    for (const SandboxId id : was->second.members) {
      const Record& one = before.sandboxes.at(id);
      gathered |= one.phase == Phase::accepted || one.moving;
    }
    RC_ASSERT(lost || (left && gathered) ||
              (woken && was->second.deadline <= now && was->second.came < was->second.size));
  }

  // ---- what happens

  static std::uint32_t slot(NodeId node) { return static_cast<std::uint32_t>(node.value) - 1; }
  NodeId some_node() { return {1 + random.below(4)}; }
  SandboxId some(bool (*wanted)(const Record&)) {
    std::vector<SandboxId> all;
    sandboxes.state().sandboxes.for_each([&](SandboxId id, const Record& one) {
      if (wanted(one)) all.push_back(id);
    });
    return all.empty() ? SandboxId{} : all[random.below(all.size())];
  }
  static bool any(const Record&) { return true; }
  static bool waits(const Record& one) { return one.phase == Phase::accepted; }
  static bool has_node(const Record& one) { return one.phase != Phase::accepted; }
  static bool starts(const Record& one) { return one.phase == Phase::placed; }

  Requested ask() {
    Requested one;
    one.reply_to = next_reply++;
    one.tenant = {1 + random.below(2)};
    one.group = {random.below(kGroups + 1)};
    one.image_known = true;
    one.restart = random.below(2) == 0;
    one.lifetime = seconds(static_cast<std::int64_t>(random.below(3)) * 20);
    if (random.below(3) == 0) one.key = std::string(1, static_cast<char>('a' + random.below(6)));
    return one;
  }
  void request(const Requested& one) {
    asks[one.reply_to] = one;
    tell(one);
  }
  void request_gang() {
    Requested first = ask();
    const std::uint32_t size = static_cast<std::uint32_t>(1 + random.below(4));
    first.gang = {random.below(8) == 0 ? 1 + random.below(next_gang) : next_gang++, size};
    const bool restart = random.below(2) == 0;
    for (std::uint64_t left = size + (random.below(8) == 0) - (random.below(5) == 0); left > 0; --left) {
      Requested one = ask();
      one.tenant = first.tenant;
      one.gang = first.gang;
      if (random.below(4) != 0) one.restart = restart;
      request(one);
    }
  }
  // As tenancy and the scheduler do: a gang is placed as a whole once all of it has asked.
  void admit() {
    const SandboxId id = some(waits);
    if (!id) return;
    const Record record = *sandboxes.find(id);
    if (random.below(8) == 0) {
      tell(AdmissionRefused{id, 3, 4, 5, 6});
      return;
    }
    if (!record.gang) {
      tell(Placed{id, some_node(), 1});
      return;
    }
    const GangMembers gang = sandboxes.state().gangs.at({record.tenant, record.gang.id});
    for (const SandboxId other : gang.members) {
      if (sandboxes.find(other)->phase != Phase::accepted) return;
    }
    if (gang.members.size() < gang.size) return;
    const State before = sandboxes.state();
    std::vector<Effect> effects;
    for (const SandboxId other : gang.members) {
      sandboxes.step(now, Placed{other, some_node(), 1}, effects);
    }
    for (const Effect& effect : effects) {
      std::visit([&](const auto& one) { heard(before, one); }, effect);
    }
    check(before, effects, false);
    ++seen["gang placed"];
  }
  void end() {
    const SandboxId id = some(has_node);
    if (!id) return;
    const Record& one = *sandboxes.find(id);
    EndReason reason = EndReason::terminated;
    if (one.phase != Phase::ending || random.below(3) == 0) {
      reason = std::vector{EndReason::exited, EndReason::lifetime_reached, EndReason::out_of_memory,
                           EndReason::start_failed, EndReason::bad_image}[random.below(5)];
    }
    expect_fate(id, Ended{id, one.node, reason, "n"}, reason);
  }
  void refuse_start() {
    const SandboxId id = some(has_node);
    if (!id) return;
    expect_fate(id, NodeRefused{id, sandboxes.find(id)->node, {}}, EndReason::start_failed);
  }
  // Whether it may wait for room again, with all of its gang.
  bool may_wait_again(SandboxId id) {
    const Record& one = *sandboxes.find(id);
    if (!one.gang) return true;
    const GangMembers& gang = sandboxes.state().gangs.at({one.tenant, one.gang.id});
    return !gang.ended && gang.members.size() == gang.size &&
           std::all_of(gang.members.begin(), gang.members.end(), [&](SandboxId other) {
             const Record& its = *sandboxes.find(other);
             const bool may_leave = !its.stop_asked && (!its.ran || its.restart);
             return other == id || its.phase == Phase::accepted || its.moving || may_leave;
           });
  }
  template <class E>
  void expect_fate(SandboxId id, const E& event, EndReason reason) {
    const Record was = *sandboxes.find(id);
    const bool ended = std::is_same_v<E, Ended>;
    bool again = false;
    EndReason told = reason;
    // It has done its work, whatever it had been told meanwhile.
    const bool over = ended && !was.restart && !was.group &&
                      (reason == EndReason::exited || reason == EndReason::out_of_memory);
    if (over) {
    } else if (ended && was.moving && reason != EndReason::lifetime_reached) {
      again = may_wait_again(id);
      told = EndReason::gang_ended;
    } else if (!was.ran && !was.stop_asked && !was.gang_ended && reason != EndReason::bad_image) {
      again = was.attempts < config.start_attempts && may_wait_again(id);
    } else if (!ended && was.ran) {
      RC_ASSERT(tell(event).empty());
      return;
    } else if (!ended) {
      if (was.gang_ended) told = EndReason::gang_ended;
    } else if (reason == EndReason::terminated && !was.stop_asked) {
      if (was.gang_ended) told = EndReason::gang_ended;
      if (was.preempted) told = EndReason::preempted;
    }
    const auto effects = tell(event);
    const auto gone = said<Gone>(effects);
    const Record* is = sandboxes.find(id);
    if (again) {
      ++seen["again"];
      RC_ASSERT(is != nullptr && is->phase == Phase::accepted && !is->moving && !is->preempted);
      RC_ASSERT(is->start_deadline == kNever && !said<AskAdmission>(effects).empty());
      if (was.moving && ended && reason != EndReason::lifetime_reached) {
        RC_ASSERT(is->failed_on == was.failed_on);
      } else {
        RC_ASSERT(is->failed_on == (std::array{was.node, was.failed_on[0]}));
      }
      if (was.ran && was.lifetime.nanos > 0) {
        RC_ASSERT(is->lifetime == std::max(nanoseconds(1), was.lifetime - (now - was.runs_since)));
      } else {
        RC_ASSERT(is->lifetime == was.lifetime);
      }
      if (was.gang) expect_all_leave(*is);
      return;
    }
    RC_ASSERT(is == nullptr && !gone.empty() && gone[0].sandbox == id && gone[0].reason == told);
  }
  // And none of them goes where this one failed.
  void expect_all_leave(const Record& again) {
    for (const SandboxId other : sandboxes.state().gangs.at({again.tenant, again.gang.id}).members) {
      const Record& one = *sandboxes.find(other);
      RC_ASSERT(one.phase == Phase::accepted || one.phase == Phase::ending);
      RC_ASSERT(one.attempts == again.attempts && one.failed_on == again.failed_on);
    }
  }
  void start() {
    const SandboxId id = some(random.below(4) == 0 ? any : starts);
    if (!id) return;
    const Record was = *sandboxes.find(id);
    const NodeId node = random.below(6) == 0 || !was.node ? some_node() : was.node;
    const auto effects = tell(Started{id, node, "s"});
    if (was.node != node) {
      RC_ASSERT(said<SendStop>(effects).at(0) == (SendStop{node, id, {}}));
    } else {
      RC_ASSERT(said<Running>(effects).size() == (was.phase == Phase::placed ? 1u : 0u));
    }
  }
  void move() {
    const SandboxId id = some(any);
    if (!id) return;
    const Record was = *sandboxes.find(id);
    const bool obeys = (was.phase == Phase::placed || was.phase == Phase::running) &&
                       (!was.ran || was.restart) && may_wait_again(id);
    const auto effects = tell(MoveAsked{id});
    RC_ASSERT(said<SendStop>(effects).size() == (obeys ? 1u : 0u));
    RC_ASSERT(sandboxes.find(id)->moving == (obeys || was.moving));
    if (obeys) RC_ASSERT(sandboxes.find(id)->failed_on == decltype(was.failed_on){});
    seen["moved"] += obeys;
  }
  void preempt() {
    const SandboxId id = some(any);
    if (!id) return;
    const Record was = *sandboxes.find(id);
    const bool obeys = was.phase == Phase::placed || was.phase == Phase::running;
    const auto effects = tell(Preempted{id, seconds(7)});
    RC_ASSERT(effects.empty() == !obeys);
    if (!obeys) return;
    ++seen["preempted"];
    RC_ASSERT(said<SendStop>(effects).at(0) == (SendStop{was.node, id, seconds(7)}));
    RC_ASSERT(sandboxes.find(id)->moving == (!was.ran || was.restart));
  }
  void terminate() {
    const SandboxId id = some(any);
    if (!id) return;
    const Record was = *sandboxes.find(id);
    const auto effects = tell(TerminateRequested{id, seconds(9)});
    if (was.phase == Phase::accepted) {
      RC_ASSERT(said<Gone>(effects).at(0).reason == EndReason::terminated);
    } else if (was.stop_asked) {
      RC_ASSERT(effects.empty());
    } else {
      RC_ASSERT(said<SendStop>(effects).at(0) == (SendStop{was.node, id, seconds(9)}));
    }
  }
  void lose_node() {
    const NodeId node = some_node();
    tell(NodeLost{node});
    sandboxes.state().sandboxes.for_each(
        [&](SandboxId, const Record& one) { RC_ASSERT(one.node != node); });
  }
  void restart() {
    const SandboxId id = some(has_node);
    if (!id) return;
    const Record was = *sandboxes.find(id);
    const auto count = static_cast<std::uint32_t>(random.below(3));
    const bool running = random.below(2) == 0;
    const auto effects = tell(NodeRestarted{id, was.node, count, running, "r"});
    const bool news = was.ran && (count > was.restarts ||
                                  (count == was.restarts && running && was.waits));
    RC_ASSERT(said<Restarted>(effects).size() == (news ? 1u : 0u));
  }
  void pass() {
    const Time end = now + seconds(1 + static_cast<std::int64_t>(random.below(80)));
    while (sandboxes.state().wake <= end) {
      now = std::max(now, sandboxes.state().wake);
      const State before = sandboxes.state();
      const auto stops = said<SendStop>(tell(Woken{}));
      for (const SendStop& one : stops) {  // what does not start in time, or a gang that ends
        const Record& was = before.sandboxes.at(one.sandbox);
        RC_ASSERT(was.gang || (was.phase == Phase::placed && was.start_deadline == now));
        RC_ASSERT(one.grace == (was.phase == Phase::placed && was.start_deadline <= now
                                    ? Duration{} : config.gang_grace));
      }
    }
    now = end;
  }
  void act() {
    switch (random.below(18)) {
      case 0: case 1: request(ask()); break;
      case 2: case 3: request_gang(); break;
      case 4: case 5: case 6: case 7: admit(); break;
      case 8: case 9: start(); break;
      case 10: end(); break;
      case 11: refuse_start(); break;
      case 12: move(); break;
      case 13: preempt(); break;
      case 14: terminate(); break;
      case 15: random.below(2) == 0 ? lose_node() : restart(); break;
      case 16: if (const SandboxId id = some(any)) tell(Ended{id, {9}, EndReason::exited, {}}); break;
      default: pass(); break;
    }
  }
};

Config small() {
  Config config;
  config.sandboxes_max = 14;
  config.keys_max = 7;
  config.key_retention = seconds(60);
  config.start_timeout = seconds(100);
  config.start_attempts = 2;
  config.gang_max = 3;
  config.gang_gather = seconds(150);
  return config;
}

RC_GTEST_PROP(Sandboxes, KeepAndSayWhatTheirRulesAsk, (std::uint64_t key)) {
  World world(key, small());
  for (int i = 0; i < 200; ++i) world.act();
  State decoded;
  RC_ASSERT(decode(encode(world.sandboxes.state()), decoded));
  RC_ASSERT(decoded == world.sandboxes.state());
}

// Nobody stays for ever: what is asked to end, and then ends on its node, is gone.
RC_GTEST_PROP(Sandboxes, AllEndOnceAllAreAskedTo, (std::uint64_t key)) {
  World world(key, small());
  for (int i = 0; i < 100; ++i) world.act();
  while (const SandboxId id = world.some(World::any)) {
    world.tell(TerminateRequested{id, {}});
    const Record* record = world.sandboxes.find(id);
    if (record != nullptr) world.tell(Ended{id, record->node, EndReason::terminated, {}});
  }
  RC_ASSERT(world.sandboxes.state().gangs.empty() && world.live.empty());
  world.now = world.now + seconds(1000);
  world.tell(Woken{});
  RC_ASSERT(world.sandboxes.state().keys.empty() && world.sandboxes.state().wake == kNever);
}

TEST(SandboxProperty, RandomLivesReachEveryFate) {
  std::map<std::string, int> seen;
  for (std::uint64_t key = 0; key < 100; ++key) {
    World world(key, small());
    for (int i = 0; i < 200; ++i) world.act();
    for (const auto& [what, count] : world.seen) seen[what] += count;
  }
  for (const char* what : {"repeated", "gang_size", "admission", "running", "restarted", "again",
                           "gang placed", "gang ends", "moved", "preempted"}) {
    EXPECT_GE(seen[what], 50) << what;
  }
  for (const EndReason reason : {EndReason::exited, EndReason::terminated, EndReason::bad_image,
                                 EndReason::lifetime_reached, EndReason::start_failed,
                                 EndReason::out_of_memory, EndReason::node_lost,
                                 EndReason::preempted, EndReason::gang_ended}) {
    EXPECT_GE(seen["gone " + std::to_string(static_cast<int>(reason))], 10)
        << static_cast<int>(reason);
  }
}

}  // namespace
}  // namespace chalk::sandbox
