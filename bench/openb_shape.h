// Fleets and requests in the shape of Alibaba's GPU trace of 2023 (openb), for benchmarks: nothing
// of the trace itself is here.
//
// From its README and the FGD paper (Weng et al., ATC'23): 1523 nodes, 310 of them without GPUs;
// 6212 GPUs on nodes of 1, 2, 4 and 8 (24, 518, 54 and 617 nodes); GPUs by model G2 4392, T4 842,
// G3 312, P100 265, V100M32 204, V100M16 195, A10 2; tasks that ask for no GPU 13.3 %, a share
// 37.8 %, one 48.0 %, two 0.2 %, four 0.2 %, eight 0.5 %. Variants as the trace's own files: only
// shares; half of the GPUs asked for by tasks that want several; a third of GPU tasks that name
// models. Assumed: how models go with sizes of nodes, cores and memory of a node, and the kinds
// below: round amounts and weights such as a look at the trace suggests, at 4 GiB for a core.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/core/random.h"
#include "model/core/resources.h"

namespace chalk::bench {

inline constexpr std::int64_t kGi = std::int64_t{1} << 30;

struct Kind {
  int weight;
  std::int64_t cpu_millicores;
  std::int32_t gpus, gpu_millis;
};
inline constexpr Kind kNoGpu[] = {{45, 8000, 0, 0}, {20, 12500, 0, 0}, {15, 32000, 0, 0},
                                  {12, 16000, 0, 0}, {8, 1000, 0, 0}};
inline constexpr Kind kShares[] = {
    {22, 3200, 1, 810}, {14, 8000, 1, 470}, {14, 12000, 1, 470}, {9, 6000, 1, 460},
    {9, 4000, 1, 320},  {6, 8000, 1, 320},  {6, 8000, 1, 220},   {5, 4000, 1, 220},
    {5, 4000, 1, 160},  {4, 4000, 1, 110},  {3, 8000, 1, 650},   {2, 4200, 1, 550},
    {1, 4000, 1, 50}};
inline constexpr Kind kWhole[] = {{22, 11400, 1, 1000}, {16, 12000, 1, 1000}, {16, 16000, 1, 1000},
                                  {12, 11900, 1, 1000}, {12, 18700, 1, 1000}, {8, 3200, 1, 1000},
                                  {8, 8000, 1, 1000},   {6, 4000, 1, 1000}};
inline constexpr Kind kSeveral[] = {{2, 17400, 2, 1000}, {1, 32200, 4, 1000}, {1, 60200, 4, 1000},
                                    {4, 64200, 8, 1000}, {1, 88000, 8, 1000}};

enum class Variant : std::uint8_t { usual, shares, several, models };
inline constexpr const char* kVariants[] = {"as the trace", "only shares", "several GPUs half",
                                            "a third names models"};

// The fleet, `part` nodes for each hundred of the trace's.
inline std::vector<NodeShape> openb_fleet(int part) {
  struct Group {
    int nodes;
    std::int64_t cores, gibibytes;
    std::int32_t gpus, model;
  };
  static constexpr Group kGroups[] = {
      {310, 32, 256, 0, 0},  {549, 96, 384, 8, 0},  {39, 128, 768, 8, 1}, {25, 96, 768, 8, 2},
      {4, 96, 768, 8, 3},    {40, 64, 256, 4, 3},   {14, 96, 384, 4, 4},  {385, 64, 256, 2, 4},
      {132, 64, 256, 2, 5},  {1, 128, 512, 2, 6},   {24, 32, 128, 1, 4}};
  std::vector<NodeShape> fleet;
  for (const Group& group : kGroups) {
    for (int i = 0; i < (group.nodes * part + 99) / 100; ++i) {
      NodeShape shape;
      shape.cpu_millicores = group.cores * 1000;
      shape.memory_bytes = group.gibibytes * kGi;
      shape.disk_bytes = 4096 * kGi;
      shape.gpus = group.gpus;
      shape.gpu_model = group.model;
      shape.start_slots = 1024;
      fleet.push_back(shape);
    }
  }
  return fleet;
}

// Requests without end.
class OpenbRequests {
 public:
  OpenbRequests(std::uint64_t seed, Variant variant) : random_{mix64(seed), 0}, variant_(variant) {}

  Resources next() {
    const std::uint64_t permille = random_.below(1000);
    // No GPU, a share, one GPU; the rest wants several.
    const bool several = variant_ == Variant::several;
    const bool shares = variant_ == Variant::shares;
    const std::uint64_t share_until = shares ? 1000 : several ? 466 : 511;
    const std::uint64_t whole_until = several ? 907 : 991;
    Resources ask = permille < 133           ? draw(kNoGpu)
                    : permille < share_until ? draw(kShares)
                    : permille < whole_until ? draw(kWhole)
                                             : draw(kSeveral);
    if (variant_ == Variant::models && ask.gpus > 0 && random_.below(3) == 0) {
      static constexpr std::uint32_t kMasks[] = {0b1, 0b1, 0b10000, 0b1100, 0b100000, 0b1011101};
      ask.gpu_models = kMasks[random_.below(6)];
    }
    return ask;
  }

 private:
  template <std::size_t N>
  Resources draw(const Kind (&kinds)[N]) {
    int all = 0;
    for (const Kind& kind : kinds) all += kind.weight;
    auto left = static_cast<int>(random_.below(static_cast<std::uint64_t>(all)));
    const Kind* at = kinds;
    while (left >= at->weight) left -= (at++)->weight;
    Resources ask;
    ask.cpu_millicores = at->cpu_millicores;
    ask.memory_bytes = at->cpu_millicores * 4 * kGi / 1000;
    ask.gpus = at->gpus;
    ask.gpu_millis = at->gpu_millis;
    return ask;
  }

  Random random_;
  Variant variant_;
};

}  // namespace chalk::bench
