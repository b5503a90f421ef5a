// An image behind the protocol of a registry, in a Server: what a test of the client starts from.
#pragma once
#include <functional>
#include <string>

#include "adapters/images/digest.h"
#include "adapters/images/registries.h"
#include "tests/adapters/images/layers.h"
#include "tests/adapters/images/server.h"

namespace chalk::images::testing {

// The right answer to a request for the image `name`, any tag.
inline Answer serve_image(const Published& image, const std::string& name, const Asked& asked) {
  const std::string base = "/v2/" + name + "/";
  if (!asked.path.starts_with(base)) return {404};
  const std::string rest = asked.path.substr(base.size());
  if (rest.starts_with("manifests/")) {
    const std::string version = rest.substr(10);
    if (version.starts_with("sha256:") && version != sha256_digest(image.manifest)) return {404};
    return {200, {"Content-Type: " + image.manifest_type}, image.manifest};
  }
  const auto found = image.blobs.find(rest.starts_with("blobs/") ? rest.substr(6) : "");
  if (found == image.blobs.end()) return {404};
  const auto range = asked.headers.find("range");
  if (range == asked.headers.end()) return {200, {}, found->second};
  const std::size_t first = std::stoul(range->second.substr(6));
  if (first >= found->second.size()) return {416};
  const std::string size = std::to_string(found->second.size());
  return {206,
          {"Content-Range: bytes " + std::to_string(first) + "-" +
           std::to_string(found->second.size() - 1) + "/" + size},
          found->second.substr(first)};
}

// Times that suit tests, and plain http to these hosts.
inline Registries plain(const std::vector<std::string>& hosts) {
  Registries registries;
  for (const std::string& host : hosts) registries.registries[host].insecure = true;
  registries.backoff = std::chrono::milliseconds(1);
  registries.backoff_max = std::chrono::milliseconds(20);
  return registries;
}

inline Reference reference_to(const Server& server, const std::string& name = "app:1") {
  return *parse_reference(server.host() + "/" + name);
}

}  // namespace chalk::images::testing
