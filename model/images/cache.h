// Cache: the image layers on one node.
//
// In: images that are wanted, pulls that ended, sandboxes that let go. Out: pulls, evictions,
// answers. A layer is pulled once however many want it; layers in use are never evicted, which of
// the rest go when room is needed is eviction.h's. A pull tries the peers that it was told of, each
// once, and then the registry; a peer that fails or is slow is left for the next. A pull that
// nobody waits for any more goes on until another needs its place or its room. What a layer takes
// is a guess until its pull has ended. Invariants: bytes on disk plus bytes under way exceed
// capacity only by what layers took beyond their guess, and then nothing here is idle; every Wanted
// is answered once, by ImageReady or ImageUnavailable, unless it is let go before, and once more
// where its layers were lost since; while one is in line, all that run are waited for.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "model/core/machine.h"
#include "model/core/timers.h"
#include "model/images/eviction.h"
#include "model/protocol/protocol.h"

namespace chalk::images {

using PullId = Id<struct PullTag>;

struct CacheConfig {
  std::int64_t capacity_bytes = 0;  // of unpacked layers; 0: no limit
  std::uint32_t pulls_at_once = 3;
  std::uint32_t attempts = 3;   // per pull
  Duration retry = seconds(1);  // doubles with each attempt
  EvictionRule eviction;
  // A peer that has not sent all after so long, plus the bytes at this rate, is given up.
  Duration peer_patience = seconds(10);
  std::int64_t peer_bytes_per_second = 20'000'000;
  CHALK_FIELDS(CacheConfig, capacity_bytes, pulls_at_once, attempts, retry, eviction, peer_patience,
               peer_bytes_per_second)
};

struct Wanted {
  ImageSpec image;
  SandboxId sandbox;  // 0: to be warm for whoever comes
  std::vector<NodeId> sources = {};  // peers to try, in order, before the registry
  CHALK_FIELDS(Wanted, image, sandbox, sources)
};
struct PullFinished {
  PullId pull;
  bool good = true;
  std::string note = {};   // why not, in words
  bool permanent = false;  // where not good: the image itself is at fault, now and anywhere
  bool full = false;       // where not good: the disk had no room for it
  // Where good: what each of its layers takes, unpacked, in the order of PullLayers. Empty: as said
  // there.
  std::vector<std::int64_t> took = {};
  CHALK_FIELDS(PullFinished, pull, good, note, permanent, full, took)
};
struct LetGo {  // the sandbox ended, or does not want its image any more
  SandboxId sandbox;
  CHALK_FIELDS(LetGo, sandbox)
};
struct Resumed {  // the agent was restarted: pulls that were under way begin again
  CHALK_FIELDS(Resumed)
};
// Layers that were here are not any more, as after a loss of power before they were on the disk. Who
// holds an image with one of them waits for it again.
struct LayersLost {
  std::vector<LayerId> layers;
  CHALK_FIELDS(LayersLost, layers)
};
using CacheEvent = std::variant<Wanted, PullFinished, LetGo, Woken, Resumed, LayersLost>;

struct PullLayers {
  PullId pull;
  ImageId image;
  std::int64_t bytes = 0;
  std::int64_t unpacked_bytes = 0;
  std::vector<LayerId> layers;
  NodeId source = {};  // 0: the registry
  CHALK_FIELDS(PullLayers, pull, image, bytes, unpacked_bytes, layers, source)
};
// Nobody waits for it and others need its place, or its peer is left for the next. What of it has
// come is to go.
struct CancelPull {
  PullId pull;
  std::vector<LayerId> layers;
  CHALK_FIELDS(CancelPull, pull, layers)
};
struct EvictLayers {
  std::int64_t bytes = 0;
  std::vector<LayerId> layers;
  CHALK_FIELDS(EvictLayers, bytes, layers)
};
struct ImageReady {
  ImageId image;
  SandboxId sandbox;
  bool hit = false;  // nothing had to be pulled
  CHALK_FIELDS(ImageReady, image, sandbox, hit)
};
enum class Unavailable : std::uint8_t { pull_failed, no_room, bad_image };
struct ImageUnavailable {
  ImageId image;
  SandboxId sandbox;
  Unavailable rule{};
  std::int64_t needed = 0;  // attempts made, or bytes
  std::int64_t limit = 0;
  std::string note = {};
  CHALK_FIELDS(ImageUnavailable, image, sandbox, rule, needed, limit, note)
};
struct ImageChanged {
  ImageId image;
  bool cached = false;
  CHALK_FIELDS(ImageChanged, image, cached)
};
using CacheEffect = std::variant<PullLayers, EvictLayers, ImageReady, ImageUnavailable,
                                 ImageChanged, WakeAt, CancelPull>;

enum class LayerPhase : std::uint8_t { pulling, present };
struct CachedLayer {
  LayerPhase phase = LayerPhase::pulling;
  std::int64_t unpacked_bytes = 0;
  std::uint32_t uses = 0;    // sandboxes and pulls that hold it
  std::set<ImageId> images;  // that have it and are known here
  CHALK_FIELDS(CachedLayer, phase, unpacked_bytes, uses, images)
};
struct CachedImage {
  std::vector<LayerSpec> layers;
  std::uint32_t missing = 0;  // layers not present
  std::uint32_t holders = 0;  // sandboxes, and a wish to be warm until it is
  std::vector<SandboxId> waiting;
  CHALK_FIELDS(CachedImage, layers, missing, holders, waiting)
};
struct Pull {
  ImageId image;
  std::vector<LayerId> layers;
  std::int64_t bytes = 0;
  std::int64_t unpacked_bytes = 0;
  std::uint32_t attempt = 0;  // at the registry
  bool running = false;
  Time retry_at = kNever;
  std::vector<NodeId> sources;  // peers that are left; the first is asked
  Time give_up_at = kNever;     // running: when the peer is left for the next
  CHALK_FIELDS(Pull, image, layers, bytes, unpacked_bytes, attempt, running, retry_at, sources,
               give_up_at)
};
struct CacheState {
  std::map<LayerId, CachedLayer> layers;
  std::map<ImageId, CachedImage> images;
  std::map<SandboxId, ImageId> holds;  // sandboxes that hold or wait
  Eviction eviction;
  std::map<PullId, Pull> pulls;
  std::set<PullId> line;  // pulls that wait for a place
  std::uint32_t pulling = 0;
  std::int64_t bytes = 0;  // present and under way, unpacked
  std::uint64_t next_pull = 1;
  Timers<PullId> timers;
  Time wake = kNever;
  CHALK_FIELDS(CacheState, layers, images, holds, eviction, pulls, line, pulling, bytes, next_pull,
               timers, wake)
};

class Cache {
 public:
  using Config = CacheConfig;
  using Event = CacheEvent;
  using Effect = CacheEffect;
  using State = CacheState;
  using Effects = std::vector<Effect>;

  explicit Cache(Config config, State state = {}) : config_(config), state_(std::move(state)) {}

  void step(Time now, const Event& event, Effects& effects);
  const State& state() const { return state_; }
  // Whether it holds an image that is here as a whole.
  bool is_ready(SandboxId) const;

 private:
  void on(Time, const Wanted&, Effects&);
  void on(Time, const PullFinished&, Effects&);
  void on(Time, const Resumed&, Effects&);
  void on(Time, const LetGo&, Effects&);
  void on(Time, const Woken&, Effects&);
  void on(Time, const LayersLost&, Effects&);

  void hold(CachedImage&);
  void unhold(CachedImage&);
  bool make_room(std::int64_t bytes, Effects&);
  void evict(Effects&);
  void evict_at_least(std::int64_t bytes, Effects&);
  void learn_sizes(const std::vector<LayerId>&, const std::vector<std::int64_t>& took);
  void start_pulls(Time, Effects&);
  void next_source(PullId);
  void stop(PullId, Effects&);
  bool stop_one_unwanted(bool running, Effects&);
  bool is_wanted(const Pull&) const;
  std::set<ImageId> images_of(const Pull&) const;
  void drop_layers(const std::vector<LayerId>&);
  void give_up(const Pull&, const PullFinished&, Effects&);
  void refuse(ImageId, Unavailable, std::int64_t needed, std::int64_t limit,
              const std::string& note, Effects&);
  void arrived(LayerId, Effects&);
  void forget(ImageId, Effects&);

  Config config_;
  State state_;
};
static_assert(Machine<Cache>);

}  // namespace chalk::images
