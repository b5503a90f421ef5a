// chalk-guest as it is found inside every sandbox, whatever its image holds.
#pragma once

namespace chalk::api {

inline constexpr const char* kGuestPath = "/.chalk/guest";

}  // namespace chalk::api
