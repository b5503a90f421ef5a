#include "sim/simgrid/platform.h"

#include <fmt/format.h>

#include <cmath>
#include <stdexcept>

namespace chalk::sim {
namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument("platform: " + what);
}

void require_speed(double bytes_per_second, const std::string& of) {
  require(std::isfinite(bytes_per_second) && bytes_per_second > 0,
          of + " must be above 0, not " + std::to_string(bytes_per_second));
}

void require_latency(Duration latency, const std::string& of) {
  require(latency.nanos >= 0, of + " must not be negative, not " + std::to_string(latency.nanos));
}

}  // namespace

void check_platform(const Platform& platform) {
  require(!platform.zones.empty(), "it has no zone");
  require(platform.concurrent_transfers_per_object_store > 0,
          "concurrent_transfers_per_object_store is 0");
  for (const PlatformZone& zone : platform.zones) {
    const std::string of = "zone '" + zone.name + "': ";
    require_speed(zone.registry_bytes_per_second, of + "registry_bytes_per_second");
    require_speed(zone.backbone_bytes_per_second, of + "backbone_bytes_per_second");
    require_speed(zone.object_store_bytes_per_second, of + "object_store_bytes_per_second");
    require_latency(zone.latency, of + "latency");
    require(zone.pulls_at_once > 0, of + "pulls_at_once is 0");
  }
  for (std::size_t i = 0; i < platform.hosts.size(); ++i) {
    const PlatformHost& host = platform.hosts[i];
    const std::string of = "host " + std::to_string(i) + ": ";
    require(host.zone < platform.zones.size(), of + "zone " + std::to_string(host.zone) + " of " +
                                                   std::to_string(platform.zones.size()) +
                                                   " does not exist");
    require(host.cores >= 0.001 && host.cores <= 65536,
            of + "cores must be 0.001 to 65536, not " + fmt::format("{}", host.cores));
    require_speed(host.link_bytes_per_second, of + "link_bytes_per_second");
    require_speed(host.disk_bytes_per_second, of + "disk_bytes_per_second");
  }
  require_latency(platform.between_zones_latency, "between_zones_latency");
  if (platform.zones.size() > 1) {
    require_speed(platform.between_zones_bytes_per_second, "between_zones_bytes_per_second");
  }
}

}  // namespace chalk::sim
