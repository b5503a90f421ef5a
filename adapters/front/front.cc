#include "adapters/front/front.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/channel_arguments.h>
#include <sys/epoll.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <charconv>
#include <stdexcept>

#include "adapters/front/peer.h"
#include "adapters/front/state.h"

namespace chalk::front {
namespace {

using boost::system::error_code;

grpc::ChannelArguments channel_arguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);  // the server bounds its answers
  arguments.SetMaxSendMessageSize(-1);     // what came in was measured
  return arguments;
}

void listen(asio::ip::tcp::acceptor& acceptor, const Options& options) {
  const std::string where = options.address + ":" + std::to_string(options.port);
  error_code error;
  const auto address = asio::ip::make_address(options.address, error);
  if (error) throw std::runtime_error("front: " + where + ": expected an IP address");
  const asio::ip::tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(1024, error);
  if (error) throw std::runtime_error("front: " + where + ": cannot listen: " + error.message());
}

}  // namespace

std::string_view Request::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

Front::State::State(Options options_given, grpc::Server& server_given)
    : options(std::move(options_given)),
      server(server_given),
      stub(server.InProcessChannel(channel_arguments())),
      handlers(options.handler_threads),
      acceptor(asio::make_strand(network)),
      hangups(asio::make_strand(network)) {
  if (options.certificate_pem.empty() != options.private_key_pem.empty()) {
    throw std::runtime_error("front: found one of certificate and private key, expected both");
  }
  if (!options.certificate_pem.empty()) {
    tls = make_tls_context(options.certificate_pem, options.private_key_pem);
  } else if (options.tls_only) {
    throw std::runtime_error("front: tls_only without a certificate serves nobody");
  }
  const int watched = epoll_create1(EPOLL_CLOEXEC);
  if (watched < 0) throw std::runtime_error("front: no epoll: no descriptors left?");
  hangups.assign(watched);
  hangup_epoll = watched;
  listen(acceptor, options);
}

std::shared_ptr<asio::ssl::context> Front::State::current_tls() {
  const std::lock_guard lock(mutex);
  return tls;
}

void Front::State::call_begins() {
  const std::lock_guard lock(mutex);
  ++calls;
}

void Front::State::call_ends() {
  const std::lock_guard lock(mutex);
  if (--calls == 0) no_calls.notify_all();
}

void Front::State::wait_for_calls() {
  std::unique_lock lock(mutex);
  no_calls.wait(lock, [&] { return calls == 0; });
}

const Route* Front::State::find_route(std::string_view method, std::string_view path,
                                      bool& path_known) const {
  const Route* best = nullptr;
  for (const auto& route : routes) {
    const bool matches =
        route.path.ends_with('/') ? path.starts_with(route.path) : path == route.path;
    if (!matches) continue;
    path_known = true;
    if (route.method != method) continue;
    if (best == nullptr || route.path.size() > best->path.size()) best = &route;
  }
  return best;
}

Front::Front(Options options, grpc::Server& server)
    : state_(std::make_shared<State>(std::move(options), server)),
      port_(state_->acceptor.local_endpoint().port()) {}

Front::~Front() { stop(); }

void Front::route(std::string method, std::string path, Handler handler, RouteOptions options) {
  if (state_->work) throw std::runtime_error("front: routes are added before start()");
  state_->routes.push_back(
      {std::move(method), std::move(path), std::move(handler), std::move(options)});
}

void Front::start() {
  if (state_->work || state_->stopping) throw std::runtime_error("front: started twice");
  state_->work.emplace(state_->network.get_executor());
  asio::co_spawn(state_->acceptor.get_executor(), accept_loop(state_), asio::detached);
  asio::co_spawn(state_->hangups.get_executor(), watch_hangups(state_), asio::detached);
  for (std::size_t i = 0; i < std::max<std::size_t>(1, state_->options.network_threads); ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->network.run(); });
  }
}

void Front::stop_accepting() {
  asio::post(state_->acceptor.get_executor(), [state = state_] {
    error_code ignored;
    state->acceptor.close(ignored);
  });
}

void Front::stop() {
  if (state_->stopping.exchange(true)) return;
  stop_accepting();
  std::vector<ConnectionPointer> open;  // let go after the lock
  {
    const std::lock_guard lock(state_->mutex);
    for (const auto& [id, weak] : state_->open) {
      if (auto connection = weak.lock()) open.push_back(std::move(connection));
    }
  }
  for (const auto& connection : open) connection->shut_down();
  open.clear();
  asio::post(state_->hangups.get_executor(), [state = state_] {
    error_code ignored;
    state->hangups.cancel(ignored);
  });
  state_->work.reset();
  if (state_->threads.empty()) state_->network.run();  // never started: only what was posted
  for (auto& thread : state_->threads) thread.join();
  state_->handlers.join();
  state_->wait_for_calls();
  std::map<std::uint64_t, ConnectionPointer> handed_over;
  {
    const std::lock_guard lock(state_->mutex);
    handed_over.swap(state_->handed_over);
  }
}

Result<void> Front::replace_certificate(const std::string& certificate_pem,
                                        const std::string& private_key_pem) {
  try {
    auto made = make_tls_context(certificate_pem, private_key_pem);
    const std::lock_guard lock(state_->mutex);
    state_->tls = std::move(made);
    return {};
  } catch (const std::runtime_error& error) {
    return fail(Error::Kind::invalid, error.what());
  }
}

std::string Front::peer(const grpc::ServerContextBase& context) const {
  const std::string known = context.peer();
  if (known == "unknown" || known.starts_with("inproc")) {  // what gRPC calls its inside
    const auto& metadata = context.client_metadata();
    const auto at = metadata.find(kPeerMetadata);
    return at == metadata.end() ? known : std::string(at->second.data(), at->second.size());
  }
  const auto colon = known.find("fd:");
  int descriptor = -1;
  if (colon != known.npos) {
    std::from_chars(known.data() + colon + 3, known.data() + known.size(), descriptor);
  }
  const std::lock_guard lock(state_->mutex);
  const auto at = state_->peers.find(descriptor);
  return at == state_->peers.end() ? known : at->second.second;
}

Front::Counters Front::counters() const {
  Counters counters;
  counters.accepted = state_->accepted;
  counters.refused = state_->refused;
  counters.grpc = state_->grpc_connections;
  counters.requests = state_->requests;
  counters.failed = state_->failed;
  const std::lock_guard lock(state_->mutex);
  counters.open = state_->open.size();
  return counters;
}

}  // namespace chalk::front
