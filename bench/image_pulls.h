// The image pulls of a node of a serverless fleet: functions of Zipf popularity whose images share
// base and runtime layers, sizes with heavy tails, popularity and code that drift, and some images
// that are never seen again.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "model/protocol/protocol.h"

namespace chalk::bench {

struct PullShape {
  std::uint32_t functions = 6000;
  std::uint32_t bases = 40;
  std::uint32_t runtimes = 300;
  std::uint64_t starts = 100'000;
  double popularity = 0.9;        // Zipf
  std::uint32_t deploy_every = 20;  // starts between two deployments: new code layers
  std::uint32_t shift_every = 100;  // starts until a random function swaps ranks with a popular one
  std::uint32_t once_permille = 20;  // of starts: of an image that nobody wants again
  bool shared = true;  // false: each image is one layer of its own, as if nothing had a base
};

struct Pulls {
  std::vector<ImageSpec> images;
  std::vector<std::uint32_t> starts;  // indexes of images
};

class PullGenerator {
 public:
  PullGenerator(const PullShape& shape, std::uint64_t seed) : shape_(shape), random_(seed) {}
  Pulls generate() {
    std::vector<std::vector<LayerSpec>> bases, runtimes;
    for (std::uint32_t i = 0; i < shape_.bases; ++i) {
      bases.push_back(layers(3 + below(4), 8e6, 1.6));
    }
    const std::vector<double> base_of = zipf(shape_.bases);
    for (std::uint32_t i = 0; i < shape_.runtimes; ++i) {
      runtimes.push_back(bases[draw(base_of)]);
      for (const LayerSpec& one : layers(1 + below(3), 20e6, 1.6)) runtimes.back().push_back(one);
    }
    const std::vector<double> runtime_of = zipf(shape_.runtimes);
    const std::vector<double> rank_of = zipf(shape_.functions);
    std::vector<std::uint32_t> runtime(shape_.functions), image(shape_.functions),
        ranked(shape_.functions);
    for (std::uint32_t f = 0; f < shape_.functions; ++f) {
      runtime[f] = draw(runtime_of);
      image[f] = add(runtimes[runtime[f]], below(1000) < 30);
      ranked[f] = f;
    }
    std::shuffle(ranked.begin(), ranked.end(), random_);
    for (std::uint64_t start = 1; start <= shape_.starts; ++start) {
      if (start % shape_.deploy_every == 0) {
        const std::uint32_t f = below(shape_.functions);
        image[f] = add(runtimes[runtime[f]], false);
      }
      if (start % shape_.shift_every == 0)
        std::swap(ranked[draw(rank_of)], ranked[below(shape_.functions)]);
      if (below(1000) < shape_.once_permille) {
        pulls_.starts.push_back(add(runtimes[draw(runtime_of)], below(1000) < 30));
      } else {
        pulls_.starts.push_back(image[ranked[draw(rank_of)]]);
      }
    }
    return std::move(pulls_);
  }

 private:
  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random_() % bound); }
  double uniform() { return (static_cast<double>(random_() >> 11) + 0.5) * 0x1p-53; }
  double normal() {
    return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform());
  }
  std::vector<double> zipf(std::uint32_t count) const {
    std::vector<double> sums;
    double sum = 0;
    for (std::uint32_t i = 1; i <= count; ++i) {
      sums.push_back(sum += std::pow(i, -shape_.popularity));
    }
    return sums;
  }
  std::uint32_t draw(const std::vector<double>& sums) {
    const auto at = std::lower_bound(sums.begin(), sums.end(), uniform() * sums.back());
    return static_cast<std::uint32_t>(at - sums.begin());
  }
  LayerSpec layer(double median, double sigma) {
    const double bytes = std::clamp(median * std::exp(sigma * normal()), 1e3, 2e9);
    const auto whole = static_cast<std::int64_t>(bytes);
    return {LayerId{++layers_}, whole, whole * 5 / 2};
  }
  std::vector<LayerSpec> layers(std::uint32_t count, double median, double sigma) {
    std::vector<LayerSpec> out;
    for (std::uint32_t i = 0; i < count; ++i) out.push_back(layer(median, sigma));
    return out;
  }
  std::uint32_t add(const std::vector<LayerSpec>& below_it, bool model) {
    ImageSpec spec;
    spec.image = ImageId{pulls_.images.size() + 1};
    if (shape_.shared) spec.layers = below_it;
    const std::uint32_t own = shape_.shared ? 1 + below(3) : 1;
    for (const LayerSpec& one : layers(own, shape_.shared ? 4e6 : 40e6, 2.0))
      spec.layers.push_back(one);
    if (model) spec.layers.push_back(layer(800e6, 0.8));  // weights of a model
    pulls_.images.push_back(std::move(spec));
    return static_cast<std::uint32_t>(pulls_.images.size() - 1);
  }

  PullShape shape_;
  std::mt19937_64 random_;
  std::uint64_t layers_ = 0;
  Pulls pulls_;
};

}  // namespace chalk::bench
