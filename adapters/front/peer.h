// How a call that came over HTTP/1.1 says who made it. Only believed of calls that came over the
// in-process channel: others may write what they like.
#pragma once

namespace chalk::front {

constexpr const char* kPeerMetadata = "chalk-front-peer";

}  // namespace chalk::front
