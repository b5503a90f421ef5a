// Amounts of what nodes have, over one or many of them.
#pragma once
#include <cstdint>

#include "model/core/fields.h"
#include "model/core/resources.h"

namespace chalk::fleet {

__extension__ using Wide = __int128;

struct Amounts {
  std::int64_t cpu_millicores = 0, memory_bytes = 0, disk_bytes = 0, gpu_millis = 0, sandboxes = 0;
  CHALK_FIELDS(Amounts, cpu_millicores, memory_bytes, disk_bytes, gpu_millis, sandboxes)

  Amounts& operator+=(const Amounts& other);  // none beyond 2^62
};

// What an empty node of that shape has.
Amounts all_of(const NodeShape& shape);
// What is taken of a node of that shape where so much is free.
Amounts taken(const Amounts& left, const NodeShape& shape);
// The same in thousandths, of the amount that is most.
std::uint32_t taken_permille(const Amounts& left, const NodeShape& shape);
// Of how many such nodes that would be all, in thousandths, by the amount that is most.
Wide nodes_permille(const Amounts& amounts, const NodeShape& shape);

// One core weighs as much as 4 GiB, a GPU as much as 16 cores.
Wide weight(const Amounts& amounts);

}  // namespace chalk::fleet
