#include "tests/adapters/front/half_messages.h"

#include <algorithm>

namespace chalk::front {
namespace {

enum : std::uint8_t { kData, kHeaders, kReset = 3, kSettings, kPing = 6, kGoAway, kWindow };
constexpr std::uint8_t kAck = 1, kEndStream = 1, kEndHeaders = 4;
constexpr std::size_t kFrameBytesMax = 16'384;

std::string number(std::uint32_t value, int bytes = 4) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i));
  return out;
}
std::uint32_t number_at(std::string_view text, std::size_t at, int bytes = 4) {
  std::uint32_t out = 0;
  for (int i = 0; i < bytes; ++i) {
    out = out << 8 | static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]);
  }
  return out;
}
// HPACK without its table and without Huffman: a length (below 127) and the bytes.
std::string text(const std::string& value) { return static_cast<char>(value.size()) + value; }
std::string field(const std::string& name, const std::string& value) {
  return '\0' + text(name) + text(value);
}

}  // namespace

HalfMessages::HalfMessages(std::uint16_t port, const std::string& path, int calls,
                           std::uint32_t message_bytes)
    : wire_(port), message_bytes_(message_bytes) {
  wire_.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  frame(kSettings, 0, 0, "");
  while (!greeted_ && hear()) {
  }
  // POST, http and the names of path and authority are in HPACK's own table.
  const std::string headers = "\x83\x86\x04" + text(path) + "\x01" + text("test") +
                              field("content-type", "application/grpc") + field("te", "trailers");
  for (int i = 0; i < calls; ++i) {
    const std::uint32_t stream = 1 + 2 * static_cast<std::uint32_t>(i);
    calls_[stream] = {first_window_, message_bytes - 1 + 5ull};
    frame(kHeaders, kEndHeaders, stream, headers);
  }
}

void HalfMessages::frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream,
                         const std::string& body) {
  wire_.send(number(static_cast<std::uint32_t>(body.size()), 3) + static_cast<char>(type) +
             static_cast<char>(flags) + number(stream) + body);
}

bool HalfMessages::hear() {
  const std::string more = wire_.read_some();
  if (more.empty()) return false;
  in_ += more;
  while (in_.size() >= 9 && in_.size() >= 9 + number_at(in_, 0, 3)) {
    const std::string body = in_.substr(9, number_at(in_, 0, 3));
    const auto type = static_cast<std::uint8_t>(in_[3]), flags = static_cast<std::uint8_t>(in_[4]);
    const std::uint32_t stream = number_at(in_, 5);
    in_.erase(0, 9 + body.size());
    const auto call = calls_.find(stream);
    if (type == kWindow) {
      (stream == 0 ? window_ : calls_[stream].window) += number_at(body, 0);
    } else if (type == kSettings && flags != kAck) {
      greeted_ = true;
      for (std::size_t at = 0; at + 6 <= body.size(); at += 6) {
        const std::uint32_t value = number_at(body, at + 2);
        if (number_at(body, at, 2) == 3) streams_max_ = value;
        if (number_at(body, at, 2) != 4) continue;
        for (auto& [id, one] : calls_) one.window += value - first_window_;
        first_window_ = value;
      }
      frame(kSettings, kAck, 0, "");
    } else if (type == kPing && flags != kAck) {
      frame(kPing, kAck, 0, body);
    } else if (type == kGoAway) {
      return false;
    } else if (call != calls_.end() && !call->second.over &&
               (type == kReset || (type == kHeaders && (flags & kEndStream) != 0))) {
      call->second.over = true;
      ++ended_;
    }
  }
  return true;
}

bool HalfMessages::send_some(std::uint32_t stream, Call& call) {
  const std::int64_t room = std::min({window_, call.window, std::int64_t{kFrameBytesMax}});
  const auto bytes =
      std::min(call.left, static_cast<std::uint64_t>(std::max<std::int64_t>(room, 0)));
  if (bytes == 0 || (!call.begun && bytes < 5)) return false;
  std::string body(bytes, 'm');
  if (!call.begun) body.replace(0, 5, '\0' + number(message_bytes_));  // gRPC's own frame
  call.begun = true;
  call.left -= bytes;
  call.window -= static_cast<std::int64_t>(bytes);
  window_ -= static_cast<std::int64_t>(bytes);
  frame(kData, 0, stream, body);
  return true;
}

bool HalfMessages::send_all() {
  while (true) {
    bool waits = false, sent = false;
    for (auto& [stream, call] : calls_) {
      if (call.over || call.left == 0) continue;
      sent = send_some(stream, call) || sent;
      waits = waits || call.left > 0;
    }
    if (!waits) return true;
    if (!sent && !hear()) return false;
  }
}

}  // namespace chalk::front
