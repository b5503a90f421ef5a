// What a directory holds, as text that can be compared: one line for each path below it, with type,
// mode, owner, content or target. Whiteouts in overlayfs' form are shown as what they are.
#pragma once
#include <map>
#include <string>

namespace chalk::images::testing {

// Path below the root ("" for the root itself) -> description.
using Listing = std::map<std::string, std::string>;
Listing list_tree(const std::string& root);

}  // namespace chalk::images::testing
