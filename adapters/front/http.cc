// HTTP/1.1: requests one after the other, each to a route or, as a Connect call, to the server.
// clang-format off
#include <utility>  // before Boost 1.74, which forgets it
// clang-format on
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <limits>

#include "adapters/front/connect.h"
#include "adapters/front/state.h"

namespace chalk::front {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using Stream = beast::basic_stream<asio::generic::stream_protocol, asio::any_io_executor>;
using HeadParser = http::request_parser<http::empty_body>;
using BodyParser = http::request_parser<http::string_body>;

bool only_chunked(const http::request<http::empty_body>& head) {
  return head.count(http::field::transfer_encoding) == 1 &&
         beast::iequals(head[http::field::transfer_encoding], "chunked");
}

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr auto kLinger = std::chrono::seconds(2);
constexpr std::size_t kLingerBytesMax = 8 << 20;

// An answer that another thread will give. The timer stands for an event.
struct Pending {
  explicit Pending(const asio::any_io_executor& executor)
      : ready(executor, asio::steady_timer::time_point::max()) {}
  asio::steady_timer ready;
  bool done = false;
  Response response;
};

void complete(const std::shared_ptr<Pending>& pending, Response response) {
  asio::post(pending->ready.get_executor(), [pending, response = std::move(response)]() mutable {
    pending->response = std::move(response);
    pending->done = true;
    pending->ready.cancel();
  });
}

Response plain(int status, std::string text) {
  Response response;
  response.status = status;
  response.body = std::move(text) + "\n";
  return response;
}

// A share of Limits::buffered_bytes, given back at the end.
class Share {
 public:
  Share(std::atomic<std::uint64_t>& used, std::uint64_t most) : used_(used), most_(most) {}
  ~Share() { used_ -= held_; }
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;
  bool grow_to(std::uint64_t bytes) {
    if (bytes <= held_) return true;
    const std::uint64_t more = bytes - held_;
    if (used_.fetch_add(more) + more > most_) {
      used_ -= more;
      return false;
    }
    held_ = bytes;
    return true;
  }

 private:
  std::atomic<std::uint64_t>& used_;
  const std::uint64_t most_;
  std::uint64_t held_ = 0;
};

class Session {
 public:
  Session(std::shared_ptr<Front::State> state, Socket socket, ConnectionPointer connection)
      : state_(std::move(state)),
        limits_(state_->options.limits),
        stream_(std::move(socket)),
        buffer_(limits_.header_bytes + kReadBytes),
        connection_(std::move(connection)) {}

  asio::awaitable<void> run();

 private:
  asio::awaitable<bool> one_request();
  asio::awaitable<bool> read_head(HeadParser& parser);
  asio::awaitable<bool> read_body(BodyParser& parser, std::uint64_t most, Share& share,
                                  Response& refused);
  asio::awaitable<Response> handle(const Route& route, Request request);
  asio::awaitable<Response> call(Request request);
  asio::awaitable<bool> write(const Response& response, bool keep_alive, bool head_only,
                              unsigned version);
  asio::awaitable<void> linger();
  std::unique_ptr<Response> refuse(const Request& request, const Route* route, bool path_known,
                                   std::uint64_t& most) const;
  void watch_for_end(const std::shared_ptr<Pending>& pending,
                     const std::shared_ptr<ConnectCall>& call);

  std::shared_ptr<Front::State> state_;
  const Limits& limits_;
  Stream stream_;
  beast::flat_buffer buffer_;
  ConnectionPointer connection_;
  bool first_ = true;
};

asio::awaitable<void> Session::run() {
  bool goes_on = true;
  while (goes_on && !state_->stopping) goes_on = co_await one_request();
  co_await linger();
}

// Lets the client read what was said before the connection goes: a socket closed with unread bytes
// resets it.
asio::awaitable<void> Session::linger() {
  error_code error;
  stream_.socket().shutdown(Socket::shutdown_send, error);
  stream_.expires_after(kLinger);
  std::size_t total = 0;
  while (!error && total < kLingerBytesMax) {
    buffer_.clear();
    total += co_await stream_.async_read_some(buffer_.prepare(kReadBytes),
                                              asio::redirect_error(asio::use_awaitable, error));
  }
}

// False where the connection is to end. What is wrong with the request has been answered then.
asio::awaitable<bool> Session::read_head(HeadParser& parser) {
  error_code error;
  if (buffer_.size() == 0) {
    stream_.expires_after(first_ ? limits_.header : limits_.idle);
    const std::size_t count = co_await stream_.async_read_some(
        buffer_.prepare(4096), asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    buffer_.commit(count);
  }
  first_ = false;
  stream_.expires_after(limits_.header);
  co_await http::async_read_header(stream_, buffer_, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
  if (!error) co_return true;
  ++state_->failed;
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    co_await write(
        plain(431, "headers: more than " + std::to_string(limits_.header_bytes) + " bytes"), false,
        false, 11);
  } else if (error.category() == make_error_code(http::error::bad_method).category() &&
             error != http::error::end_of_stream && error != http::error::partial_message) {
    co_await write(plain(400, "not an HTTP/1.1 request: " + error.message()), false, false, 11);
  }
  co_return false;
}

Request request_of(const http::request<http::empty_body>& head, const std::string& peer) {
  Request request;
  request.method = std::string(head.method_string());
  const std::string target(head.target());
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question != target.npos) request.query = target.substr(question + 1);
  request.peer = peer;
  for (const auto& field : head) {
    std::string name(field.name_string());
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  return request;
}

// What is refused before the body is read; otherwise how long the body may be.
std::unique_ptr<Response> Session::refuse(const Request& request, const Route* route,
                                          bool path_known, std::uint64_t& most) const {
  if (request.path.empty() || request.path[0] != '/') {
    return std::make_unique<Response>(plain(400, "target: expected a path that begins with /"));
  }
  if (route != nullptr) {
    most = route->options.body_bytes_max;
    return route->options.admit ? route->options.admit(request) : nullptr;
  }
  if (path_known) return std::make_unique<Response>(plain(405, "not with this method"));
  if (!is_rpc_path(request.path)) return std::make_unique<Response>(plain(404, "nothing is here"));
  const bool known = state_->options.authenticated && state_->options.authenticated(request);
  most = known ? limits_.body_bytes : limits_.body_bytes_unauthenticated;
  return refuse_call(request);
}

asio::awaitable<bool> Session::read_body(BodyParser& parser, std::uint64_t most, Share& share,
                                         Response& refused) {
  const auto length = parser.content_length();
  const std::string limit = "body: at most " + std::to_string(most) + " bytes are taken here";
  if (length && *length > most) {
    refused = connect_error("resource_exhausted", limit);
    refused.status = 413;
    co_return false;
  }
  refused = connect_error("unavailable", "too much is being read at once; try again");
  if (length && !share.grow_to(*length)) co_return false;
  parser.body_limit(most);
  const auto deadline = std::chrono::steady_clock::now() + limits_.body;
  error_code error;
  while (!parser.is_done()) {
    stream_.expires_at(std::min(deadline, std::chrono::steady_clock::now() + limits_.stall));
    co_await http::async_read_some(stream_, buffer_, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::body_limit) {
      refused = connect_error("resource_exhausted", limit);
      refused.status = 413;
      co_return false;
    }
    if (error) {
      ++state_->failed;
      refused = plain(400, "body: " + error.message());
      co_return false;
    }
    if (!share.grow_to(parser.get().body().size())) co_return false;
  }
  co_return true;
}

asio::awaitable<Response> Session::handle(const Route& route, Request request) {
  const auto pending = std::make_shared<Pending>(stream_.get_executor());
  asio::post(state_->handlers, [pending, &route, request = std::move(request)] {
    try {
      complete(pending, route.handler(request));
    } catch (const std::exception&) {
      complete(pending, plain(500, "the handler failed"));
    }
  });
  error_code error;
  while (!pending->done) {
    co_await pending->ready.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  co_return std::move(pending->response);
}

// A client that goes away takes its call with it. One that only ends its sending side counts as
// gone too: no HTTP client does that before it has its answer.
void Session::watch_for_end(const std::shared_ptr<Pending>& pending,
                            const std::shared_ptr<ConnectCall>& call) {
  const int descriptor = stream_.socket().native_handle();
  stream_.socket().async_wait(
      Socket::wait_read, [pending, call, descriptor](const error_code& error) {
        if (error || pending->done) return;
        char byte = 0;
        const ssize_t count = recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) call->cancel();
      });
}

asio::awaitable<Response> Session::call(Request request) {
  const auto pending = std::make_shared<Pending>(stream_.get_executor());
  const auto call = std::make_shared<ConnectCall>(std::move(request), limits_.call);
  const auto begin = [&state = *state_, pending, call] {
    if (auto refused = call->prepare()) {
      complete(pending, std::move(*refused));
      return;
    }
    state.call_begins();
    call->start(state.stub, [&state, pending, call](grpc::Status status) mutable {
      {
        auto end = [pending = std::move(pending), call = std::move(call), status] {
          complete(pending, call->finish(status));
        };
        call->json() ? asio::post(state.handlers, std::move(end)) : end();
      }
      state.call_ends();  // nothing of the front is held or touched after this
    });
  };
  watch_for_end(pending, call);
  call->json() ? asio::post(state_->handlers, begin) : begin();
  error_code error;
  while (!pending->done) {
    co_await pending->ready.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  stream_.socket().cancel(error);  // the watch
  co_return std::move(pending->response);
}

bool legal_header(const std::string& text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) == text.npos;
}

asio::awaitable<bool> Session::write(const Response& response, bool keep_alive, bool head_only,
                                     unsigned version) {
  http::response<http::string_body> message(static_cast<http::status>(response.status), version);
  message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) {
    if (legal_header(name) && legal_header(value)) message.insert(name, value);
  }
  message.keep_alive(keep_alive);
  message.content_length(response.body.size());
  if (!head_only) message.body() = response.body;
  http::response_serializer<http::string_body> serializer(message);
  const auto deadline = std::chrono::steady_clock::now() + limits_.body;
  error_code error;
  while (!error && !serializer.is_done()) {
    stream_.expires_at(std::min(deadline, std::chrono::steady_clock::now() + limits_.stall));
    co_await http::async_write_some(stream_, serializer,
                                    asio::redirect_error(asio::use_awaitable, error));
  }
  co_return !error;
}

asio::awaitable<bool> Session::one_request() {
  HeadParser head;
  head.header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
  // Looked at below, when it is known what is asked. (Boost 1.74 takes none for zero.)
  head.body_limit(std::numeric_limits<std::uint64_t>::max());
  const bool readable = co_await read_head(head);
  if (!readable) co_return false;
  ++state_->requests;
  Request request = request_of(head.get(), connection_->peer);
  const unsigned version = head.get().version();
  const bool head_only = request.method == "HEAD";
  // Where its end is in doubt, so is the next request: nothing after it is read.
  if (head.get().count(http::field::transfer_encoding) != 0 && !only_chunked(head.get())) {
    Response refused;  // named: gcc 12 destroys temporaries of a co_await twice
    refused.status = 400;
    refused.body = "transfer-encoding: expected chunked\n";
    co_await write(refused, false, head_only, version);
    co_return false;
  }
  const bool keep = head.keep_alive() && version == 11;
  bool path_known = false;
  const Route* route =
      state_->find_route(head_only ? "GET" : request.method, request.path, path_known);
  std::uint64_t most = 0;
  const auto refusal = refuse(request, route, path_known, most);
  if (refusal) {
    const bool bodiless = !head.chunked() && head.content_length().value_or(0) == 0;
    const bool written = co_await write(*refusal, keep && bodiless, head_only, version);
    co_return written&& keep&& bodiless;
  }
  if (request.header("expect") == "100-continue" && buffer_.size() == 0) {
    error_code error;
    stream_.expires_after(limits_.stall);
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    co_await asio::async_write(stream_, asio::buffer(go_on),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
  }
  Share share(state_->buffered, limits_.buffered_bytes);
  BodyParser body(std::move(head));
  Response response;
  const bool complete_body = co_await read_body(body, most, share, response);
  if (!complete_body) {
    co_await write(response, false, head_only, version);
    co_return false;
  }
  request.body = std::move(body.get().body());
  const std::uint64_t taken = request.body.size();
  stream_.expires_never();
  // No co_await inside an expression here: gcc 12 makes wrong code of it.
  if (route != nullptr) {
    response = co_await handle(*route, std::move(request));
  } else {
    response = co_await call(std::move(request));
  }
  if (!share.grow_to(taken + response.body.size())) {
    response = connect_error("unavailable", "too much is being answered at once; try again");
  }
  const bool written = co_await write(response, keep, head_only, version);
  co_return written&& keep;
}

}  // namespace

asio::awaitable<void> serve_http(std::shared_ptr<Front::State> state, Socket socket,
                                 ConnectionPointer connection) {
  Session session(std::move(state), std::move(socket), std::move(connection));
  co_await session.run();
}

}  // namespace chalk::front
