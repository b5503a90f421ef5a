// Strong identifiers. An id is issued by a counter or a slot table held in State, never by a clock
// or a random source. Zero means "none".
#pragma once
#include <compare>
#include <cstdint>

#include "model/core/fields.h"

namespace chalk {

template <class Tag>
struct Id {
  std::uint64_t value = 0;
  auto operator<=>(const Id&) const = default;
  explicit operator bool() const { return value != 0; }
  static constexpr std::string_view type_name = "Id";
  static constexpr std::string_view field_names = "value";
  static constexpr void each_field(auto& self, auto&& visit) { visit(self.value); }
};

using TenantId = Id<struct TenantTag>;
using RequestId = Id<struct RequestTag>;  // one call to a scaling group
using SandboxId = Id<struct SandboxTag>;  // slot and generation, issued by control (slot_table.h)
using NodeId = Id<struct NodeTag>;        // slot and generation, issued by control
using GroupId = Id<struct GroupTag>;      // a scaling group (a deployed function is one)
using ImageId = Id<struct ImageTag>;
using LayerId = Id<struct LayerTag>;
using PoolId = Id<struct PoolTag>;
using ZoneId = Id<struct ZoneTag>;
using GatewayId = Id<struct GatewayTag>;
using SnapshotId = Id<struct SnapshotTag>;

}  // namespace chalk
