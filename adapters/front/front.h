// The one public port. It speaks gRPC (h2c, and h2 over TLS), Connect unary over HTTP/1.1 (plain
// and TLS), and plain HTTP/1.1 for routes that the owner adds.
//
// The first bytes of a connection say what it is. gRPC connections are handed to a grpc::Server in
// the same process, which needs no port of its own; Connect calls go to the same server over its
// in-process channel, so a service is written once. Everything a stranger sends is bounded in
// size, count and time. docs/decisions/0002-public-port.md says why it is built like this.
//
// What comes over h2 is bounded by the gRPC server alone: its owner sets grpc_limits.h.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adapters/error.h"

namespace grpc {
class Server;
class ServerContextBase;
}  // namespace grpc

namespace chalk::front {

struct Request {
  std::string method;  // "GET", in capitals
  std::string path;    // as sent, without the query; begins with '/'
  std::string query;   // as sent, without the '?'
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // empty while admit() is asked
  std::string peer;                                          // "192.0.2.1:4711", "[::1]:4711"

  // The first one of that name (in lower case), or "".
  std::string_view header(std::string_view name) const;
};

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body = {};
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// Runs on one of Options::handler_threads and may wait, but not without bound. An exception that
// leaves it is answered with 500.
using Handler = std::function<Response(const Request&)>;
// Asked when the headers are there, before the body is read: a response that it returns is sent
// instead and the body is not read. Runs on a network thread: it must not wait.
using Admit = std::function<std::unique_ptr<Response>(const Request&)>;

struct RouteOptions {
  std::uint64_t body_bytes_max = 64 * 1024;
  Admit admit = {};  // none: everybody
};

struct Limits {
  std::size_t connections = 4096;              // beyond it a connection is closed at once
  std::size_t connections_per_address = 2048;  // of one IP address
  std::size_t header_bytes = 32 * 1024;
  std::uint64_t body_bytes = 100ull << 20;               // of a Connect call
  std::uint64_t body_bytes_unauthenticated = 64 * 1024;  // where Options::authenticated says no
  std::uint64_t buffered_bytes = 512ull << 20;           // all bodies being read or answered
  std::chrono::milliseconds first_bytes{10'000};  // until the protocol is known, TLS included
  std::chrono::milliseconds header{10'000};       // from a request's first byte to its last header
  std::chrono::milliseconds body{300'000};        // to read one body, or write one answer
  std::chrono::milliseconds stall{30'000};        // without one byte of a body
  std::chrono::milliseconds idle{75'000};         // keep-alive between requests
  std::chrono::milliseconds call{600'000};        // a Connect call without connect-timeout-ms
};

struct Options {
  std::string address = "127.0.0.1";  // numeric IPv4 or IPv6
  std::uint16_t port = 0;             // 0: any
  // PEM; both or none. With a certificate, TLS and plain connections are both served, unless
  // tls_only. The certificate may be followed by its chain.
  std::string certificate_pem;
  std::string private_key_pem;
  bool tls_only = false;
  std::size_t network_threads = 2;
  std::size_t handler_threads = 4;
  // Whether a Connect request's headers name a known caller; decides over the size of its body
  // only (the service checks for itself). Must not wait. None: nobody is known.
  std::function<bool(const Request&)> authenticated;
  Limits limits;
};

class Front {
 public:
  // Binds the port; throws std::runtime_error where that or the certificate fails. `server` must be
  // started (BuildAndStart) and must outlive this.
  Front(Options options, grpc::Server& server);
  ~Front();  // stops
  Front(const Front&) = delete;
  Front& operator=(const Front&) = delete;

  std::uint16_t port() const { return port_; }

  // Before start(). A path that ends in '/' stands for all paths below it, others for themselves;
  // the longest one wins. Routes win over Connect. HEAD is answered by GET's handler, bodiless.
  void route(std::string method, std::string path, Handler handler, RouteOptions options = {});
  void start();

  // No new connections from now on; open ones go on. For an orderly end: stop_accepting(),
  // server.Shutdown(deadline), stop().
  void stop_accepting();
  // Cuts every connection, cancels their calls, joins all threads. Takes as long as the handlers
  // that run now. Doing it again is fine.
  void stop();

  // New certificate for the connections to come.
  Result<void> replace_certificate(const std::string& certificate_pem,
                                   const std::string& private_key_pem);

  // Who calls, for logs: the client's address and port, whichever way it came.
  std::string peer(const grpc::ServerContextBase& context) const;

  struct Counters {
    std::uint64_t open = 0;      // connections now
    std::uint64_t accepted = 0;  // in total, like the following
    std::uint64_t refused = 0;   // beyond a limit
    std::uint64_t grpc = 0;      // handed to the gRPC server
    std::uint64_t requests = 0;  // over HTTP/1.1
    std::uint64_t failed = 0;    // ended by a timeout, garbage or a failed TLS handshake
  };
  Counters counters() const;

  struct State;  // internal

 private:
  std::shared_ptr<State> state_;
  std::uint16_t port_ = 0;
};

}  // namespace chalk::front
