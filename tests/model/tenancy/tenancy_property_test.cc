// Random asks, gangs, priorities, families, answers and nodes: after each of them all that State
// derives from what is held is derived anew and must be the same.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>

#include "model/core/random.h"
#include "model/tenancy/tenancy.h"
#include "tests/support/said.h"

namespace chalk::tenancy {
namespace {

__extension__ using Wide = unsigned __int128;

// Of a guarantee only what it names counts, and of that what is asked for.
std::vector<std::array<std::int64_t, 3>> what_counts(const Amounts& most, const Amounts& used,
                                                     const Amounts& more) {
  std::vector<std::array<std::int64_t, 3>> all{
      {most.cpu_millicores, used.cpu_millicores, more.cpu_millicores},
      {most.memory_bytes, used.memory_bytes, more.memory_bytes},
      {most.gpu_millis, used.gpu_millis, more.gpu_millis},
      {most.sandboxes, used.sandboxes, more.sandboxes}};
  std::erase_if(all, [](const auto& one) { return one[0] == 0 || one[2] == 0; });
  return all;
}
bool speaks_of(const Amounts& guarantee, const Amounts& more) {
  return !what_counts(guarantee, {}, more).empty();
}
bool allows(const Amounts& guarantee, const Amounts& used, const Amounts& more) {
  const auto all = what_counts(guarantee, used, more);
  return std::all_of(all.begin(), all.end(),
                     [](const auto& one) { return one[1] + one[2] <= one[0]; });
}

// What State says twice, compared; the first thing that is wrong, or nothing.
class Inspection {
 public:
  Inspection(const State& state, const Config& config, Time now)
      : state_(state), config_(config), now_(now) {
    state.held.for_each([&](SandboxId id, const Held& held) { count(id, held); });
    for (const auto& [id, tenant] : state.tenants) look_at_tenant(id, tenant);
    expect(state.reclaimers == reclaimers_, "who reclaims");
    expect(state.pending_count == waiting_, "what waits");
    expect(state.unplaced == unplaced_, "what has no node");
    expect(state.line == lines_[TenantId{}], "the line of all");
    look_at_gangs();
    look_at_nodes();
    look_at_keeping();
    for (const SandboxId sandbox : state.aged) {
      const Held* held = state.held.find(sandbox);
      expect(held != nullptr && (held->phase == Phase::waiting || held->phase == Phase::trying) &&
                 now >= held->since + config.bypass_max &&
                 std::count(state.aged.begin(), state.aged.end(), sandbox) == 1,
             "what has aged", sandbox.value);
    }
  }
  std::string fault;

 private:
  void expect(bool holds, const char* what, std::uint64_t where = 0) {
    if (!holds && fault.empty()) fault = std::string(what) + " of " + std::to_string(where);
  }

  void count(SandboxId id, const Held& held) {
    for (TenantId at = held.tenant; at; at = state_.tenants.at(at).parent) {
      in_use_[at].add(amounts_of(held.resources), 1);
      if (held.phase == Phase::placed) placed_[at].add(amounts_of(held.resources), 1);
    }
    if (held.phase == Phase::nominated) nominated_[held.tenant].add(amounts_of(held.resources), 1);
    const bool waits = held.phase == Phase::waiting;
    waiting_ += waits;
    unplaced_ += held.phase != Phase::placed;
    if (waits) waits_[held.tenant][Turn{held.priority, held.ticket}] = id;
    if (held.phase == Phase::placed) ++priorities_[held.tenant][held.priority];
    if (held.phase == Phase::placed && state_.nodes.find(held.node)) ++on_node_[held.node];
    if (held.gang && held.phase != Phase::placed) {
      Gathering& gang = gangs_[{held.tenant, held.gang.id}];
      gang.members.insert(id);
      gang.amounts.add(amounts_of(held.resources), 1);
      if (held.phase != Phase::gathering) gang.speaker = id;
    }
  }

  bool within(const Tenant& tenant, const Amounts& used, const Amounts& more) const {
    return speaks_of(tenant.guarantee, more) && allows(tenant.guarantee, used, more);
  }
  Amounts wish(const Held& held) const {
    return held.gang ? state_.gangs.at({held.tenant, held.gang.id}).amounts
                     : amounts_of(held.resources);
  }
  // The dominant share of a fleet that is much like the present one.
  std::uint64_t share(TenantId id, const Tenant& tenant) {
    Wide most = 0;
    const auto part = [&](std::int64_t used, std::int64_t all) {
      if (all > 0) most = std::max(most, (Wide(static_cast<std::uint64_t>(used)) << 32) /
                                             static_cast<std::uint64_t>(all));
    };
    part(placed_[id].cpu_millicores, state_.shares_of.cpu_millicores);
    part(placed_[id].memory_bytes, state_.shares_of.memory_bytes);
    part(placed_[id].gpu_millis, state_.shares_of.gpu_millis);
    return static_cast<std::uint64_t>(most) / tenant.weight;
  }

  void look_at_tenant(TenantId id, const Tenant& tenant) {
    expect(tenant.in_use == in_use_[id] && tenant.placed == placed_[id] &&
               tenant.nominated == nominated_[id],
           "amounts", id.value);
    expect(tenant.waiting == waits_[id], "the line of its own", id.value);
    expect(tenant.share == share(id, tenant), "the share", id.value);
    expect(tenant.weight > 0, "the weight", id.value);
    std::vector<PriorityCount> counts;
    for (const auto& [priority, sandboxes] : priorities_[id]) counts.push_back({priority, sandboxes});
    expect(tenant.by_priority == counts, "priorities", id.value);
    const auto children = std::count_if(state_.tenants.begin(), state_.tenants.end(),
                                        [&](const auto& one) { return one.second.parent == id; });
    expect(tenant.children == children, "children", id.value);
    expect(children == 0 || tenant.waiting.empty(), "a family waits", id.value);

    const auto aside = std::count_if(asides_.begin(), asides_.end(),
                                     [&](const Aside& one) { return one.tenant == id; });
    expect(aside == (tenant.aside ? 1 : 0), "aside", id.value);
    bool reclaims = false;
    if (!tenant.waiting.empty()) {
      const Held& head = *state_.held.find(tenant.waiting.begin()->second);
      const bool own = within(tenant, placed_[id], wish(head));
      reclaims = config_.order == Order::fair && own;
      if (reclaims) reclaimers_.insert(id);
      if (!tenant.aside && config_.order == Order::fair) {
        stands(id, tenant, {own ? kOwnGuarantee : kBorrowing, tenant.share, id});
      } else if (!tenant.aside) {
        stands(id, tenant, {0, tenant.waiting.begin()->first.ticket, id});
      }
    }
    expect(tenant.reclaims == reclaims, "whether reclaims", id.value);
    if (!tenant.line.empty()) {
      const Tenant* next = &tenant;
      while (!next->line.empty()) next = &state_.tenants.at(next->line.begin()->tenant);
      const Held& head = *state_.held.find(next->waiting.begin()->second);
      const bool room = within(tenant, placed_[id], wish(head));
      const std::uint32_t first = tenant.line.begin()->rank;
      stands(id, tenant, {room ? std::min<std::uint32_t>(first, kFamilyGuarantee) : first,
                          tenant.share, id});
    }
    if (tenant.line.empty() && (tenant.waiting.empty() || tenant.aside)) {
      expect(tenant.place == Place{}, "has a place, and waits not", id.value);
    }
    if (config_.order != Order::fair) expect(tenant.line.empty(), "a family's line", id.value);
    for (const Place& one : tenant.line) {
      expect(state_.tenants.at(one.tenant).parent == id && state_.tenants.at(one.tenant).place == one,
             "the line of family", id.value);
    }
  }
  void stands(TenantId id, const Tenant& tenant, const Place& place) {
    expect(tenant.place == place, "the place", id.value);
    const bool in_family = config_.order == Order::fair && tenant.parent;
    if (!in_family) lines_[TenantId{}].insert(place);
    if (in_family) expect(state_.tenants.at(tenant.parent).line.contains(place), "in line", id.value);
  }

  // While all its members have not asked a gang has no speaker, and then the last is it.
  void look_at_gangs() {
    expect(state_.gangs.size() == gangs_.size(), "gangs");
    for (const auto& [key, gang] : gangs_) {
      const auto found = state_.gangs.find(key);
      if (found == state_.gangs.end()) return expect(false, "a gang", key.id);
      expect(found->second == gang, "the gathering", key.id);
    }
  }

  void look_at_nodes() {
    Amounts capacity;
    std::set<std::pair<Time, NodeId>> lingering;
    std::set<std::pair<SandboxId, NodeId>> scrubs;
    state_.nodes.for_each([&](NodeId id, const Node& node) {
      capacity.add({node.shape.cpu_millicores, node.shape.memory_bytes,
                    node.shape.gpus * std::int64_t{1000}, node.shape.sandboxes_max},
                   1);
      expect(node.sandboxes == on_node_[id], "the sandboxes on node", id.value);
      const bool used = node.sandboxes > 0 || node.dedicated || !config_.separate_tenants;
      if (node.sandboxes > 0) expect(node.phase == NodePhase::owned, "a used node", id.value);
      if (used) expect(node.deadline == kNever, "a deadline of a used node", id.value);
      expect((node.phase == NodePhase::free) == !node.owner, "the owner of node", id.value);
      if (node.phase == NodePhase::lingering) lingering.insert({node.deadline, id});
      if (node.scrubs_for) scrubs.insert({node.scrubs_for, id});
      const bool clean = node.phase == NodePhase::scrubbing || node.phase == NodePhase::free;
      expect(!node.scrubs_for || clean, "who waits for", id.value);
      const bool counts = node.common && !node.cordoned;
      keeping_.nodes += counts;
      keeping_.free += counts && node.phase == NodePhase::free;
      const bool owned = node.phase == NodePhase::owned || node.phase == NodePhase::lingering;
      if (owned && counts) ++owns_[node.owner];
      const bool ends = node.phase == NodePhase::lingering || node.phase == NodePhase::scrubbing;
      expect(ends == (node.deadline != kNever), "the deadline of node", id.value);
      if (ends) expect(node.deadline > now_ && state_.wake <= node.deadline, "the timer", id.value);
    });
    expect(state_.capacity == capacity, "the capacity");
    const auto near = [&](std::int64_t now, std::int64_t of) {
      expect(now * 15 <= of * 16 && of * 16 <= now * 17, "what shares are parts of");
    };
    near(capacity.cpu_millicores, state_.shares_of.cpu_millicores);
    near(capacity.memory_bytes, state_.shares_of.memory_bytes);
    near(capacity.gpu_millis, state_.shares_of.gpu_millis);
    expect(state_.lingering == lingering, "what lingers");
    expect(state_.scrubs == scrubs, "what is scrubbed for somebody");
  }

  void look_at_keeping() {
    for (const auto& [id, tenant] : state_.tenants) {
      expect(tenant.nodes == owns_[id], "the nodes", id.value);
      expect(tenant.keeps == (tenant.guarantee != Amounts{} && !tenant.shares &&
                              !tenant.dedicated && tenant.children == 0),
             "keeps a node", id.value);
      keeping_.tenants += tenant.keeps;
      keeping_.without += tenant.keeps && tenant.nodes == 0;
    }
    keeping_.shared = owns_[kSharedOwner];
    const Time at = state_.claims_at;
    expect(at == kNever || (at > now_ && state_.wake <= at), "when it may claim");
    expect(state_.keeping == keeping_, "what is kept");
  }

  std::vector<Aside> asides() const {
    std::vector<Aside> out;
    for (Fifo<Aside> rest = state_.aside; !rest.empty();) out.push_back(rest.pop_front());
    return out;
  }

  const State& state_;
  const Config& config_;
  const Time now_;
  const std::vector<Aside> asides_ = asides();
  std::map<TenantId, Amounts> in_use_, placed_, nominated_;
  std::map<TenantId, std::map<Turn, SandboxId>> waits_;
  std::map<TenantId, std::map<Priority, std::uint32_t>> priorities_;
  std::map<TenantId, std::set<Place>> lines_;
  std::set<TenantId> reclaimers_;
  std::map<GangKey, Gathering> gangs_;
  std::map<NodeId, std::uint32_t> on_node_;
  std::map<TenantId, std::uint32_t> owns_;
  Keeping keeping_;
  std::uint64_t waiting_ = 0, unplaced_ = 0;
};

// A root that answers every attempt at random, on nodes that nobody fills.
struct World {
  Config config;
  Tenancy tenancy;
  Random random;
  Time now{seconds(1).nanos};
  std::map<std::uint64_t, SandboxAsked> asked{};  // by sandbox, all that ever were
  std::map<std::uint64_t, NodeId> nodes{};        // by slot, those that are there
  std::uint64_t gangs = 0;
  std::map<std::string, int> seen{};  // what was reached

  World(std::uint64_t key, Config how) : config(how), tenancy(how), random{key, 0} {
    for (std::uint64_t slot = 1; slot <= 5; ++slot) join(slot);
    for (std::uint64_t id = 1; id <= 8; ++id) add(id);
  }

  template <class E>
  void tell(const E& event) {
    hear(test::tell(tenancy, now, event));
  }
  void hear(const std::vector<Effect>& effects) {
    for (const auto& attempt : test::said<TryPlace>(effects)) answer(attempt);
    for (const auto& one : test::said<RefuseSandbox>(effects)) {
      ++seen[rule_name(one.rule)];
      RC_ASSERT(!asked.at(one.sandbox.value).again || one.rule == Rule::unknown_tenant);
      RC_ASSERT(tenancy.state().held.find(one.sandbox) == nullptr);
    }
    for (const auto& one : test::said<ScrubNode>(effects)) {
      ++seen["scrub"];
      RC_ASSERT(tenancy.state().nodes.find(one.node)->phase == NodePhase::scrubbing);
    }
  }
  void check() {
    const std::string fault = Inspection(tenancy.state(), config, now).fault;
    if (!fault.empty()) RC_FAIL(fault);
  }

  // ---- who gives way to whom, read plainly

  bool room(const Tenant& tenant, const Amounts& more) const {
    return speaks_of(tenant.guarantee, more) && allows(tenant.guarantee, tenant.placed, more);
  }
  // In the order `quotas`: within the guarantee, or where it is more than all of that, as the only one
  // that uses that resource.
  bool may(const Tenant& tenant, const Amounts& wish) const {
    if (config.order != Order::quotas) return true;
    Amounts has = tenant.placed;
    has.add(tenant.nominated, 1);
    const auto all = what_counts(tenant.guarantee, has, wish);
    return std::all_of(all.begin(), all.end(), [](const auto& one) {
      const auto [limit, used, asked] = one;
      return asked > limit ? used == 0 : used + asked <= limit;
    });
  }
  std::vector<Resources> parts(const Held& held) const {
    std::vector<Resources> all{held.resources};
    const Gathering* gang = held.gang ? tenancy.gathering(held.tenant, held.gang) : nullptr;
    if (gang == nullptr) return all;
    all.clear();
    for (const SandboxId id : gang->members) {
      all.push_back(tenancy.state().held.find(id)->resources);
    }
    return all;
  }
  int rank(const Held& held) const {
    Amounts wish;
    for (const Resources& one : parts(held)) wish.add(amounts_of(one), 1);
    const Tenant& tenant = tenancy.state().tenants.at(held.tenant);
    if (room(tenant, wish)) return 0;
    for (TenantId at = tenant.parent; at; at = tenancy.state().tenants.at(at).parent) {
      if (room(tenancy.state().tenants.at(at), wish)) return 1;
    }
    return 2;
  }
  bool passes(const Held& one, const Held& aged) const {
    if (one.tenant == aged.tenant) return true;  // it was the next of its own
    if (config.order != Order::fair) return one.ticket < aged.ticket;
    const auto share = [&](const Held& held) {
      return tenancy.state().tenants.at(held.tenant).share;
    };
    return std::pair(rank(one), share(one)) < std::pair(rank(aged), share(aged)) &&
           (rank(one) < rank(aged) || share(one) < share(aged));
  }
  struct Probe {
    std::int64_t cpu, gib;
    int gpus;
    std::uint64_t pool;
    bool reserved;
  };
  bool could_hold(const Probe& node, const Held& held) const {
    if (held.pool ? held.pool.value != node.pool : node.reserved) return false;
    std::int64_t cpu = INT64_MAX, memory = INT64_MAX;
    int gpus = 16;
    for (const Resources& one : parts(held)) {
      cpu = std::min(cpu, one.cpu_millicores);
      memory = std::min(memory, one.memory_bytes);
      gpus = std::min(gpus, one.gpus);
    }
    return cpu <= node.cpu && memory <= node.gib << 30 && gpus <= node.gpus;
  }
  bool spares(const Probe& node, SandboxId sandbox, const Held& held) const {
    const State& state = tenancy.state();
    for (const auto& [id, tenant] : state.tenants) {
      if (!tenant.reclaims || rank(held) != 2 || id == held.tenant) continue;
      if (could_hold(node, *state.held.find(tenant.waiting.begin()->second))) return true;
    }
    for (const SandboxId aged : state.aged) {
      if (aged == sandbox) return false;  // those after it wait for it
      const Held& theirs = *state.held.find(aged);
      const Tenant& waits = state.tenants.at(theirs.tenant);
      if (waits.waiting.empty() || waits.waiting.begin()->second != aged) continue;  // not yet its turn
      Amounts wish;
      for (const Resources& one : parts(theirs)) wish.add(amounts_of(one), 1);
      if (!may(waits, wish)) continue;  // it may not be placed itself
      if (!passes(held, theirs) && could_hold(node, theirs)) return true;
    }
    return false;
  }
  // Held against what the machine says, for nodes of many kinds that it may use.
  void check_spare(const TryPlace& attempt, const Held& held) {
    for (int i = 0; i < 12; ++i) {
      const auto below = [&](std::uint64_t most) { return static_cast<std::int64_t>(random.below(most)); };
      const Probe node{500 * below(6), below(5), static_cast<int>(below(2)), 1 + random.below(2),
                       random.below(4) == 0};
      if (held.pool ? held.pool.value != node.pool : node.reserved) continue;
      const bool said = std::any_of(
          attempt.spare.begin(), attempt.spare.end(), [&](const Wish& wish) {
            Held one;
            one.resources = wish.resources;
            one.pool = wish.pool;
            return could_hold(node, one);
          });
      RC_ASSERT(said == spares(node, attempt.sandbox, held));
      seen[said ? "spared" : "not spared"] += 1;
    }
  }

  NodeId node_for(TenantId owner, bool own_only) {
    for (int tries = 0; tries < 4; ++tries) {
      const auto at = nodes.find(1 + random.below(5));
      if (at == nodes.end()) return {99};  // one that nobody knows any more
      const Node& node = *tenancy.state().nodes.find(at->second);
      if (node.phase == NodePhase::free && !own_only) return at->second;
      if (node.phase != NodePhase::scrubbing && node.owner == owner) return at->second;
    }
    return {99};
  }
  void answer(const TryPlace& attempt) {
    const SandboxAsked& ask = asked.at(attempt.sandbox.value);
    RC_ASSERT(attempt.owner_key == tenancy.owner_key(ask.tenant));
    RC_ASSERT(tenancy.state().held.find(attempt.sandbox)->phase == Phase::trying);
    // What is free is kept, but not from who has nothing.
    const Keeping& all = tenancy.state().keeping;
    const Tenant& asks = tenancy.state().tenants.at(ask.tenant);
    const Held& held = *tenancy.state().held.find(attempt.sandbox);
    const bool kept = config.keep_first_node && config.separate_tenants &&
                      config.order == Order::fair && all.without > 0 && all.free <= all.without &&
                      all.tenants <= all.nodes && !ask.pool && !ask.grows &&
                      (asks.shares ? all.shared : asks.nodes) > 0 &&
                      now - std::max(asks.last_placed, held.since) < config.bypass_max;
    const bool borrows = asks.guarantee == Amounts{} && !asks.parent;
    RC_ASSERT(!attempt.own_only || kept);
    RC_ASSERT(attempt.own_only || !kept || !borrows);
    seen["own_only"] += attempt.own_only;
    const bool limited = config.keep_first_node && config.separate_tenants &&
                         config.order == Order::fair && all.without > 0 &&
                         all.tenants <= all.nodes && !ask.pool && !ask.grows && rank(held) == 2 &&
                         now - std::max(asks.last_placed, held.since) < config.bypass_max;
    const bool has_one = (asks.shares ? all.shared : asks.nodes) > 0;
    const int left = static_cast<int>(all.free) - static_cast<int>(all.without) +
                     (asks.keeps && !has_one ? 1 : 0);
    const auto most = static_cast<std::uint32_t>(std::max(left, has_one ? 0 : 1));
    RC_ASSERT(attempt.claims_max == (limited ? most : kAnyNumber));
    RC_ASSERT(attempt.own_only == (attempt.claims_max == 0));
    Amounts wish;
    for (const Resources& one : parts(held)) wish.add(amounts_of(one), 1);
    RC_ASSERT(may(asks, wish));
    check_spare(attempt, held);
    const std::uint64_t how = random.below(5);
    if (how < 2) {
      ++seen["placed"];
      std::vector<SandboxId> all{attempt.sandbox};
      if (ask.gang) {
        const auto& members = tenancy.gathering(ask.tenant, ask.gang)->members;
        RC_ASSERT(members.size() == ask.gang.size && members.contains(attempt.sandbox));
        all.assign(members.begin(), members.end());
        ++seen["gang"];
      }
      for (const SandboxId id : all) {
        tell(SandboxPlaced{id, node_for(attempt.owner_key, attempt.own_only), false});
      }
    } else if (how == 2 && !ask.gang) {
      ++seen["nominated"];
      tell(SandboxNominated{attempt.sandbox});
    } else {
      const bool late = now - held.since >= config.bypass_max;
      const Held was = held;
      tell(NotPlaced{attempt.sandbox});
      const auto& aged = tenancy.state().aged;
      RC_ASSERT(!late || aged.size() == 8u ||
                std::any_of(aged.begin(), aged.end(), [&](SandboxId id) {
                  const Held& one = *tenancy.state().held.find(id);
                  return id == attempt.sandbox || one.pool == was.pool;
                }));
    }
  }

  void join(std::uint64_t slot) {
    NodeShape shape;
    shape.cpu_millicores = 8000;
    shape.memory_bytes = std::int64_t{32} << 30;
    shape.gpus = slot == 3 ? 4 : 0;
    shape.sandboxes_max = 100;
    nodes[slot] = {slot | (1 + random.below(1000)) << 32};
    tell(NodeJoined{nodes[slot], shape, {slot == 5 ? 3ULL : 0ULL}, slot == 4, {1 + slot % 2}});
  }
  void add(std::uint64_t id) {
    TenantAdded one;
    one.tenant = {id};
    one.weight = static_cast<std::uint32_t>(random.below(4));
    one.shares = random.below(4) == 0;
    one.parent = {random.below(3) == 0 ? random.below(9) : 0};
    one.dedicated_pool = {random.below(8) == 0 ? 2ULL : 0ULL};
    if (random.below(3) == 0) one.quota.sandboxes = 4;
    if (random.below(5) == 0) one.quota.cpu_millicores = 6000;
    if (random.below(5) == 0) one.quota.memory_bytes = std::int64_t{7} << 30;
    if (random.below(5) == 0) one.quota.gpu_millis = 1000;
    if (random.below(2) == 0) one.guarantee.cpu_millicores = 1000 * random.below(5);
    if (random.below(3) == 0) one.guarantee.memory_bytes = random.below(9) << 30;
    if (random.below(4) == 0) one.guarantee.sandboxes = 2;
    if (random.below(4) == 0) one.guarantee.gpu_millis = 500 * (1 + random.below(3));
    tell(one);
  }
  SandboxAsked fresh() {
    SandboxAsked one;
    one.sandbox = {asked.size() + 1};
    one.tenant = {1 + random.below(9)};
    one.resources.cpu_millicores = 500 * static_cast<std::int64_t>(random.below(5));
    one.resources.memory_bytes = static_cast<std::int64_t>(random.below(4)) << 30;
    if (random.below(4) == 0) one.resources.gpus = 1, one.resources.gpu_millis = 500;
    one.pool = {random.below(3)};
    one.grows = random.below(2) == 0 ? one.pool : PoolId{};
    one.priority = static_cast<Priority>(random.below(3));
    one.again = random.below(6) == 0;
    return one;
  }
  void ask(const SandboxAsked& one) {
    asked[one.sandbox.value] = one;
    tell(one);
  }
  // Its members one after the other; now and then one never comes.
  void ask_gang() {
    const SandboxAsked first = fresh();
    const std::uint64_t size = 1 + random.below(3);
    ++gangs;
    for (std::uint64_t left = size - (random.below(4) == 0); left > 0; --left) {
      SandboxAsked one = fresh();
      one.tenant = first.tenant;
      one.priority = first.priority;
      one.pool = first.pool;
      one.gang = {gangs, static_cast<std::uint32_t>(size)};
      ask(one);
      check();
    }
  }
  SandboxId some() { return {1 + random.below(asked.size() + 1)}; }
  SandboxId some_held() {
    std::vector<SandboxId> all;
    tenancy.state().held.for_each([&](SandboxId id, const Held&) { all.push_back(id); });
    return all.empty() ? SandboxId{1} : all[random.below(all.size())];
  }
  // Answers that nobody waits for, late ones and repeated ones.
  void confuse() {
    const SandboxId id = some();
    const Held* held = tenancy.state().held.find(id);
    switch (random.below(7)) {
      case 5: return tell(NodeCordoned{{1 + random.below(5)}, true});  // of long ago
      case 0: return tell(NotPlaced{id});
      case 1: return tell(SandboxNominated{id});
      case 2: return held != nullptr && held->phase == Phase::placed
                         ? tell(SandboxPlaced{id, {1}, false})
                         : tell(SandboxPlaced{{asked.size() + 7}, {1}, false});
      case 3: return asked.contains(id.value) && held != nullptr ? tell(asked.at(id.value)) : void();
      case 4: return tell(NodeScrubbed{{1 + random.below(5)}});
      default: return tell(NextAttempt{});
    }
  }
  void settle_nominated() {
    const SandboxId id = some_held();
    const Held* held = tenancy.state().held.find(id);
    if (held == nullptr || held->phase != Phase::nominated) return tell(NominationLost{id});
    if (random.below(2) == 0) {
      tell(NominationLost{id});
    } else {
      tell(SandboxPlaced{id, node_for(tenancy.owner_key(held->tenant), false), false});
    }
  }
  void round() {
    tell(CapacityFreed{});
    int attempts = 0;
    while (tenancy.round_open()) {
      tell(NextAttempt{});
      check();
      RC_ASSERT(++attempts < 1000);
    }
  }
  void pass() {
    const Time end = now + seconds(1 + static_cast<std::int64_t>(random.below(200)));
    while (tenancy.state().wake <= end) {
      now = std::max(now, tenancy.state().wake);
      tell(Woken{});
      check();
    }
    now = end;
  }
  void scrubbed() {
    for (const auto& [slot, id] : nodes) {
      const Node& node = *tenancy.state().nodes.find(id);
      if (node.phase != NodePhase::scrubbing || random.below(2) == 0) continue;
      const auto effects = test::tell(tenancy, now, NodeScrubbed{id});
      RC_ASSERT(test::said<SetOwner>(effects).at(0) == (SetOwner{id, {}, true}));
    }
  }
  void cordon() {
    for (const auto& [slot, id] : nodes) {
      if (random.below(3) == 0) tell(NodeCordoned{id, random.below(2) == 0});
    }
  }
  // Nodes beside those where anything is placed come and go, small ones and large ones.
  void grow() {
    const NodeId id{(1ULL << 32) + 6 + random.below(3)};
    if (tenancy.state().nodes.find(id) != nullptr) return tell(NodeGone{id});
    NodeShape shape;
    shape.cpu_millicores = random.below(2) == 0 ? 200 : 64'000;
    shape.memory_bytes = random.below(2) == 0 ? 1 << 28 : std::int64_t{64} << 30;
    shape.gpus = random.below(2) == 0 ? 8 : 0;
    tell(NodeJoined{id, shape, {}, true});
  }
  void act() {
    switch (random.below(15)) {
      case 14: grow(); break;
      case 13: cordon(); break;
      case 0: case 1: case 2: ask(fresh()); break;
      case 3: ask_gang(); break;
      case 4: case 5: tell(SandboxEnded{some_held()}); break;
      case 6: tell(SandboxCancelled{random.below(3) == 0 ? some() : some_held()}); break;
      case 7: case 8: round(); break;
      case 9: pass(); break;
      case 10: confuse(); break;
      case 11: settle_nominated(); break;
      default: scrubbed(); break;
    }
    check();
  }
};

Config any_config() {
  Config config;
  config.order = *rc::gen::element(Order::fair, Order::fair, Order::first_come, Order::quotas);
  config.tries_per_event = *rc::gen::inRange(1u, 5u);
  config.owner_linger = seconds(*rc::gen::element(0, 60));
  config.separate_tenants = *rc::gen::element(true, true, false);
  config.bypass_max = seconds(*rc::gen::element(0, 100, 300));
  config.pending_max = *rc::gen::element(2u, 1000u);
  config.pending_per_tenant_max = *rc::gen::element(1u, 1000u);
  return config;
}

RC_GTEST_PROP(Tenancy, WhatItDerivesStaysRight, (std::uint64_t key)) {
  World world(key, any_config());
  for (int i = 0; i < 150; ++i) world.act();
}

// What a tenant is told anew counts from then on, whatever it has.
RC_GTEST_PROP(Tenancy, WhatItDerivesStaysRightWhenTenantsChange, (std::uint64_t key)) {
  World world(key, any_config());
  for (int i = 0; i < 100; ++i) {
    world.act();
    if (i % 5 != 0) continue;
    world.add(1 + world.random.below(9));
    world.check();
  }
}

// Everything is given back once all have ended.
RC_GTEST_PROP(Tenancy, NothingIsLeftOfWhatHasEnded, (std::uint64_t key)) {
  World world(key, any_config());
  for (int i = 0; i < 80; ++i) world.act();
  for (const auto& [id, ask] : world.asked) world.tell(SandboxEnded{{id}});
  const State& state = world.tenancy.state();
  RC_ASSERT(state.held.size() == 0u && state.unplaced == 0u && state.gangs.empty() && state.aged.empty());
  RC_ASSERT(state.reclaimers.empty() && state.line.empty());
  world.pass();
  world.check();
}

// Guards the properties above against a world that reaches too little.
TEST(TenancyProperty, RandomWorldsReachEveryAnswer) {
  std::map<std::string, int> seen;
  for (std::uint64_t key = 0; key < 120; ++key) {
    Config config;
    config.order = static_cast<Order>(key % 3);
    config.pending_max = key % 2 == 0 ? 2 : 1000;
    config.pending_per_tenant_max = key % 4 == 3 ? 1000 : 1;
    World world(key, config);
    for (int i = 0; i < 150; ++i) world.act();
    for (const auto& [what, count] : world.seen) seen[what] += count;
  }
  for (const char* what : {"unknown_tenant", "quota_cpu", "quota_memory", "quota_gpu", "quota_sandboxes",
                           "pending_limit", "pending_limit_of_tenant", "placed", "gang",
                           "nominated", "scrub"}) {
    EXPECT_GE(seen[what], 4) << what;
  }
}

}  // namespace
}  // namespace chalk::tenancy
