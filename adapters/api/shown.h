// Text of strangers inside our own sentences: in quotes, short, printable.
#pragma once
#include <string>
#include <string_view>

namespace chalk::api {

// "text" in double quotes; what is not printable ASCII becomes \xNN; beyond `most` bytes it is cut
// and its length is said.
std::string shown(std::string_view text, std::size_t most = 64);

}  // namespace chalk::api
