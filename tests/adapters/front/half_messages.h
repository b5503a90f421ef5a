// A bare HTTP/2 client that opens many calls and leaves the last byte of each message out, as no
// library does: its calls wait for ever with all their bytes on the server's side.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/adapters/front/served.h"

namespace chalk::front {

class HalfMessages {
 public:
  HalfMessages(std::uint16_t port, const std::string& path, int calls, std::uint32_t message_bytes);
  // Sends as fast as the server's windows open. True once every call has all but its last byte
  // there, or was ended by the server; false where the server ended the connection.
  bool send_all();
  int ended() const { return ended_; }  // calls
  std::uint32_t streams_max() const { return streams_max_; }  // as the server's SETTINGS say

 private:
  struct Call {
    std::int64_t window = 65'535;
    std::uint64_t left = 0;  // bytes that it has still to send
    bool begun = false, over = false;
  };
  void frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, const std::string& body);
  bool hear();  // what there is; false at the end of the connection
  bool send_some(std::uint32_t stream, Call& call);

  Wire wire_;
  std::string in_;
  std::int64_t window_ = 65'535, first_window_ = 65'535;
  std::uint32_t message_bytes_, streams_max_ = 0;
  bool greeted_ = false;  // the server's SETTINGS are there
  std::map<std::uint32_t, Call> calls_;
  int ended_ = 0;
};

}  // namespace chalk::front
