#include "adapters/network/proxy.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace chalk::network {
namespace {

constexpr std::uint64_t kWakeKey = 0;
constexpr std::uint64_t kListenerBit = std::uint64_t{1} << 63;
constexpr std::uint32_t kIn = EPOLLIN;
constexpr int kBacklog = 128;
constexpr int kAcceptsPerEvent = 16;
constexpr std::chrono::milliseconds kRound{250};
constexpr std::chrono::seconds kAcceptPause{1};

std::uint64_t listener_key(std::uint16_t port) { return kListenerBit | port; }
std::uint64_t side_key(std::uint64_t connection, int side) {
  return connection << 1 | static_cast<std::uint64_t>(side);
}

bool would_block(int number) { return number == EAGAIN || number == EWOULDBLOCK; }

void set(int socket, int level, int option, int value) {
  (void)::setsockopt(socket, level, option, &value, sizeof value);
}

void prepare(int socket) {
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  // A peer that vanished without a word is found within minutes.
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, 120);
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, 30);
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

// As much as goes without waiting; false: the connection is broken.
bool send_some(int socket, const char* data, std::size_t size, std::size_t& written) {
  while (written < size) {
    const auto count = ::send(socket, data + written, size - written, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return would_block(errno);
    written += static_cast<std::size_t>(count);
  }
  return true;
}

// The other side of the socket learns of a break, not of an end.
void reset_on_close(int socket) {
  const linger none{1, 0};
  (void)::setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

void watch_one(int epoll, int socket, std::uint64_t key, std::uint32_t before, std::uint32_t now) {
  if (before == now) return;
  epoll_event event{};
  event.events = now;
  event.data.u64 = key;
  // Without interest it must not be in epoll at all: a hang-up is told whether asked for or not.
  const int operation = now == 0 ? EPOLL_CTL_DEL : before == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  (void)::epoll_ctl(epoll, operation, socket, &event);
}

}  // namespace

Proxy::Proxy(ProxyOptions options) : options_(options), next_port_(options.port_first) {}

Result<std::unique_ptr<Proxy>> Proxy::open(ProxyOptions options) {
  std::unique_ptr<Proxy> proxy(new Proxy(options));
  proxy->epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  proxy->wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!proxy->epoll_ || !proxy->wake_) {
    return fail(Error::Kind::exhausted, std::string("published ports: ") + std::strerror(errno));
  }
  watch_one(proxy->epoll_.get(), proxy->wake_.get(), kWakeKey, 0, EPOLLIN);
  proxy->chunk_.resize(kChunk);
  proxy->thread_ = std::thread([raw = proxy.get()] { raw->run(); });
  return proxy;
}

Proxy::~Proxy() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

Result<Descriptor> Proxy::listen_on(std::uint16_t port) {
  const std::string where = "listen on " + text_of(options_.listen) + ':' + std::to_string(port);
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::Kind::exhausted, where + ": " + std::strerror(errno));
  // Only for what remains of earlier connections: a second listener is refused all the same.
  set(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  const auto address = socket_address(options_.listen, port);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    const auto kind = errno == EADDRINUSE ? Error::Kind::exhausted : Error::Kind::failed;
    return fail(kind, where + ": " + std::strerror(errno));
  }
  return socket;
}

Result<std::uint16_t> Proxy::publish(Address target, std::uint16_t target_port,
                                     std::uint16_t wanted, bool open) {
  const std::lock_guard lock(mutex_);
  const auto add = [&](std::uint16_t port) -> Result<std::uint16_t> {
    auto socket = listen_on(port);
    if (!socket) return std::unexpected(socket.error());
    if (accepting_) watch_one(epoll_.get(), socket->get(), listener_key(port), 0, EPOLLIN);
    listeners_.emplace(port, Listener{std::move(*socket), target, target_port, 0, open});
    return port;
  };
  if (wanted != 0) return add(wanted);
  const int ports = options_.port_last - options_.port_first + 1;
  for (int tried = 0; tried < ports; ++tried) {
    const std::uint16_t port = next_port_;
    next_port_ = port == options_.port_last ? options_.port_first
                                            : static_cast<std::uint16_t>(port + 1);
    if (listeners_.contains(port)) continue;
    auto added = add(port);
    if (added || added.error().kind != Error::Kind::exhausted) return added;
  }
  return fail(Error::Kind::exhausted,
              "published ports: none of " + std::to_string(options_.port_first) + ".." +
                  std::to_string(options_.port_last) + " is free on " + text_of(options_.listen));
}

void Proxy::unpublish(std::uint16_t host_port) {
  const std::lock_guard lock(mutex_);
  std::vector<std::uint64_t> of_it;
  for (const auto& [number, connection] : connections_) {
    if (connection.host_port == host_port) of_it.push_back(number);
  }
  for (const auto number : of_it) end(number, true);
  listeners_.erase(host_port);
}

void Proxy::set_open(std::uint16_t host_port, bool open) {
  const std::lock_guard lock(mutex_);
  const auto found = listeners_.find(host_port);
  if (found != listeners_.end()) found->second.open = open;
}

Proxy::Counts Proxy::counts() const {
  const std::lock_guard lock(mutex_);
  return {connections_.size(), refused_};
}

void Proxy::run() {
  std::array<epoll_event, 256> events;
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>(kRound.count()));
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      handle(event.data.u64, event.events);
    }
    every_so_often();
  }
}

void Proxy::handle(Key key, std::uint32_t events) {
  if (key == kWakeKey) return;
  if (key & kListenerBit) return accept_some(static_cast<std::uint16_t>(key & 0xffff));
  const auto number = key >> 1;
  const int side = static_cast<int>(key & 1);
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;  // ended by an earlier event of this round
  auto& connection = found->second;
  if (connection.connecting) {
    if (side == 0) return end(number, true);  // only its break is told before the other side is there
    if (!connected(connection)) {
      ++refused_;
      return end(number, true);
    }
  }
  bool good = (events & EPOLLERR) == 0;
  if (good && (events & (EPOLLIN | EPOLLHUP))) good = carry(connection, side);
  if (good && (events & EPOLLOUT)) good = flush(connection, 1 - side);
  if (!good) return end(number, true);
  if (connection.sides[0].shut && connection.sides[1].shut) return end(number, false);
  watch(number, connection);
}

void Proxy::accept_some(std::uint16_t host_port) {
  const auto found = listeners_.find(host_port);
  if (found == listeners_.end()) return;
  for (int i = 0; i < kAcceptsPerEvent; ++i) {
    Descriptor client(
        ::accept4(found->second.socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!client) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        accept_again_ = Clock::now() + kAcceptPause;
        watch_listeners(false);
      }
      return;
    }
    reset_on_close(client.get());  // undone when it ends well
    if (!begin(std::move(client), host_port)) ++refused_;
  }
}

bool Proxy::begin(Descriptor client, std::uint16_t host_port) {
  auto& listener = listeners_.at(host_port);
  if (!listener.open || connections_.size() >= options_.connections_max ||
      listener.connections >= options_.connections_max_per_port) {
    return false;
  }
  Descriptor sandbox(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!sandbox) return false;
  prepare(client.get());
  prepare(sandbox.get());
  reset_on_close(sandbox.get());
  const auto address = socket_address(listener.target, listener.target_port);
  if (::connect(sandbox.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
      errno != EINPROGRESS) {
    return false;
  }
  const auto number = next_connection_++;
  auto& connection = connections_[number];
  connection.sides[0].socket = std::move(client);
  connection.sides[1].socket = std::move(sandbox);
  connection.host_port = host_port;
  connection.deadline = Clock::now() + options_.connect_timeout;
  ++listener.connections;
  watch(number, connection);
  return true;
}

bool Proxy::connected(Connection& connection) {
  int error = 0;
  socklen_t size = sizeof error;
  const int socket = connection.sides[1].socket.get();
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) return false;
  connection.connecting = false;
  return true;
}

// Reads once, writes what goes at once, and keeps the rest until the other side takes it.
bool Proxy::carry(Connection& connection, int from) {
  auto& source = connection.sides[from];
  if (source.ended || !source.waiting.empty()) return true;
  const auto count = ::recv(source.socket.get(), chunk_.data(), chunk_.size(), 0);
  if (count < 0) return would_block(errno) || errno == EINTR;
  if (count == 0) source.ended = true;
  std::size_t written = 0;
  const auto size = static_cast<std::size_t>(count);
  if (!send_some(connection.sides[1 - from].socket.get(), chunk_.data(), size, written)) {
    return false;
  }
  source.waiting.assign(chunk_.data() + written, chunk_.data() + size);
  source.written = 0;
  return !source.waiting.empty() || pass_end(connection, from);
}

bool Proxy::flush(Connection& connection, int from) {
  auto& source = connection.sides[from];
  if (source.waiting.empty()) return true;
  if (!send_some(connection.sides[1 - from].socket.get(), source.waiting.data(),
                 source.waiting.size(), source.written)) {
    return false;
  }
  if (source.written < source.waiting.size()) return true;
  source.waiting = {};
  return pass_end(connection, from);
}

bool Proxy::pass_end(Connection& connection, int from) {
  auto& target = connection.sides[1 - from];
  if (!connection.sides[from].ended || target.shut) return true;
  target.shut = true;
  return ::shutdown(target.socket.get(), SHUT_WR) == 0;
}

void Proxy::watch(std::uint64_t number, Connection& connection) {
  for (int i = 0; i < 2; ++i) {
    auto& side = connection.sides[i];
    const auto& other = connection.sides[1 - i];
    std::uint32_t wanted = 0;
    if (connection.connecting) {
      wanted = i == 0 ? std::uint32_t{EPOLLERR} : std::uint32_t{EPOLLOUT};
    } else {
      if (!side.ended && side.waiting.empty()) wanted |= EPOLLIN;
      if (!other.waiting.empty()) wanted |= EPOLLOUT;
      // Nothing more comes from it, but a break may: else nobody would see it as long as the other
      // side is silent. Once it was told the end too, epoll would say that without an end.
      if (wanted == 0 && side.ended && !side.shut) wanted = EPOLLERR;
    }
    watch_one(epoll_.get(), side.socket.get(), side_key(number, i), side.watched, wanted);
    side.watched = wanted;
  }
}

void Proxy::end(std::uint64_t number, bool broken) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  if (!broken) {
    const linger usual{0, 0};
    for (auto& side : found->second.sides) {
      (void)::setsockopt(side.socket.get(), SOL_SOCKET, SO_LINGER, &usual, sizeof usual);
    }
  }
  const auto listener = listeners_.find(found->second.host_port);
  if (listener != listeners_.end()) --listener->second.connections;
  connections_.erase(found);
}

void Proxy::every_so_often() {
  const auto now = Clock::now();
  if (now < next_round_) return;
  next_round_ = now + kRound;
  if (!accepting_ && now >= accept_again_) watch_listeners(true);
  std::vector<std::uint64_t> late;
  for (const auto& [number, connection] : connections_) {
    if (connection.connecting && now >= connection.deadline) late.push_back(number);
  }
  refused_ += late.size();
  for (const auto number : late) end(number, true);
}

void Proxy::watch_listeners(bool on) {
  if (accepting_ == on) return;
  accepting_ = on;
  for (const auto& [port, listener] : listeners_) {
    watch_one(epoll_.get(), listener.socket.get(), listener_key(port), on ? 0u : kIn,
              on ? kIn : 0u);
  }
}

}  // namespace chalk::network
