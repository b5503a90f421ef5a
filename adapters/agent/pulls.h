// Carries out what the machine orders about images: pulls of layers on a bounded number of threads,
// and removals. Orders name images and layers by number only; which registry and digests stand
// behind an image's number is learned from the payloads of start orders. Two images may have a
// layer in common and come from two registries, which need not have each other's.
#pragma once
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "adapters/agent/options.h"
#include "adapters/agent/workers.h"
#include "adapters/images/registry.h"
#include "adapters/images/store.h"
#include "model/images/cache.h"

namespace chalk::agent {

class Pulls {
 public:
  // That are known; the rest is forgotten.
  static constexpr std::size_t kLayersMax = 200'000;
  static constexpr std::size_t kImagesMax = 10'000;

  using Finished = std::function<void(images::PullFinished)>;
  Pulls(images::Store& store, const images::Registry& registry, std::size_t threads,
        Finished finished, const Metrics& metrics);
  ~Pulls();

  void learn(ImageId id, const images::Image& image);
  void pull(images::PullLayers order);
  void cancel(images::CancelPull order);  // nothing is said of it, and what had come is removed
  void evict(images::EvictLayers order);
  // Removes stored layers that the machine does not know: those of a log that is gone, or pulled
  // and not told before a crash.
  void keep_only(const std::set<LayerId>& layers);
  void stop();  // what is under way is given up, and nothing is said of it

 private:
  struct Known {
    images::Reference repository;
    images::Layer layer;
  };
  struct Named {
    images::Image image;
    bool twice = false;  // by two names: where one has it not, the other may
  };
  struct Subset {
    images::Image image;
    bool is_own = false;  // all is asked of where the order's own image comes from
  };
  using UnderWay = std::multimap<images::PullId, std::stop_source>;  // an order may come twice

  std::optional<images::PullFinished> fetch(const images::PullLayers& order, std::stop_token stop);
  std::vector<std::int64_t> sizes(const images::Image& image,
                                  const std::vector<LayerId>& layers) const;
  bool goes_on(UnderWay::iterator pull);
  Result<Subset> subset(const images::PullLayers& order, const std::stop_token& stop);
  Result<images::Image> from_others(const std::vector<LayerId>& layers) const;
  void leave(const std::vector<LayerId>& layers);
  void remove(const std::vector<LayerId>& layers);

  images::Store& store_;
  const images::Registry& registry_;
  const Finished finished_;
  const Metrics& metrics_;
  mutable std::mutex mutex_;
  std::map<LayerId, Known> known_;  // as whoever named it last
  std::map<ImageId, Named> named_;
  std::condition_variable removed_;
  std::multiset<LayerId> leaving_;  // ordered to go: a later pull of the same layer waits for that
  UnderWay under_way_;  // or waiting for a thread
  std::stop_source stop_;
  Workers removals_{1};
  Workers workers_;
};

}  // namespace chalk::agent
