// Requests to the kernel's network tables over a netlink socket, one at a time. A socket speaks of
// the network namespace it was opened in, whichever thread uses it later. Not thread safe.
#pragma once
#include <linux/netlink.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/descriptor.h"

namespace chalk::network {

class Request {
 public:
  // `header` is the struct that this type of message begins with, as ifinfomsg.
  template <class Header>
  Request(std::uint16_t type, unsigned flags, const Header& header) {
    begin(type, flags);
    append(&header, sizeof header);
  }

  template <class Header>
  void append_struct(const Header& header) {
    append(&header, sizeof header);
  }
  void put(std::uint16_t attribute, const void* data, std::size_t size);
  void put_text(std::uint16_t attribute, std::string_view text);
  void put_number(std::uint16_t attribute, std::uint32_t number);
  void put_address(std::uint16_t attribute, std::uint32_t address);  // in network order
  std::size_t open(std::uint16_t attribute);                         // attributes follow in it
  void close(std::size_t opened);

  std::span<char> finish(std::uint32_t sequence);

 private:
  void begin(std::uint16_t type, unsigned flags);
  void append(const void* data, std::size_t size);
  std::vector<char> bytes_;
};

// The attributes of one message, by number; those above kMax are passed over.
class Attributes {
 public:
  Attributes(const char* data, std::size_t size);
  std::string_view text(std::uint16_t attribute) const;  // empty where absent
  std::string_view bytes(std::uint16_t attribute) const { return found_[attribute]; }
  bool number(std::uint16_t attribute, std::uint32_t& value) const;
  bool address(std::uint16_t attribute, std::uint32_t& value) const;

 private:
  static constexpr std::size_t kMax = 64;
  std::string_view found_[kMax];
};

class Netlink {
 public:
  static Result<Netlink> open(int protocol = NETLINK_ROUTE);

  // Error::not_found: no such link, address or route; exhausted: the kernel has no memory for it.
  Result<void> ask(Request& request, std::string_view what);

  // Every message that answers a request with NLM_F_DUMP; started anew where the tables changed
  // meanwhile, after `restart`.
  Result<void> dump(Request& request, std::string_view what, const std::function<void()>& restart,
                    const std::function<void(const nlmsghdr&)>& each);

 private:
  explicit Netlink(Descriptor socket) : socket_(std::move(socket)) {}
  Result<std::size_t> receive(std::string_view what);
  Result<void> send(Request& request, std::string_view what);

  Descriptor socket_;
  std::uint32_t sequence_ = 0;
  std::vector<char> answer_;
};

}  // namespace chalk::network
