// The packet rules of one network: a table of its own that is replaced in one transaction and names
// no single sandbox, so that starting and ending one changes no rule. That a sandbox sends from its
// own address only is told by the routes: the way back must be the link that the packet came by.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/address.h"

namespace chalk::network {

struct Rules {
  std::string name;  // of the network
  Range pool;
  Address gateway = 0;
  std::string uplink;  // empty: any
  std::uint32_t flows_max = 0;
  std::vector<Range> blocked;
};

std::string table_of(const std::string& name);
std::string text_of(const Rules& rules);

Result<void> apply(const Rules& rules);
Result<void> remove_rules(const std::string& name);

}  // namespace chalk::network
