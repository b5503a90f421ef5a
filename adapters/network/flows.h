// The connections that the kernel tracks. Those of a sandbox that is gone would stay for days, count
// against the next one with its address and let late packets of the old ones pass.
#pragma once
#include <cstddef>
#include <set>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/netlink.h"

namespace chalk::network {

// Forgets all from or to these addresses. Answers how many there were. One look at the kernel's whole
// table, some 5 ms for its usual size: to be called for many addresses at once. `netlink`: of
// NETLINK_NETFILTER.
Result<std::size_t> forget_flows(Netlink& netlink, const std::set<Address>& addresses);

}  // namespace chalk::network
