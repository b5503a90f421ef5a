// Why a sandbox has no node yet, in words. The log does not say it: it is read from the machines as
// they stand, and is what they would answer if it were tried now.
#pragma once
#include <map>
#include <span>
#include <string>

#include "adapters/records/records.h"
#include "model/control/control.h"

namespace chalk::server {

class Plane;

using Waits = std::map<SandboxId, std::string>;

// Without those that do not wait for a node.
Waits why_wait(const control::Control& control, Time now, std::span<const SandboxId> sandboxes);
// Of those that have waited for more than a moment, so that a usual start asks nothing of the machine.
Waits waits_of(Plane& plane, std::span<const records::Sandbox> sandboxes);

}  // namespace chalk::server
