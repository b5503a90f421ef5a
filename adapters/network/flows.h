// The connections that the kernel tracks. Those of a sandbox that is gone would stay for days, count
// against the next one with its address and let late packets of the old ones pass.
#pragma once
#include <cstddef>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/netlink.h"

namespace chalk::network {

// Forgets all from or to this address. Answers how many there were. `netlink`: of NETLINK_NETFILTER.
Result<std::size_t> forget_flows(Netlink& netlink, Address address);

}  // namespace chalk::network
