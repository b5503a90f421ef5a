// The name of an image as people write it, taken apart with docker's rules: "python:3.12" means
// docker.io/library/python:3.12, no tag means latest, and the first part is a host when it contains
// a dot or a colon, is "localhost" or has an upper case letter. Strict: whatever the grammar of the
// OCI distribution specification does not allow is refused with the reason, never repaired.
#pragma once
#include <string>
#include <string_view>

#include "adapters/error.h"

namespace chalk::images {

struct Reference {
  std::string registry;    // "docker.io", "127.0.0.1:5000", "[::1]:5000": as named, lower case
  std::string repository;  // "library/python"
  std::string tag;         // "3.12-slim-bookworm"; empty if only a digest was given
  std::string digest;      // "sha256:..." or empty; wins over the tag when both are there

  bool operator==(const Reference&) const = default;
};

// At most 512 bytes of text; only sha256 digests are known.
Result<Reference> parse_reference(std::string_view text);

// The full form, "docker.io/library/python:3.12@sha256:..."; parse_reference reads it back.
std::string to_string(const Reference& reference);

// Where a registry is reached when no mirror is configured: "registry-1.docker.io" for docker.io,
// else the name itself.
std::string registry_host(std::string_view registry);

}  // namespace chalk::images
