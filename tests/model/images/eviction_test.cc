#include "model/images/eviction.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <map>
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
