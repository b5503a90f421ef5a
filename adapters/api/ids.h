// How a sandbox is called outside: "sb-" and its id as sixteen hexadecimal digits. Containers and
// sandboxes are the same things and share these names.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "model/core/ids.h"

namespace chalk::api {

std::string sandbox_text_id(SandboxId sandbox);
// Nothing for any other text, and for the id that means none.
std::optional<SandboxId> parse_sandbox_id(std::string_view text);

}  // namespace chalk::api
