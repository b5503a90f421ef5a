// What arrives, apart from when: calls of functions, or asks for sandboxes, drawn by popularity.
//
// Draws are counter-based: the content of arrival n of a stream is a function of (key, n) alone.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "sim/workload/distribution.h"
#include "sim/workload/source.h"

namespace chalk::sim {

// Popularity of number i of n is 1 / (i + 1)^skew: 0 is even, about 1 is the usual Zipf.
struct Requests {
  std::uint32_t functions = 1;
  std::uint32_t tenants = 1;  // each function belongs to one, drawn by tenant_skew
  std::uint32_t images = 1;   // each function has one, drawn by image_skew
  double function_skew = 0;
  double tenant_skew = 0;
  double image_skew = 0;
  Distribution service;
  std::int64_t cpu_millicores = 0;  // of every function; 0: the scenario's default
  std::int64_t memory_bytes = 0;
  std::string prefix;  // of the names in the catalogue
  std::string caller;  // the tenant whose calls these are, to functions that others may call too;
                       // empty: each function's own tenant
};

struct SandboxShape {
  double weight = 1;
  Resources resources;
};

struct Sandboxes {
  std::vector<SandboxShape> shapes = {SandboxShape{}};
  std::uint32_t tenants = 1;
  std::uint32_t images = 1;
  double tenant_skew = 0;
  double image_skew = 0;
  Distribution lifetime;  // the enforced limit; constant 0: the scenario's default
  Distribution service;   // when its owner ends it; constant 0: never
  std::int32_t priority = 0;
  std::uint32_t gang = 0;  // each arrival is a gang of so many; 0: one sandbox
  bool restart = false;  // by their nodes, when they end by themselves
  std::vector<std::string> gpu_models;  // what the bits of Resources::gpu_models mean
  std::string prefix;
};

using Work = std::variant<Requests, Sandboxes>;

class Content {
 public:
  virtual ~Content() = default;
  virtual const Catalogue& catalogue() const = 0;
  // Fills all but `at` and `client` of arrivals index, index + 1, ... of the stream `key`.
  virtual void fill(Arrival* out, std::size_t count, std::uint64_t key,
                    std::uint64_t index) const = 0;
};

// Throws std::invalid_argument for counts of zero, no shapes, negative weights or amounts.
std::unique_ptr<Content> content(const Work& work, std::uint64_t seed);

}  // namespace chalk::sim
