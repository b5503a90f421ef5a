// Network namespaces that are kept by a mount, as `ip netns` does it, so that they outlive threads
// and processes. No thread of the caller ever changes its namespace.
#pragma once
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/descriptor.h"
#include "adapters/network/netlink.h"

namespace chalk::network {

// Makes the folder and lets mounts below it be seen by others, as `ip netns add` does.
Result<void> prepare_namespaces(const std::string& folder);

struct FreshNamespace {
  Descriptor descriptor;
  Netlink netlink;  // speaks of the inside
};

// A new namespace, mounted at `path`, with IPv6 off. Nothing is left of it after an error.
Result<FreshNamespace> make_namespace(const std::string& path);

// The namespace itself ends with the last process in it. No error where there is none.
Result<void> drop_namespace(const std::string& path);

bool is_namespace(const std::string& path);

// Writes one of /proc/sys; where `optional`, it is no error if it does not exist.
Result<void> write_setting(const std::string& path, std::string_view value, bool optional = false);

}  // namespace chalk::network
