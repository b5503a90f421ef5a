#include "model/images/eviction.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <set>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "model/images/cache.h"
#include "tests/support/said.h"

namespace chalk::images {
namespace {

using test::said;
using test::tell;

EvictionRule rule(CachePolicy policy) {
  EvictionRule out;
  out.policy = policy;
  return out;
}

// A cache that is asked for one layer at a time, each let go at once; it evicts as a full one does.
class One {
 public:
  One(CachePolicy policy, std::int64_t capacity) : rule_(rule(policy)), capacity_(capacity) {}
  bool use(std::uint64_t layer, std::int64_t bytes) {
    const bool hit = bytes_.contains(layer);
    if (!hit) {
      for (; used_ + bytes > capacity_; gone_.push_back(out_)) {
        out_ = order_.victim(rule_, capacity_).value;
        used_ -= bytes_.at(out_);
        bytes_.erase(out_);
      }
      bytes_[layer] = bytes;
      used_ += bytes;
    }
    order_.used(rule_, capacity_, {layer}, bytes);
    order_.let_go(rule_, {layer});
    order_.released({layer});
    return hit;
  }
  std::vector<std::uint64_t> gone() { return std::exchange(gone_, {}); }
  std::int64_t idle_bytes() const { return order_.idle_bytes(); }
  std::int64_t used() const { return used_; }

 private:
  EvictionRule rule_;
  std::int64_t capacity_;
  Eviction order_;
  std::map<std::uint64_t, std::int64_t> bytes_;
  std::int64_t used_ = 0;
  std::uint64_t out_ = 0;
  std::vector<std::uint64_t> gone_;
};
constexpr std::int64_t kMega = 1 << 20;
using Gone = std::vector<std::uint64_t>;

TEST(Eviction, LruTakesWhatWasLetGoLongestAgo) {
  One cache(CachePolicy::lru, 3);
  for (const std::uint64_t layer : {1, 2, 3, 1, 4}) cache.use(layer, 1);
  EXPECT_EQ(cache.gone(), Gone{2});
}

TEST(Eviction, TheHandOfSieveSparesOnceWhatWasUsedAndKeepsItsPlace) {
  One cache(CachePolicy::sieve, 3);
  for (const std::uint64_t layer : {1, 2, 3, 1, 2, 4}) cache.use(layer, 1);
  EXPECT_EQ(cache.gone(), Gone{3}) << "1 and 2 had been used again";
  cache.use(5, 1);
  EXPECT_EQ(cache.gone(), Gone{4}) << "the hand stands after 3";
  cache.use(6, 1);
  cache.use(7, 1);
  EXPECT_EQ(cache.gone(), (Gone{5, 6})) << "new ones go before the hand comes round";
}

TEST(Eviction, S3FifoLetsWhatIsUsedOnceGoByTheSmallQueueAndRemembersIt) {
  One cache(CachePolicy::s3_fifo, 100);
  for (int turn = 0; turn < 3; ++turn) {
    for (std::uint64_t layer = 1; layer <= 80; ++layer) cache.use(layer, 1);
  }
  for (std::uint64_t layer = 1001; layer <= 1200; ++layer) cache.use(layer, 1);
  for (const std::uint64_t layer : cache.gone()) EXPECT_GT(layer, 1000u) << "a scan";
  for (std::uint64_t layer = 1; layer <= 80; ++layer) EXPECT_TRUE(cache.use(layer, 1));
  EXPECT_FALSE(cache.use(1170, 1)) << "its name is remembered, so it comes into the main queue";
  for (std::uint64_t layer = 2001; layer <= 2040; ++layer) cache.use(layer, 1);
  EXPECT_TRUE(cache.use(1170, 1));
}

// What is in use is in neither queue: then the other one gives, whatever its share.
TEST(Eviction, S3FifoTakesFromTheQueueThatHasAnythingIdle) {
  const EvictionRule s3 = rule(CachePolicy::s3_fifo);
  const auto in_main = [&](Eviction& order, LayerId layer) {  // its name is remembered
    order.used(s3, 100, layer, 1);
    order.released(layer);
    ASSERT_EQ(order.victim(s3, 100), layer);
    order.used(s3, 100, layer, 1);
  };
  Eviction small_in_use;
  in_main(small_in_use, {1});
  small_in_use.released({1});
  small_in_use.used(s3, 100, {2}, 50);
  EXPECT_EQ(small_in_use.victim(s3, 100), LayerId{1});
  Eviction main_in_use;
  in_main(main_in_use, {1});
  main_in_use.used(s3, 100, {2}, 1);
  main_in_use.released({2});
  EXPECT_EQ(main_in_use.victim(s3, 100), LayerId{2});
}

TEST(Eviction, GdsfTakesTheLargerOfTwoThatAreUsedAlike) {
  One cache(CachePolicy::gdsf, 100 * kMega);
  cache.use(1, 60 * kMega);
  cache.use(2, 10 * kMega);
  cache.use(3, 50 * kMega);
  EXPECT_EQ(cache.gone(), Gone{1});
  for (int turn = 0; turn < 9; ++turn) cache.use(3, 50 * kMega);
  cache.use(4, 45 * kMega);
  EXPECT_EQ(cache.gone(), Gone{2}) << "50 MiB used ten times are worth more than 10 used once";
}

TEST(Eviction, SecondsRemembersTheUsesOfWhatWent) {
  One cache(CachePolicy::seconds, 100 * kMega);
  for (int turn = 0; turn < 8; ++turn) cache.use(1, 40 * kMega);
  cache.use(2, 80 * kMega);
  EXPECT_EQ(cache.gone(), Gone{1}) << "nothing else could go";
  cache.use(1, 40 * kMega);
  EXPECT_EQ(cache.gone(), Gone{2});
  cache.use(3, 40 * kMega);
  cache.use(3, 40 * kMega);
  cache.use(4, 40 * kMega);
  EXPECT_EQ(cache.gone(), Gone{3}) << "two uses of 3 are fewer than the nine of 1";
}

TEST(Eviction, SecondsForgetsOldUsesAsTheCacheIsFilledAnew) {
  One cache(CachePolicy::seconds, 100 * kMega);
  for (int turn = 0; turn < 100; ++turn) cache.use(1, 40 * kMega);
  std::uint64_t other = 100;
  bool stays = true;
  for (int turn = 0; turn < 200 && stays; ++turn) {  // 80 fillings: 20 half-lives
    for (int again = 0; again < 3; ++again) cache.use(other, 40 * kMega);
    ++other;
    for (const std::uint64_t layer : cache.gone()) stays = stays && layer != 1;
  }
  EXPECT_FALSE(stays);
}

TEST(Weight, AddsAndScalesLikeANumber) {
  EXPECT_EQ(Weight::of(5).plus(Weight::of(7)), Weight::of(12));
  EXPECT_EQ(Weight::of(1'000'000).times(1'000'000), Weight::of(1'000'000'000'000));
  EXPECT_EQ(Weight::of(1'000'000).over(1000), Weight::of(1000));
  EXPECT_EQ(Weight::power(10 << 16), Weight::of(1024));
  EXPECT_EQ(Weight().plus(Weight::of(3)), Weight::of(3));
  EXPECT_LT(Weight::power(99 << 16), Weight::power(100 << 16));
  EXPECT_EQ(Weight::power(99 << 16).plus(Weight::power(99 << 16)), Weight::power(100 << 16));
  EXPECT_EQ(Weight::of(0), Weight());
}

RC_GTEST_PROP(Weight, KeepsTheOrderOfNumbers, (std::uint64_t a, std::uint64_t b)) {
  a >>= 33, b >>= 33;  // what a mantissa holds exactly
  RC_ASSERT((a < b) == (Weight::of(a) < Weight::of(b)));
  RC_ASSERT(Weight::of(a).plus(Weight::of(b)) == Weight::of(a + b));
}

// What does not fit the mantissa is cut off, so each step is right to one part in 2^31.
RC_GTEST_PROP(Weight, ScalesAsNumbersDo, (std::uint64_t a, std::uint64_t b, std::uint64_t c)) {
  a >>= *rc::gen::inRange(0, 64), b >>= *rc::gen::inRange(0, 64), c >>= *rc::gen::inRange(1, 64);
  ++c;
  const auto near = [](Weight weight, long double number) {
    const long double is = std::ldexp(static_cast<long double>(weight.bits() & 0xFFFFFFFFu),
                                      static_cast<int>(static_cast<std::int64_t>(weight.bits() >> 32) -
                                                       (1 << 20)));
    return number == 0 ? weight == Weight() : std::abs(is / number - 1) < 0x1p-29L;
  };
  const auto x = static_cast<long double>(a), y = static_cast<long double>(b),
             z = static_cast<long double>(c);
  RC_ASSERT(near(Weight::of(a), x));
  RC_ASSERT(near(Weight::of(a).plus(Weight::of(b)), x + y));
  RC_ASSERT(near(Weight::of(a).times(b), x * y));
  RC_ASSERT(near(Weight::of(a).over(c), x / z));
  RC_ASSERT(near(Weight::of(a).times(b).over(c), x * y / z));
  RC_ASSERT(Weight::of(a).plus(Weight()) == Weight::of(a) && Weight().plus(Weight::of(a)) == Weight::of(a));
  RC_ASSERT(Weight::of(a).times(1) == Weight::of(a) && Weight::of(a).over(1) == Weight::of(a));
  const std::uint64_t age = a >> 40;
  const long double power = std::ldexp(1 + static_cast<long double>(age & 0xFFFF) / 65536,
                                       static_cast<int>(age >> 16));
  RC_ASSERT(near(Weight::power(age), power));
}

TEST(Weight, WhatIsFarLessAddsNothing) {
  for (const std::uint64_t apart : {32, 63, 64, 65, 70, 200}) {
    const Weight high = Weight::power(apart << 16), low = Weight::power(0);
    EXPECT_EQ(high.plus(low), high) << apart;
    EXPECT_EQ(low.plus(high), high) << apart;
  }
}

TEST(Weight, KeepsTheLastBitOfAMantissa) {
  constexpr std::uint64_t kOdd = 0xFFFF'FFFF;
  EXPECT_EQ(Weight::of(kOdd).bits() & kOdd, kOdd);
  EXPECT_EQ(Weight::of(kOdd).plus(Weight()), Weight::of(kOdd));
  EXPECT_EQ(Weight::of(kOdd).plus(Weight::of(1)), Weight::of(kOdd + 1));
  EXPECT_EQ(Weight::of(1).plus(Weight::of(1ULL << 31)), Weight::of((1ULL << 31) + 1)) << "31 apart";
  EXPECT_EQ(Weight::of(1).plus(Weight::of(1ULL << 32)), Weight::of(1ULL << 32)) << "32 apart";
}

TEST(Eviction, SecondsWeighsTheCostOfALayerBesideThatOfItsBytes) {
  // Each is used three times: 3 x 200 ms for 10 MB, and 3 x 1000 ms for 90 MB.
  One cache(CachePolicy::seconds, 100'000'000);
  for (int turn = 0; turn < 3; ++turn) cache.use(1, 10'000'000);
  for (int turn = 0; turn < 3; ++turn) cache.use(2, 90'000'000);
  cache.use(3, 5'000'000);
  EXPECT_EQ(cache.gone(), Gone{2});
}

// The orders in their plainest form, with queues that are walked from their heads.
class Plain {
 public:
  Plain(CachePolicy policy, std::int64_t capacity) : policy_(policy), capacity_(capacity) {}
  void use(std::uint64_t name, std::int64_t bytes) {
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const Layer& one) {
      return one.name == name;
    });
    if (found != all_.end()) {
      found->uses = std::min(found->uses + 1, policy_ == CachePolicy::gdsf ? 1 << 20 : kMost());
      if (policy_ == CachePolicy::gdsf) found->key = worth(*found);
      if (policy_ != CachePolicy::lru) return;
      const Layer again = *found;
      all_.erase(found);
      all_.push_back(again);
      return;
    }
    while (used() + bytes > capacity_) evict();
    Layer fresh{name, bytes, 0, false, ++clock_};
    if (policy_ == CachePolicy::s3_fifo) fresh.small = std::erase(ghosts_, std::pair(name, bytes)) == 0;
    if (policy_ == CachePolicy::gdsf) fresh.uses = 1, fresh.key = worth(fresh);
    all_.push_back(fresh);
  }
  Gone gone() { return std::exchange(gone_, {}); }

 private:
  struct Layer {
    std::uint64_t name;
    std::int64_t bytes;
    int uses;
    bool small;
    std::uint64_t key;
  };
  int kMost() const { return policy_ == CachePolicy::s3_fifo ? 3 : 1; }
  std::uint64_t worth(const Layer& one) const {
    const std::int64_t blocks = std::max<std::int64_t>(one.bytes, 4096);
    return inflation_ + (1ULL << 40) / static_cast<std::uint64_t>(blocks) * static_cast<std::uint64_t>(one.uses);
  }
  std::int64_t used() const {
    std::int64_t sum = 0;
    for (const Layer& one : all_) sum += one.bytes;
    return sum;
  }
  void take(std::vector<Layer>::iterator at) {
    gone_.push_back(at->name);
    all_.erase(at);
  }
  void evict() {
    if (policy_ == CachePolicy::lru) return take(all_.begin());
    if (policy_ == CachePolicy::gdsf) {
      const auto least = std::min_element(all_.begin(), all_.end(), [](const Layer& a, const Layer& b) {
        return std::pair(a.key, a.name) < std::pair(b.key, b.name);
      });
      inflation_ = least->key;
      return take(least);
    }
    if (policy_ == CachePolicy::sieve) {
      while (true) {
        auto at = std::find_if(all_.begin(), all_.end(), [&](const Layer& one) { return one.key >= hand_; });
        if (at == all_.end()) at = all_.begin();
        hand_ = at->key + 1;
        if (std::exchange(at->uses, 0) == 0) return take(at);
      }
    }
    while (true) {
      std::int64_t small = 0;
      for (const Layer& one : all_) small += one.small ? one.bytes : 0;
      const auto head = [&](bool in_small) {
        return std::find_if(all_.begin(), all_.end(), [&](const Layer& one) { return one.small == in_small; });
      };
      const bool from_small =
          head(true) != all_.end() && (head(false) == all_.end() || small >= capacity_ / 10);
      const auto at = head(from_small);
      if (at->uses <= (from_small ? 1 : 0)) {
        if (from_small) remember(*at);
        return take(at);
      }
      Layer moved = *at;  // to the end of the main queue
      all_.erase(at);
      moved.uses = from_small ? 0 : moved.uses - 1;
      moved.small = false;
      all_.push_back(moved);
    }
  }
  void remember(const Layer& one) {
    ghosts_.emplace_back(one.name, one.bytes);
    const auto bytes = [&] {
      std::int64_t sum = 0;
      for (const auto& ghost : ghosts_) sum += ghost.second;
      return sum;
    };
    while (bytes() > capacity_ / 10 * 9) ghosts_.erase(ghosts_.begin());
  }

  CachePolicy policy_;
  std::int64_t capacity_;
  std::vector<Layer> all_;  // in the order of their queues
  std::vector<std::pair<std::uint64_t, std::int64_t>> ghosts_;
  std::uint64_t clock_ = 0, hand_ = 0, inflation_ = 0;
  Gone gone_;
};

RC_GTEST_PROP(Eviction, TakesWhatItsPlainFormDoes, ()) {
  const auto policy = *rc::gen::element(CachePolicy::lru, CachePolicy::sieve, CachePolicy::s3_fifo,
                                        CachePolicy::s3_fifo, CachePolicy::gdsf);
  const std::int64_t unit = *rc::gen::element<std::int64_t>(1, 100'000);
  const std::int64_t capacity = 60 * unit;
  One cache(policy, capacity);
  Plain plain(policy, capacity);
  const auto draws = *rc::gen::container<std::vector<int>>(
      400, rc::gen::oneOf(rc::gen::inRange(1, 9), rc::gen::inRange(1, 60)));
  for (const int draw : draws) {
    const auto layer = static_cast<std::uint64_t>(draw);
    const std::int64_t bytes = unit * (1 + draw * draw % 7);
    cache.use(layer, bytes);
    plain.use(layer, bytes);
    RC_ASSERT(cache.gone() == plain.gone());
  }
}

// What an order keeps of its layers is what it was told, whatever policy it has.
void expect_whole(const Cache& cache, CachePolicy policy) {
  int field = 0;
  std::map<LayerId, std::tuple<std::uint64_t, std::int64_t, bool, bool>> entries;
  std::set<std::pair<std::uint64_t, LayerId>> ghosts;
  std::int64_t ghost_bytes = 0;
  const auto order_of = [&](bool small) {
    std::set<std::pair<std::uint64_t, LayerId>> out;
    for (const auto& [layer, one] : entries) {
      const auto& [key, bytes, in_small, idle] = one;
      if (idle && in_small == small) out.insert({key, layer});
    }
    return out;
  };
  const auto bytes_of = [&](bool only_idle) {
    std::int64_t sum = 0;
    for (const auto& [layer, one] : entries) {
      const auto& [key, bytes, in_small, idle] = one;
      if (only_idle ? idle : in_small) sum += bytes;
    }
    return sum;
  };
  for_each_field(cache.state().eviction, [&](const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    ++field;
    if constexpr (requires { value.begin()->second.uses; }) {
      for (const auto& [layer, one] : value) {
        entries[layer] = {one.key, one.bytes, one.small, one.idle};
        const CachedLayer& known = cache.state().layers.at(layer);
        RC_ASSERT(one.bytes == known.unpacked_bytes);
        RC_ASSERT(one.idle == (known.uses == 0 && known.phase == LayerPhase::present));
        RC_ASSERT(!one.small || policy == CachePolicy::s3_fifo);
      }
      RC_ASSERT(entries.size() == cache.state().layers.size());
    } else if constexpr (requires { value.begin()->second.weight; }) {
      for (const auto& [layer, one] : value) {
        ghosts.insert({one.key, layer});
        ghost_bytes += one.bytes;
        RC_ASSERT(!entries.contains(layer));
      }
    } else if constexpr (std::is_same_v<T, std::set<std::pair<std::uint64_t, LayerId>>>) {
      RC_ASSERT(value == (field == 9 ? ghosts : order_of(field == 3)));
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
      if (field == 4) RC_ASSERT(value == bytes_of(true));
      if (field == 5) RC_ASSERT(value == bytes_of(false));
      if (field == 10) RC_ASSERT(value == ghost_bytes);
    }
  });
  // The books of the cache itself.
  const CacheState& state = cache.state();
  std::map<LayerId, std::uint32_t> uses;
  std::int64_t bytes = 0;
  std::uint32_t holders = 0;
  for (const auto& [id, image] : state.images) {
    std::uint32_t missing = 0;
    std::set<LayerId> counted;
    for (const LayerSpec& spec : image.layers) {
      const auto found = state.layers.find(spec.layer);
      RC_ASSERT(found != state.layers.end() && found->second.images.contains(id));
      uses[spec.layer] += image.holders;
      missing += counted.insert(spec.layer).second && found->second.phase == LayerPhase::pulling;
    }
    RC_ASSERT(image.missing == missing);
    RC_ASSERT(missing > 0 || image.waiting.empty());
    holders += image.holders;
  }
  for (const auto& [id, layer] : state.layers) {
    RC_ASSERT(layer.uses == uses[id]);
    bytes += layer.unpacked_bytes;
  }
  RC_ASSERT(state.bytes == bytes && state.holds.size() <= holders);
  std::uint32_t running = 0;
  std::set<LayerId> pulled;
  for (const auto& [id, pull] : state.pulls) {
    running += pull.running;
    RC_ASSERT(!pull.running || !state.line.contains(id));
    for (const LayerId layer : pull.layers) {
      RC_ASSERT(pulled.insert(layer).second);
      RC_ASSERT(state.layers.at(layer).phase == LayerPhase::pulling);
    }
  }
  RC_ASSERT(state.pulling == running);
  for (const PullId id : state.line) RC_ASSERT(state.pulls.contains(id));
}

// Pulls that take their time, fail and are tried again, from peers and from the registry.
RC_GTEST_PROP(Eviction, WhatACacheDerivesStaysRight, ()) {
  CacheConfig config;
  config.capacity_bytes = *rc::gen::element(0, 150, 400);
  config.pulls_at_once = *rc::gen::inRange(1u, 4u);
  config.attempts = 2;
  config.eviction.policy = static_cast<CachePolicy>(*rc::gen::inRange(0, 5));
  Cache cache(config);
  Time now;
  std::uint64_t next = 0;
  std::vector<PullId> pulls;
  std::set<SandboxId> held;
  for (const auto& [draw, more] : *rc::gen::container<std::vector<std::pair<int, int>>>(
           rc::gen::pair(rc::gen::inRange(0, 12), rc::gen::inRange(0, 1000)))) {
    std::vector<CacheEffect> effects;
    if (draw < 5) {
      const int at = more % 20 + 1;
      ImageSpec image{ImageId{static_cast<std::uint64_t>(at)}, {}};
      for (int i = 1; i <= 3; ++i)
        image.layers.push_back({LayerId{static_cast<std::uint64_t>(at / i + 1)}, 1, 10 + 7 * (at / i % 5)});
      std::vector<NodeId> sources;
      if (more % 3 == 0) sources = {{5}, {6}};
      const SandboxId sandbox{draw == 0 ? 0 : ++next};
      if (sandbox) held.insert(sandbox);
      effects = tell(cache, now, Wanted{image, sandbox, sources});
    } else if (draw < 8 && !pulls.empty()) {
      const PullId pull = pulls[static_cast<std::size_t>(more) % pulls.size()];
      effects = tell(cache, now, PullFinished{pull, more % 4 != 0, {}, more % 40 == 4});
    } else if (draw < 10 && !held.empty()) {
      const auto gone = std::next(held.begin(), more % static_cast<int>(held.size()));
      effects = tell(cache, now, LetGo{*gone});
      held.erase(gone);
    } else {
      now = now + seconds(more % 7);
      effects = tell(cache, now, Woken{});
    }
    for (const auto& pull : said<PullLayers>(effects)) pulls.push_back(pull.pull);
    if (pulls.size() > 12) pulls.erase(pulls.begin());
    for (const auto& no : said<ImageUnavailable>(effects)) held.erase(no.sandbox);
    for (const SandboxId sandbox : held) RC_ASSERT(cache.state().holds.contains(sandbox));
    RC_ASSERT(cache.state().holds.size() == held.size());
    RC_ASSERT(config.capacity_bytes == 0 || cache.state().bytes <= config.capacity_bytes);
    expect_whole(cache, config.eviction.policy);
  }
}

// Under every policy, whatever comes: bytes within the capacity, what is in use stays, and a cache
// that is full of unused layers has room for anything that fits at all.
RC_GTEST_PROP(Eviction, NoPolicyEvictsWhatIsInUseOrExceedsItsBytes, ()) {
  CacheConfig config;
  config.capacity_bytes = *rc::gen::inRange(120, 1000);
  config.eviction.policy = static_cast<CachePolicy>(*rc::gen::inRange(0, 5));
  Cache cache(config);
  std::map<SandboxId, ImageSpec> held;
  std::uint64_t next = 0;
  for (const auto& [layer, hold] :
       *rc::gen::container<std::vector<std::pair<std::uint8_t, bool>>>(
           rc::gen::pair(rc::gen::inRange<std::uint8_t>(1, 40), rc::gen::arbitrary<bool>()))) {
    ImageSpec image{ImageId{layer}, {}};
    for (std::uint64_t i = 1; i <= 3; ++i)
      image.layers.push_back(
          {LayerId{layer / i + 1}, 1, 10 + 7 * (static_cast<int>(layer / i) % 5)});
    const SandboxId sandbox{++next};
    const auto effects = tell(cache, {}, Wanted{image, sandbox});
    for (const auto& gone : said<EvictLayers>(effects)) {
      for (const auto& [other, used] : held) {
        for (const LayerSpec& one : used.layers) RC_ASSERT(one.layer != gone.layers.front());
      }
    }
    for (const auto& pull : said<PullLayers>(effects)) {
      tell(cache, {}, PullFinished{pull.pull, true});
    }
    if (held.empty()) RC_ASSERT(said<ImageUnavailable>(effects).empty());
    if (said<ImageUnavailable>(effects).empty()) held[sandbox] = image;
    while (!held.empty() && (!hold || held.size() > 2)) {
      tell(cache, {}, LetGo{held.begin()->first});
      held.erase(held.begin());
    }
    RC_ASSERT(cache.state().bytes <= config.capacity_bytes);
    std::int64_t idle = 0;
    for (const auto& [id, one] : cache.state().layers) {
      if (one.uses == 0) idle += one.unpacked_bytes;
    }
    RC_ASSERT(idle == cache.state().eviction.idle_bytes());
  }
}

}  // namespace
}  // namespace chalk::images
