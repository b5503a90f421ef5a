// TLS: the handshake, then a pump between the client and a socket pair whose other end is served
// like a plain connection. One copy more, and everything behind it is written once.
// clang-format off
#include <utility>  // before Boost 1.74, which forgets it
// clang-format on
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <stdexcept>

#include "adapters/front/state.h"

namespace chalk::front {
namespace {

using boost::system::error_code;
using TlsStream = asio::ssl::stream<Socket>;

constexpr std::size_t kPumpBytes = 16 * 1024;
constexpr auto kGoodbye = std::chrono::seconds(5);

// A client that can speak both protocols gets HTTP/1.1: only gRPC clients offer h2 alone, and the
// gRPC server behind h2 understands neither Connect calls nor plain routes.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* offered, unsigned int offered_size, void*) {
  for (const std::string_view wanted : {"http/1.1", "h2"}) {
    for (unsigned int at = 0; at < offered_size;) {
      const unsigned int size = offered[at];
      if (at + 1 + size > offered_size) return SSL_TLSEXT_ERR_ALERT_FATAL;
      const auto* name = offered + at + 1;
      if (std::string_view(reinterpret_cast<const char*>(name), size) == wanted) {
        *out = name;
        *out_size = static_cast<unsigned char>(size);
        return SSL_TLSEXT_ERR_OK;
      }
      at += 1 + size;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// The two ends of the inside: ours to pump, and the one to serve.
struct Tunnel {
  Tunnel(std::shared_ptr<asio::ssl::context> context_given, Socket socket,
         ConnectionPointer connection_given)
      : context(std::move(context_given)),
        inner(socket.get_executor()),
        stream(std::move(socket), *context),
        connection(std::move(connection_given)) {}
  std::shared_ptr<asio::ssl::context> context;
  Socket inner;
  TlsStream stream;
  ConnectionPointer connection;
};

asio::awaitable<void> pump_inwards(std::shared_ptr<Tunnel> tunnel) {
  std::array<char, kPumpBytes> bytes;
  error_code error;
  for (;;) {
    const std::size_t count = co_await tunnel->stream.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    co_await asio::async_write(tunnel->inner, asio::buffer(bytes.data(), count),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
  }
  tunnel->inner.shutdown(Socket::shutdown_send, error);  // the other pump ends what is left
}

asio::awaitable<void> pump_outwards(std::shared_ptr<Tunnel> tunnel) {
  std::array<char, kPumpBytes> bytes;
  error_code error;
  for (;;) {
    const std::size_t count = co_await tunnel->inner.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    co_await asio::async_write(tunnel->stream, asio::buffer(bytes.data(), count),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
  }
  asio::steady_timer deadline(tunnel->inner.get_executor(), kGoodbye);
  deadline.async_wait([tunnel](const error_code& stopped) {
    if (!stopped) tunnel->connection->shut_down();
  });
  co_await tunnel->stream.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
  deadline.cancel();
  tunnel->connection->shut_down();
  tunnel->inner.shutdown(Socket::shutdown_both, error);
}

}  // namespace

std::shared_ptr<asio::ssl::context> make_tls_context(const std::string& certificate_pem,
                                                     const std::string& private_key_pem) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  error_code error;
  context->use_certificate_chain(asio::buffer(certificate_pem), error);
  if (error) throw std::runtime_error("front: certificate: " + error.message());
  context->use_private_key(asio::buffer(private_key_pem), asio::ssl::context::pem, error);
  if (error) throw std::runtime_error("front: private key: " + error.message());
  SSL_CTX* native = context->native_handle();
  if (SSL_CTX_check_private_key(native) != 1) {
    throw std::runtime_error("front: the private key is not that of the certificate");
  }
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(
      native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(native, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(native, choose_protocol, nullptr);
  return context;
}

asio::awaitable<void> serve_tls(std::shared_ptr<Front::State> state, Socket socket,
                                ConnectionPointer connection) {
  const auto executor = socket.get_executor();
  auto tunnel = std::make_shared<Tunnel>(state->current_tls(), std::move(socket), connection);
  asio::steady_timer deadline(executor, state->options.limits.first_bytes);
  deadline.async_wait([connection](const error_code& stopped) {
    if (!stopped) connection->shut_down();
  });
  error_code error;
  co_await tunnel->stream.async_handshake(TlsStream::server,
                                          asio::redirect_error(asio::use_awaitable, error));
  deadline.cancel();
  int ends[2] = {-1, -1};
  if (error || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    ++state->failed;
    co_return;
  }
  const asio::generic::stream_protocol local(AF_UNIX, 0);
  tunnel->inner.assign(local, ends[0]);
  Socket served(executor);
  served.assign(local, ends[1]);
  asio::co_spawn(executor, pump_inwards(tunnel), asio::detached);
  asio::co_spawn(executor, pump_outwards(tunnel), asio::detached);
  co_await serve_plain(state, std::move(served), std::move(connection), true);
}

}  // namespace chalk::front
