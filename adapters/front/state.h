// What the parts of the front share. Internal: it brings Boost with it.
//
// Each connection lives on its own strand, as coroutines that hold a shared Connection. The end of
// the last holder is the end of the connection; stop() shuts the sockets down and waits for that.
#pragma once
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/server.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "adapters/front/front.h"

namespace chalk::front {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;

struct Route {
  std::string method, path;
  Handler handler;
  RouteOptions options;
};

// One accepted connection: its place among those that are allowed, and a second descriptor of the
// TCP socket, by which it can be shut down (and watched) whoever owns the first.
class Connection {
 public:
  Connection(Front::State& state, std::uint64_t id, std::string address, std::string peer,
             int watch);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  void shut_down() const;

  const std::uint64_t id;
  const std::string address, peer;
  const int watch;
  int grpc_descriptor = -1;  // what the gRPC server knows it by

 private:
  Front::State& state_;
};
using ConnectionPointer = std::shared_ptr<Connection>;

struct Front::State {
  State(Options options_given, grpc::Server& server_given);

  const Options options;
  grpc::Server& server;
  grpc::GenericStub stub;
  std::vector<Route> routes;  // fixed from start() on

  asio::io_context network;
  asio::thread_pool handlers;
  asio::ip::tcp::acceptor acceptor;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
  std::vector<std::thread> threads;
  asio::posix::stream_descriptor hangups;  // an epoll of sockets that gRPC owns
  int hangup_epoll = -1;                   // its number, for all threads

  std::atomic<std::uint64_t> accepted{0}, refused{0}, grpc_connections{0}, requests{0}, failed{0};
  std::atomic<std::uint64_t> buffered{0};
  std::atomic<bool> stopping{false};

  std::mutex mutex;  // of what follows
  std::shared_ptr<asio::ssl::context> tls;
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, std::weak_ptr<Connection>> open;
  std::map<std::uint64_t, ConnectionPointer> handed_over;  // to gRPC: nothing of ours holds them
  std::map<std::string, std::size_t> by_address;
  std::unordered_map<int, std::pair<std::uint64_t, std::string>> peers;  // by gRPC's descriptor
  std::size_t calls = 0;  // into the server, whose callbacks have not returned
  std::condition_variable no_calls;

  std::shared_ptr<asio::ssl::context> current_tls();
  // stop() waits for the end of every call: what gRPC's thread holds then is never the last of its
  // kind. (A channel that ends on that thread makes it wait for itself.)
  void call_begins();
  void call_ends();
  void wait_for_calls();
  // Nothing where a limit is reached.
  ConnectionPointer admit(const asio::ip::tcp::endpoint& remote, int socket);
  const Route* find_route(std::string_view method, std::string_view path, bool& path_known) const;
};

// connection.cc
asio::awaitable<void> accept_loop(std::shared_ptr<Front::State> state);
asio::awaitable<void> watch_hangups(std::shared_ptr<Front::State> state);
// A plain connection, or the inside of a TLS one, whose protocol is not known yet.
asio::awaitable<void> serve_plain(std::shared_ptr<Front::State> state, Socket socket,
                                  ConnectionPointer connection, bool inside_tls);
// tls.cc
std::shared_ptr<asio::ssl::context> make_tls_context(const std::string& certificate_pem,
                                                     const std::string& private_key_pem);
asio::awaitable<void> serve_tls(std::shared_ptr<Front::State> state, Socket socket,
                                ConnectionPointer connection);
// http.cc
asio::awaitable<void> serve_http(std::shared_ptr<Front::State> state, Socket socket,
                                 ConnectionPointer connection);

}  // namespace chalk::front
