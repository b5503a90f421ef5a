// What the simulated world is made of, as far as time depends on it: zones with a registry, an
// object store and a backbone, and hosts with cores, a network card and a disk. Speeds are bytes
// per second. A platform is plain data; ResourceModel refuses an impossible one.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "model/core/time.h"

namespace chalk::sim {

struct PlatformZone {
  std::string name;
  double registry_bytes_per_second = 0;
  double backbone_bytes_per_second = 0;
  Duration latency;  // one way, between two machines of the zone
  double object_store_bytes_per_second = 0;
  // The registry serves this many pulls at once; the others wait in front, first come, first served.
  // Real ones do, and max-min sharing costs O(flows) per completion.
  std::uint32_t pulls_at_once = 64;
};

struct PlatformHost {
  std::uint32_t zone = 0;
  double cores = 0;  // that executions share; a fraction for cores that get into each other's way
  double link_bytes_per_second = 0;  // in each direction
  double disk_bytes_per_second = 0;
};

struct Platform {
  std::vector<PlatformZone> zones;
  std::vector<PlatformHost> hosts;
  Duration between_zones_latency;             // one way, on top of the latency of both zones
  double between_zones_bytes_per_second = 0;  // a zone's link to all the others, in each direction
  std::uint32_t concurrent_transfers_per_object_store = 64;  // the others wait as at a registry
};

// Throws std::invalid_argument that names the first impossible thing.
void check_platform(const Platform&);

}  // namespace chalk::sim
