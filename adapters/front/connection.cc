// From accept() to the protocol: counting, limits, the first bytes, handing over to gRPC.
// clang-format off
#include <utility>  // before Boost 1.74, which forgets it
// clang-format on
#include <fcntl.h>
#include <grpcpp/server_posix.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "adapters/front/state.h"

namespace chalk::front {
namespace {

using boost::system::error_code;

constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr char kTlsHandshake = 0x16;

enum class Protocol { unknown, tls, http2, http1 };

Protocol classify(std::string_view first) {
  if (first.empty()) return Protocol::unknown;
  if (first[0] == kTlsHandshake) return Protocol::tls;
  if (kHttp2Preface.starts_with(first)) {
    return first.size() == kHttp2Preface.size() ? Protocol::http2 : Protocol::unknown;
  }
  return Protocol::http1;
}

// A peer that is gone without a word is noticed within a few minutes.
void set_options(int socket) {
  const auto set = [&](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 120'000);
}

std::string text_of(const asio::ip::tcp::endpoint& remote) {
  const std::string address = remote.address().to_string();
  const bool six = remote.address().is_v6();
  return (six ? "[" + address + "]" : address) + ":" + std::to_string(remote.port());
}

// Looks at the first bytes without taking them. The deadline is also looked at here: bytes that
// wait to be read hide that the socket was shut down.
asio::awaitable<Protocol> look(Socket& socket, std::chrono::steady_clock::time_point deadline) {
  std::array<char, kHttp2Preface.size()> first{};
  asio::steady_timer pause(co_await asio::this_coro::executor);
  while (std::chrono::steady_clock::now() < deadline) {
    error_code error;
    co_await socket.async_wait(Socket::wait_read, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return Protocol::unknown;
    const ssize_t count =
        recv(socket.native_handle(), first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
      co_return Protocol::unknown;
    }
    if (count > 0) {
      const auto found = classify(std::string_view(first.data(), static_cast<std::size_t>(count)));
      if (found != Protocol::unknown) co_return found;
    }
    // Readable stays true for what was only looked at, so the next byte is waited for by the clock.
    pause.expires_after(std::chrono::milliseconds(5));
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  co_return Protocol::unknown;
}

void hand_over(Front::State& state, Socket& socket, const ConnectionPointer& connection,
               bool inside_tls) {
  error_code error;
  const int descriptor = socket.release(error);
  if (error || descriptor < 0) return;
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  connection->grpc_descriptor = descriptor;
  {
    const std::lock_guard lock(state.mutex);
    state.peers[descriptor] = {connection->id, connection->peer};
    // The pump holds the connection of a TLS one; a plain one is held until its socket hangs up.
    if (!inside_tls) state.handed_over[connection->id] = connection;
  }
  if (!inside_tls) {
    epoll_event event{};
    event.events = 0;  // EPOLLHUP and EPOLLERR are always told
    event.data.u64 = connection->id;
    if (epoll_ctl(state.hangup_epoll, EPOLL_CTL_ADD, connection->watch, &event) != 0) {
      const std::lock_guard lock(state.mutex);
      state.handed_over.erase(connection->id);
    }
  }
  ++state.grpc_connections;
  grpc::AddInsecureChannelFromFd(&state.server, descriptor);  // owns the descriptor now
}

}  // namespace

Connection::Connection(Front::State& state, std::uint64_t id_given, std::string address_given,
                       std::string peer_given, int watch_given)
    : id(id_given),
      address(std::move(address_given)),
      peer(std::move(peer_given)),
      watch(watch_given),
      state_(state) {}

Connection::~Connection() {
  close(watch);
  const std::lock_guard lock(state_.mutex);
  state_.open.erase(id);
  const auto count = state_.by_address.find(address);
  if (count != state_.by_address.end() && --count->second == 0) state_.by_address.erase(count);
  const auto known = state_.peers.find(grpc_descriptor);
  if (known != state_.peers.end() && known->second.first == id) state_.peers.erase(known);
}

void Connection::shut_down() const { shutdown(watch, SHUT_RDWR); }

ConnectionPointer Front::State::admit(const asio::ip::tcp::endpoint& remote, int socket) {
  const int watch = fcntl(socket, F_DUPFD_CLOEXEC, 0);
  if (watch < 0) return nullptr;
  const std::string address = remote.address().to_string();
  std::unique_lock lock(mutex);
  const auto known = by_address.find(address);
  if (stopping || open.size() >= options.limits.connections ||
      (known != by_address.end() && known->second >= options.limits.connections_per_address)) {
    lock.unlock();
    close(watch);
    return nullptr;
  }
  const std::uint64_t id = next_id++;
  auto connection = std::make_shared<Connection>(*this, id, address, text_of(remote), watch);
  ++by_address[address];
  open[id] = connection;
  return connection;
}

asio::awaitable<void> accept_loop(std::shared_ptr<Front::State> state) {
  asio::steady_timer pause(state->network);
  while (state->acceptor.is_open()) {
    error_code error;
    asio::ip::tcp::socket accepted(asio::make_strand(state->network));
    co_await state->acceptor.async_accept(accepted,
                                          asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) break;
    if (error) {  // no descriptors left, or the like: later there may be
      pause.expires_after(std::chrono::milliseconds(100));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    ++state->accepted;
    const auto remote = accepted.remote_endpoint(error);
    auto connection = error ? nullptr : state->admit(remote, accepted.native_handle());
    if (!connection) {
      ++state->refused;
      continue;
    }
    set_options(accepted.native_handle());
    const auto executor = accepted.get_executor();
    asio::co_spawn(executor,
                   serve_plain(state, Socket(std::move(accepted)), std::move(connection), false),
                   asio::detached);
  }
}

asio::awaitable<void> watch_hangups(std::shared_ptr<Front::State> state) {
  while (!state->stopping) {  // a hang-up already told keeps stop()'s cancel from finding the wait
    error_code error;
    co_await state->hangups.async_wait(asio::posix::stream_descriptor::wait_read,
                                       asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    std::array<epoll_event, 64> events{};
    const int count =
        epoll_wait(state->hangup_epoll, events.data(), static_cast<int>(events.size()), 0);
    for (int i = 0; i < count; ++i) {
      ConnectionPointer ended;  // let go after the lock
      const std::lock_guard lock(state->mutex);
      const auto at = state->handed_over.find(events[static_cast<std::size_t>(i)].data.u64);
      if (at == state->handed_over.end()) continue;
      ended = std::move(at->second);
      state->handed_over.erase(at);
      epoll_ctl(state->hangup_epoll, EPOLL_CTL_DEL, ended->watch, nullptr);
    }
  }
}

asio::awaitable<void> serve_plain(std::shared_ptr<Front::State> state, Socket socket,
                                  ConnectionPointer connection, bool inside_tls) {
  asio::steady_timer deadline(socket.get_executor(), state->options.limits.first_bytes);
  deadline.async_wait([connection](const error_code& error) {
    if (!error) connection->shut_down();
  });
  const Protocol protocol = co_await look(socket, deadline.expiry());
  deadline.cancel();
  switch (protocol) {
    case Protocol::unknown: ++state->failed; co_return;
    case Protocol::tls:
      if (inside_tls || !state->current_tls()) {
        ++state->failed;
        co_return;
      }
      co_await serve_tls(state, std::move(socket), std::move(connection));
      co_return;
    case Protocol::http2:
    case Protocol::http1:
      if (state->options.tls_only && !inside_tls) {
        ++state->failed;
        co_return;
      }
      if (protocol == Protocol::http2) {
        hand_over(*state, socket, connection, inside_tls);
      } else {
        co_await serve_http(state, std::move(socket), std::move(connection));
      }
  }
}

}  // namespace chalk::front
