#include "model/fleet/packing.h"

#include <algorithm>
#include <utility>

namespace chalk::fleet {
namespace {

struct Bin {
  TenantId owner;
  bool owned = false;
  Amounts left;
  std::int64_t starts = 0;
};

Bin empty_bin(const NodeShape& shape) { return {{}, false, all_of(shape), shape.start_slots}; }

std::int64_t gpu_millis_of(const Resources& ask) {
  return std::int64_t{ask.gpus} * ask.gpu_millis;
}

// How often the ask fits into what is free.
std::int64_t times(const Bin& bin, const Waiting& kind) {
  const Resources& ask = kind.ask;
  const Amounts& left = bin.left;
  std::int64_t most = kind.gangs ? std::min(left.sandboxes, bin.starts) : left.sandboxes;
  const auto within = [&](std::int64_t free, std::int64_t each) {
    if (each > 0) most = std::min(most, free / each);
  };
  within(left.cpu_millicores, ask.cpu_millicores);
  within(left.memory_bytes, ask.memory_bytes);
  within(left.disk_bytes, ask.disk_bytes);
  within(left.gpu_millis, gpu_millis_of(ask));
  return most;
}

void take(Bin& bin, const Waiting& kind, std::int64_t count) {
  bin.owner = kind.owner;
  bin.owned = kind.owned;
  bin.left.cpu_millicores -= count * kind.ask.cpu_millicores;
  bin.left.memory_bytes -= count * kind.ask.memory_bytes;
  bin.left.disk_bytes -= count * kind.ask.disk_bytes;
  bin.left.gpu_millis -= count * gpu_millis_of(kind.ask);
  bin.left.sandboxes -= count;
  if (kind.gangs) bin.starts -= count;
}

bool may_use(const Offer& offer, const Waiting& kind) {
  const bool allowed = kind.pool ? kind.pool == offer.pool : !offer.reserved;
  return allowed && fits(offer.shape, kind.ask);
}

// Bins of one offer, opened while there are any; what finds no place stays in `waiting`.
struct Packed {
  std::vector<Bin> bins;
  std::int64_t held = 0;  // weight of what was put there

  std::uint32_t permille(const NodeShape& shape) const {
    std::uint32_t sum = 0;
    for (const Bin& bin : bins) sum += bin.owned ? 1000 : taken_permille(bin.left, shape);
    return sum;
  }
};

std::int64_t weight(const Resources& ask) {
  return static_cast<std::int64_t>(
      weight(Amounts{ask.cpu_millicores, ask.memory_bytes, 0, gpu_millis_of(ask), 0}));
}

Packed pack(std::vector<Waiting>& waiting, const Offer& offer, std::uint32_t most) {
  Packed packed;
  for (Waiting& kind : waiting) {
    if (kind.count == 0 || !may_use(offer, kind)) continue;
    const auto put = [&](Bin& bin) {
      const std::int64_t count = std::min(kind.count, times(bin, kind));
      if (count <= 0) return;
      take(bin, kind, count);
      kind.count -= count;
      packed.held += count * weight(kind.ask);
    };
    for (Bin& bin : packed.bins) {
      if (kind.count != 0 && bin.owner == kind.owner) put(bin);
    }
    while (kind.count != 0 && packed.bins.size() < most) {
      packed.bins.push_back(empty_bin(offer.shape));
      const std::int64_t before = kind.count;
      put(packed.bins.back());
      if (kind.count == before) break;  // a node that holds no sandbox at all
    }
  }
  return packed;
}

Shares shares_of(const Packed& packed, const NodeShape& shape) {
  Shares shares;
  for (const Bin& bin : packed.bins) {
    Share& share = shares[bin.owner];
    share.amounts += taken(bin.left, shape);
    ++share.nodes;
  }
  return shares;
}

// Less is better; in millionths of a node, or price for each weight held.
std::int64_t score(const Packed& packed, const Offer& offer, Expander expander) {
  const auto nodes = static_cast<std::int64_t>(packed.bins.size());
  if (expander != Expander::least_waste) {
    return static_cast<std::int64_t>(Wide(offer.price) * nodes * 1'000'000 / packed.held);
  }
  std::int64_t left = 0;
  for (const Bin& bin : packed.bins) {
    const std::int64_t cpu = offer.shape.cpu_millicores;
    if (cpu > 0) left += bin.left.cpu_millicores * 1'000'000 / cpu;
    const std::int64_t memory = offer.shape.memory_bytes >> 20;
    if (memory > 0) left += (bin.left.memory_bytes >> 20) * 1'000'000 / memory;
  }
  return left / nodes;
}

struct Choice {
  const Offer* offer = nullptr;
  Packed packed;
  std::vector<Waiting> left;  // what is not in it
};

// Pools that are alike are compared by all that runs, and the best of each kind by what it would
// hold: between kinds that would say nothing.
Choice best_of(std::vector<Choice> choices, Expander expander, const AllThatRuns& all) {
  if (expander == Expander::cheapest_for_all) {
    std::vector<Choice> best;
    for (Choice& one : choices) {
      const auto same = std::find_if(best.begin(), best.end(), [&](const Choice& other) {
        return alike(*one.offer, *other.offer);
      });
      if (same == best.end()) {
        best.push_back(std::move(one));
      } else if (all.cheaper(*one.offer, shares_of(one.packed, one.offer->shape), *same->offer,
                             shares_of(same->packed, same->offer->shape))) {
        *same = std::move(one);
      }
    }
    choices = std::move(best);
  }
  return std::move(*std::min_element(
      choices.begin(), choices.end(), [&](const Choice& a, const Choice& b) {
        return score(a.packed, *a.offer, expander) < score(b.packed, *b.offer, expander);
      }));
}

}  // namespace

std::vector<Need> nodes_needed(std::vector<Waiting> waiting, const std::vector<Offer>& offers,
                               Expander expander, const std::vector<Running>& running) {
  std::stable_sort(waiting.begin(), waiting.end(), [](const Waiting& a, const Waiting& b) {
    return weight(a.ask) > weight(b.ask);
  });
  AllThatRuns all(offers, running);
  std::vector<Need> needs(offers.size());
  for (std::size_t i = 0; i < offers.size(); ++i) {
    const Packed packed = pack(waiting, offers[i], offers[i].ready);
    needs[i].ready = static_cast<std::uint32_t>(packed.bins.size());
    needs[i].permille = packed.permille(offers[i].shape);
    for (const auto& [owner, share] : shares_of(packed, offers[i].shape)) {
      all.add({owner, offers[i].pool, share.amounts, {}, static_cast<std::uint32_t>(share.nodes), 1});
    }
  }
  // The best offer takes all that it may, then the best for what is left, and so on.
  while (true) {
    std::vector<Choice> choices;
    for (std::size_t i = 0; i < offers.size(); ++i) {
      const std::uint32_t room = offers[i].room - needs[i].buy;
      if (room == 0) continue;
      std::vector<Waiting> left = waiting;
      Packed packed = pack(left, offers[i], room);
      if (packed.held != 0) choices.push_back({&offers[i], std::move(packed), std::move(left)});
    }
    if (choices.empty()) return needs;
    Choice best = best_of(std::move(choices), expander, all);
    Need& need = needs[static_cast<std::size_t>(best.offer - offers.data())];
    need.buy += static_cast<std::uint32_t>(best.packed.bins.size());
    need.permille += best.packed.permille(best.offer->shape);
    waiting = std::move(best.left);
  }
}

}  // namespace chalk::fleet
