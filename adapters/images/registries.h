// How registries are reached: mirrors, plain http, credentials, bounds on time and on retries.
// Comes from a JSON file or is filled in by code. Nothing here speaks to anyone.
//
//   { "registries": {
//       "docker.io":      { "mirrors": ["http://127.0.0.1:5000"], "direct": false },
//       "127.0.0.1:5000": { "insecure": true },
//       "*":              { "mirrors": ["https://mirror.example"], "direct": true } },
//     "credentials": { "registry.example": { "username": "u", "password": "p" } },
//     "connect_timeout_ms": 10000, "stall_timeout_ms": 30000, "request_timeout_ms": 60000,
//     "slowest_bytes_per_second": 65536,
//     "attempts": 5, "backoff_ms": 250, "backoff_max_ms": 8000, "allow_private_addresses": false }
//
// An unknown key is an error: a misspelt "direct" would send requests to where they must not go.
#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/image.h"

namespace chalk::images {

struct Endpoint {
  std::string host;       // "127.0.0.1:5000"
  bool insecure = false;  // plain http
  bool operator==(const Endpoint&) const = default;
};

struct RegistryOptions {
  std::vector<Endpoint> mirrors;  // tried in order before the registry itself
  bool direct = true;             // false: the registry itself is never asked
  bool insecure = false;          // the registry itself speaks plain http
};

struct Credentials {
  std::string username;
  std::string password;
};

struct Registries {
  std::map<std::string, RegistryOptions> registries;  // by Reference::registry; "*" for all others
  // By endpoint host; sent to that host and to the token server that it names, to no other.
  std::map<std::string, Credentials> credentials;
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds stall_timeout{30'000};    // of a blob: less than 1 KiB/s for so long
  std::chrono::milliseconds request_timeout{60'000};  // of everything else, as a whole
  // A blob has the time that it takes at this rate, with all tries and two requests' time on top.
  std::int64_t slowest_bytes_per_second = 64 << 10;
  int attempts = 5;                        // per endpoint and request, the first included
  std::chrono::milliseconds backoff{250};  // doubles, with jitter; a Retry-After header counts too
  std::chrono::milliseconds backoff_max{8'000};
  // References come from users. Without this, addresses that are loopback, private or link local
  // are connected to only for hosts named above (mirrors, registries); redirects and token servers
  // included. With an http proxy in the environment only the proxy's address can be seen, so set it
  // there.
  bool allow_private_addresses = false;
  Platform platform;

  // The endpoints to ask for a registry, in order; empty if it has no mirror and may not be asked.
  std::vector<Endpoint> endpoints(std::string_view registry) const;
  const Credentials* credentials_for(std::string_view host) const;
  // Named in this configuration as registry or mirror: private addresses are fine for it.
  bool named(std::string_view host) const;
};

Result<Registries> parse_registries(std::string_view json);
Result<Registries> load_registries(const std::string& path);

}  // namespace chalk::images
