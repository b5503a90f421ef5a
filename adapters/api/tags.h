// Tags of a sandbox that mean something: the public specification has no fields of its own for these.
#pragma once
#include <string_view>

namespace chalk::api {

inline constexpr std::string_view kTagsReserved = "chalk.";         // no other may begin so
inline constexpr std::string_view kPriorityTag = "chalk.priority";  // "0" to "1000"
inline constexpr std::string_view kGangTag = "chalk.gang";          // "NAME/SIZE"
inline constexpr std::string_view kWorkdirTag = "chalk.workdir";    // where the entrypoint begins
// Drawn by who creates it, to find it again where the answer was lost.
inline constexpr std::string_view kCreationTag = "chalk.creation";

}  // namespace chalk::api
