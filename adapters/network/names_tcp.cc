// The TCP half of the forwarder: a client sends one query after the other, each of which is passed on
// over a connection of its own to a resolver.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "adapters/network/message.h"
#include "adapters/network/names.h"
#include "adapters/network/names_key.h"

namespace chalk::network {
namespace {

constexpr int kAcceptsPerEvent = 16;
constexpr std::size_t kLengthBytes = 2;

std::size_t length_in(const std::string& framed) {
  return static_cast<std::size_t>(number_of(framed));  // two bytes, as a number is
}

std::string framed(const std::string& message) {
  std::string result(kLengthBytes, '\0');
  set_number(result, static_cast<std::uint16_t>(message.size()));
  return result + message;
}

enum class Got : std::uint8_t { part, whole, broken };

// One message with its length, and no byte after it.
Got receive(int socket, std::string& into, std::size_t max) {
  for (;;) {
    std::size_t wanted = kLengthBytes;
    if (into.size() >= kLengthBytes) {
      const auto length = length_in(into);
      if (length < kMessageHeaderBytes || length > max) return Got::broken;
      wanted += length;
    }
    if (into.size() == wanted && wanted > kLengthBytes) return Got::whole;
    const auto before = into.size();
    into.resize(wanted);
    const auto count = ::recv(socket, into.data() + before, wanted - before, 0);
    into.resize(before + (count > 0 ? static_cast<std::size_t>(count) : 0));
    if (count == 0) return Got::broken;
    if (count < 0) return errno == EAGAIN || errno == EINTR ? Got::part : Got::broken;
  }
}

// False: broken. What is written is taken off.
bool send_some(int socket, std::string& from) {
  while (!from.empty()) {
    const auto count = ::send(socket, from.data(), from.size(), MSG_NOSIGNAL);
    if (count < 0) return errno == EAGAIN || errno == EINTR;
    from.erase(0, static_cast<std::size_t>(count));
  }
  return true;
}

}  // namespace

void Names::take_connections() {
  for (int i = 0; i < kAcceptsPerEvent; ++i) {
    sockaddr_in from{};
    socklen_t from_size = sizeof from;
    Descriptor socket(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from), &from_size,
                                SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    const auto client = ntohl(from.sin_addr.s_addr);
    if (!pool_.contains(client)) continue;
    const auto others = connections_of_.find(client);
    if (connections_.size() >= kConnectionsMax ||
        (others != connections_of_.end() && others->second >= kConnectionsMaxPerSandbox)) {
      ++failures_;
      continue;
    }
    ++connections_of_[client];
    const auto number = next_++;
    auto& connection = connections_[number];
    connection.client = client;
    connection.socket = std::move(socket);
    connection.deadline = Clock::now() + kIdleTimeout;
    watch(connection.socket.get(), key_of(number, KeyKind::client), EPOLLIN);
  }
}

void Names::move(std::uint64_t number, Connection& connection) {
  switch (connection.step) {
    case Connection::Step::reading: return read_query(number, connection);
    case Connection::Step::asking: return exchange(number, connection);
    case Connection::Step::answered: return write_answer(number, connection);
  }
}

void Names::read_query(std::uint64_t number, Connection& connection) {
  const auto got = receive(connection.socket.get(), connection.in, kQueryBytesMax);
  if (got == Got::part) return;
  const std::string message = got == Got::whole ? connection.in.substr(kLengthBytes) : "";
  if (!is_query(message)) return close(number);
  ++queries_;
  connection.tries = 0;
  // A client that hangs up while it waits is found out by writing to it.
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.socket.get(), nullptr);
  if (const auto objection = objection_to(message)) {
    connection.back = framed(refuse(message, *objection));
    return begin_answer(number, connection);
  }
  begin_asking(number, connection);
}

void Names::begin_asking(std::uint64_t number, Connection& connection) {
  connection.step = Connection::Step::asking;
  while (const auto next = resolver(connection.tries)) {
    ++connection.tries;
    connection.out = connection.in;
    connection.back.clear();
    connection.resolver =
        Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!connection.resolver) break;
    const auto address = socket_address(next->address, next->port);
    if (::connect(connection.resolver.get(), reinterpret_cast<const sockaddr*>(&address),
                  sizeof address) != 0 &&
        errno != EINPROGRESS) {
      continue;
    }
    connection.deadline = Clock::now() + kTryTimeout;
    return watch(connection.resolver.get(), key_of(number, KeyKind::resolver), EPOLLOUT);
  }
  ++failures_;
  connection.back = framed(refuse(connection.in.substr(kLengthBytes), MessageCode::server_failure));
  begin_answer(number, connection);
}

void Names::exchange(std::uint64_t number, Connection& connection) {
  const int socket = connection.resolver.get();
  if (!connection.out.empty()) {
    if (!send_some(socket, connection.out)) return begin_asking(number, connection);
    if (connection.out.empty()) watch(socket, key_of(number, KeyKind::resolver), EPOLLIN);
    return;
  }
  const auto got = receive(socket, connection.back, kAnswerBytesMax);
  if (got == Got::part) return;
  const bool good =
      got == Got::whole && is_answer_to(std::string_view(connection.back).substr(kLengthBytes),
                                        std::string_view(connection.in).substr(kLengthBytes));
  if (!good) return begin_asking(number, connection);
  begin_answer(number, connection);
}

void Names::begin_answer(std::uint64_t number, Connection& connection) {
  connection.resolver.reset();
  connection.step = Connection::Step::answered;
  connection.deadline = Clock::now() + kIdleTimeout;
  watch(connection.socket.get(), key_of(number, KeyKind::client), EPOLLOUT);
}

void Names::write_answer(std::uint64_t number, Connection& connection) {
  if (!send_some(connection.socket.get(), connection.back)) return close(number);
  if (!connection.back.empty()) return;
  connection.in.clear();
  connection.step = Connection::Step::reading;
  connection.deadline = Clock::now() + kIdleTimeout;
  watch(connection.socket.get(), key_of(number, KeyKind::client), EPOLLIN);
}

void Names::connection_late(std::uint64_t number) {
  auto& connection = connections_.at(number);
  if (connection.step == Connection::Step::asking) return begin_asking(number, connection);
  close(number);
}

void Names::close(std::uint64_t number) {
  const auto found = connections_.find(number);
  const auto count = connections_of_.find(found->second.client);
  if (--count->second == 0) connections_of_.erase(count);
  connections_.erase(found);
}

}  // namespace chalk::network
