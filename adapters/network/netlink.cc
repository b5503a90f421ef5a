#include "adapters/network/netlink.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>

namespace chalk::network {
namespace {

constexpr std::size_t kAnswerBytes = 64 << 10;

Error error_of(int number, std::string_view what, std::string_view said) {
  Error error;
  switch (number) {
    case ENODEV:
    case ENOENT:
    case ESRCH:
    case EADDRNOTAVAIL: error.kind = Error::Kind::not_found; break;
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC: error.kind = Error::Kind::exhausted; break;
    case EPERM:
    case EACCES: error.kind = Error::Kind::denied; break;
    default: error.kind = Error::Kind::failed;
  }
  error.message = std::string(what) + ": " + std::strerror(number);
  if (!said.empty()) error.message += " (" + std::string(said) + ")";
  return error;
}

// What the kernel adds to an error in words, if anything.
std::string_view words_of(const nlmsghdr& message) {
  if (!(message.nlmsg_flags & NLM_F_ACK_TLVS)) return {};
  const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(&message));
  std::size_t offset = NLMSG_LENGTH(sizeof *error);
  if (!(message.nlmsg_flags & NLM_F_CAPPED)) offset += error->msg.nlmsg_len - NLMSG_HDRLEN;
  offset = NLMSG_ALIGN(offset);
  if (offset >= message.nlmsg_len) return {};
  const auto* bytes = reinterpret_cast<const char*>(&message);
  return Attributes(bytes + offset, message.nlmsg_len - offset).text(NLMSGERR_ATTR_MSG);
}

}  // namespace

void Request::begin(std::uint16_t type, unsigned flags) {
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  append(&header, sizeof header);
}

void Request::append(const void* data, std::size_t size) {
  const auto at = bytes_.size();
  bytes_.resize(at + NLMSG_ALIGN(size));  // the gap stays zero
  if (size > 0) std::memcpy(bytes_.data() + at, data, size);
}

void Request::put(std::uint16_t attribute, const void* data, std::size_t size) {
  rtattr header{};
  header.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(size));
  header.rta_type = attribute;
  append(&header, sizeof header);
  append(data, size);
}

void Request::put_text(std::uint16_t attribute, std::string_view text) {
  const std::string terminated(text);
  put(attribute, terminated.c_str(), terminated.size() + 1);
}

void Request::put_number(std::uint16_t attribute, std::uint32_t number) {
  put(attribute, &number, sizeof number);
}

void Request::put_address(std::uint16_t attribute, std::uint32_t address) {
  const std::uint32_t swapped = htonl(address);
  put(attribute, &swapped, sizeof swapped);
}

std::size_t Request::open(std::uint16_t attribute) {
  const auto at = bytes_.size();
  put(attribute, nullptr, 0);
  return at;
}

void Request::close(std::size_t opened) {
  const auto length = static_cast<std::uint16_t>(bytes_.size() - opened);
  std::memcpy(bytes_.data() + opened + offsetof(rtattr, rta_len), &length, sizeof length);
}

std::span<char> Request::finish(std::uint32_t sequence) {
  nlmsghdr header;
  std::memcpy(&header, bytes_.data(), sizeof header);
  header.nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
  header.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &header, sizeof header);
  return bytes_;
}

Attributes::Attributes(const char* data, std::size_t size) {
  while (size >= sizeof(rtattr)) {
    rtattr header;
    std::memcpy(&header, data, sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > size) return;
    const std::size_t type = header.rta_type & NLA_TYPE_MASK;
    if (type < kMax) found_[type] = {data + sizeof header, header.rta_len - sizeof header};
    const std::size_t step = RTA_ALIGN(header.rta_len);
    if (step >= size) return;
    data += step;
    size -= step;
  }
}

std::string_view Attributes::text(std::uint16_t attribute) const {
  const auto value = found_[attribute];
  return value.substr(0, value.find('\0'));
}

bool Attributes::number(std::uint16_t attribute, std::uint32_t& value) const {
  if (found_[attribute].size() != sizeof value) return false;
  std::memcpy(&value, found_[attribute].data(), sizeof value);
  return true;
}

bool Attributes::address(std::uint16_t attribute, std::uint32_t& value) const {
  if (!number(attribute, value)) return false;
  value = ntohl(value);
  return true;
}

Result<Netlink> Netlink::open(int protocol) {
  Descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  sockaddr_nl local{};
  local.nl_family = AF_NETLINK;
  if (!socket || ::bind(socket.get(), reinterpret_cast<sockaddr*>(&local), sizeof local) != 0) {
    return std::unexpected(error_of(errno, "netlink socket", ""));
  }
  const int on = 1;
  (void)::setsockopt(socket.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  const timeval limit{30, 0};  // the kernel answers at once or when its lock is free
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  Netlink result(std::move(socket));
  result.answer_.resize(kAnswerBytes);
  return result;
}

Result<void> Netlink::send(Request& request, std::string_view what) {
  const auto bytes = request.finish(++sequence_);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const auto sent = ::sendto(socket_.get(), bytes.data(), bytes.size(), 0,
                             reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  if (sent != static_cast<ssize_t>(bytes.size())) {
    return std::unexpected(error_of(errno, what, "sending"));
  }
  return {};
}

Result<std::size_t> Netlink::receive(std::string_view what) {
  for (;;) {
    sockaddr_nl from{};
    socklen_t from_size = sizeof from;
    const auto size = ::recvfrom(socket_.get(), answer_.data(), answer_.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &from_size);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::unexpected(error_of(errno, what, "waiting for the answer"));
    if (from.nl_pid == 0) return static_cast<std::size_t>(size);  // others may write to us too
  }
}

Result<void> Netlink::ask(Request& request, std::string_view what) {
  if (auto sent = send(request, what); !sent) return sent;
  for (;;) {
    const auto size = receive(what);
    if (!size) return std::unexpected(size.error());
    auto left = static_cast<unsigned>(*size);
    for (auto* message = reinterpret_cast<const nlmsghdr*>(answer_.data());
         NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_seq != sequence_ || message->nlmsg_type != NLMSG_ERROR) continue;
      const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
      if (error->error == 0) return {};
      return std::unexpected(error_of(-error->error, what, words_of(*message)));
    }
  }
}

Result<void> Netlink::dump(Request& request, std::string_view what,
                           const std::function<void()>& restart,
                           const std::function<void(const nlmsghdr&)>& each) {
  constexpr int kTries = 20;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    restart();
    if (auto sent = send(request, what); !sent) return sent;
    bool interrupted = false;
    for (bool done = false; !done;) {
      const auto size = receive(what);
      if (!size) return std::unexpected(size.error());
      auto left = static_cast<unsigned>(*size);
      for (auto* message = reinterpret_cast<const nlmsghdr*>(answer_.data());
           NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_seq != sequence_) continue;
        if (message->nlmsg_flags & NLM_F_DUMP_INTR) interrupted = true;
        if (message->nlmsg_type == NLMSG_DONE) {
          done = true;
        } else if (message->nlmsg_type == NLMSG_ERROR) {
          const auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(message));
          return std::unexpected(error_of(-error->error, what, words_of(*message)));
        } else {
          each(*message);
        }
      }
    }
    if (!interrupted) return {};
  }
  return fail(Error::Kind::unavailable,
              std::string(what) + ": the table changed during each of 20 readings");
}

}  // namespace chalk::network
