#include "adapters/network/names.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "adapters/network/message.h"
#include "adapters/network/names_key.h"

namespace chalk::network {
namespace {

constexpr std::uint16_t kPort = 53;
constexpr int kDatagramsPerEvent = 64;
constexpr int kBacklog = 64;
constexpr std::chrono::milliseconds kRound{250};

bool bind_to(const Descriptor& socket, Address address, std::uint16_t port) {
  const auto local = socket_address(address, port);
  return socket &&
         ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) == 0;
}

}  // namespace

Names::Names(Address gateway, Range pool, Resolvers resolvers)
    : gateway_(gateway), pool_(pool), resolvers_(std::move(resolvers)) {
  buffer_.resize(kAnswerBytesMax);
}

Result<std::unique_ptr<Names>> Names::open(Address gateway, Range pool, Resolvers resolvers) {
  std::unique_ptr<Names> names(new Names(gateway, pool, std::move(resolvers)));
  if (auto listening = names->listen(); !listening) return std::unexpected(listening.error());
  names->thread_ = std::thread([raw = names.get()] { raw->run(); });
  return names;
}

Names::~Names() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
  thread_.join();
}

Result<void> Names::listen() {
  epoll_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
  wake_ = Descriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  datagrams_ = Descriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  listener_ = Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  (void)::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!epoll_ || !wake_ || !bind_to(datagrams_, gateway_, kPort) ||
      !bind_to(listener_, gateway_, kPort) || ::listen(listener_.get(), kBacklog) != 0) {
    return fail(Error::Kind::failed,
                "DNS on " + text_of(gateway_) + ":53: " + std::strerror(errno));
  }
  watch(wake_.get(), kWakeKey, EPOLLIN);
  watch(datagrams_.get(), kDatagramsKey, EPOLLIN);
  watch(listener_.get(), kListenerKey, EPOLLIN);
  return {};
}

void Names::run() {
  std::array<epoll_event, 128> events;
  for (;;) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   static_cast<int>(kRound.count()));
    for (int i = 0; i < count; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == kWakeKey) return;
      handle(event.data.u64);
    }
    every_so_often();
  }
}

void Names::handle(std::uint64_t key) {
  if (key == kDatagramsKey) return take_queries();
  if (key == kListenerKey) return take_connections();
  const auto number = number_of_key(key);
  if (kind_of_key(key) == KeyKind::query) return answered(number);
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  move(number, found->second);
}

void Names::every_so_often() {
  const auto now = Clock::now();
  if (now < next_round_) return;
  next_round_ = now + kRound;
  std::vector<std::uint64_t> late;
  for (const auto& [number, query] : under_way_) {
    if (now >= query.deadline) late.push_back(number);
  }
  for (const auto number : late) {
    if (!ask(number, under_way_.at(number))) give_up(number);
  }
  late.clear();
  for (const auto& [number, connection] : connections_) {
    if (now >= connection.deadline) late.push_back(number);
  }
  for (const auto number : late) connection_late(number);
}

// The next one to ask for a query that was tried that often; with one resolver it is asked again.
std::optional<Resolver> Names::resolver(std::size_t tries) {
  const auto& list = resolvers_.now();
  if (list.empty() || tries >= std::max(kTries, list.size())) return std::nullopt;
  return list[tries % list.size()];
}

void Names::take_queries() {
  for (int i = 0; i < kDatagramsPerEvent; ++i) {
    sockaddr_in from{};
    socklen_t from_size = sizeof from;
    const auto size = ::recvfrom(datagrams_.get(), buffer_.data(), buffer_.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &from_size);
    if (size < 0) return;
    const auto client = ntohl(from.sin_addr.s_addr);
    const std::string_view message(buffer_.data(), static_cast<std::size_t>(size));
    if (!pool_.contains(client) || !is_query(message)) continue;
    take_query(message, client, ntohs(from.sin_port));
  }
}

void Names::take_query(std::string_view message, Address client, std::uint16_t port) {
  ++queries_;
  Query query;
  query.client = client;
  query.client_port = port;
  query.message = message.substr(0, kQueryBytesMax);
  query.client_number = number_of(message);
  const auto objection = message.size() > kQueryBytesMax
                             ? std::optional(MessageCode::format_error)
                             : objection_to(message);
  if (objection) return reply(query, refuse(query.message, *objection));
  const auto others = queries_of_.find(client);
  if (under_way_.size() >= kQueriesMax ||
      (others != queries_of_.end() && others->second >= kQueriesMaxPerSandbox)) {
    ++failures_;
    return reply(query, refuse(query.message, MessageCode::server_failure));
  }
  std::uint16_t random = 0;  // not to be guessed by who would forge an answer
  if (::getrandom(&random, sizeof random, 0) != sizeof random) return;
  set_number(query.message, random);
  const auto number = next_++;
  ++queries_of_[client];
  const auto [kept, added] = under_way_.emplace(number, std::move(query));
  if (!ask(number, kept->second)) give_up(number);
}

bool Names::ask(std::uint64_t number, Query& query) {
  while (const auto next = resolver(query.tries)) {
    ++query.tries;
    query.socket = Descriptor(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!query.socket) return false;
    const auto address = socket_address(next->address, next->port);
    if (::connect(query.socket.get(), reinterpret_cast<const sockaddr*>(&address),
                  sizeof address) != 0 ||
        ::send(query.socket.get(), query.message.data(), query.message.size(), MSG_NOSIGNAL) < 0) {
      continue;
    }
    query.deadline = Clock::now() + kTryTimeout;
    watch(query.socket.get(), key_of(number, KeyKind::query), EPOLLIN);
    return true;
  }
  return false;
}

void Names::answered(std::uint64_t number) {
  const auto found = under_way_.find(number);
  if (found == under_way_.end()) return;
  auto& query = found->second;
  const auto size = ::recv(query.socket.get(), buffer_.data(), buffer_.size(), 0);
  if (size < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    if (!ask(number, query)) give_up(number);  // nobody listens there
    return;
  }
  const std::string_view answer(buffer_.data(), static_cast<std::size_t>(size));
  if (!is_answer_to(answer, query.message)) return;  // forged or late: the right one may come yet
  reply(query, std::string(answer));
  forget(number);
}

void Names::give_up(std::uint64_t number) {
  ++failures_;
  const auto& query = under_way_.at(number);
  reply(query, refuse(query.message, MessageCode::server_failure));
  forget(number);
}

void Names::forget(std::uint64_t number) {
  const auto found = under_way_.find(number);
  const auto count = queries_of_.find(found->second.client);
  if (--count->second == 0) queries_of_.erase(count);
  under_way_.erase(found);
}

void Names::reply(const Query& query, std::string message) {
  set_number(message, query.client_number);
  const auto to = socket_address(query.client, query.client_port);
  (void)::sendto(datagrams_.get(), message.data(), message.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

void Names::watch(int socket, std::uint64_t key, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = key;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket, &event) != 0 && errno == EEXIST) {
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket, &event);
  }
}

}  // namespace chalk::network
