#include "tests/adapters/front/served.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

namespace chalk::front {

grpc::Status Service::ExecCommand(grpc::ServerContext* context,
                                  const api::ExecCommandRequest* request,
                                  api::ExecCommandResponse* response) {
  const auto argument = [&](int i) {
    return i < request->args_size() ? request->args(i) : std::string();
  };
  const std::string& command = request->command();
  if (command == "echo") {
    response->set_stdout(argument(0));
    response->set_exit_code(7);
  } else if (command == "fail") {
    return grpc::Status(static_cast<grpc::StatusCode>(std::stoi(argument(0))), argument(1));
  } else if (command == "peer") {
    response->set_stdout(front->peer(*context));
  } else if (command == "metadata") {
    for (const auto& [name, value] : context->client_metadata()) {
      if (name == argument(0)) response->set_stdout(std::string(value.data(), value.size()));
    }
  } else if (command == "large") {
    response->set_stdout(std::string(std::stoul(argument(0)), 'x'));
  } else if (command == "size") {
    response->set_stdout(std::to_string(request->stdin().size()));
  } else if (command == "wait") {
    ++waiting;
    if (eventually([&] { return context->IsCancelled(); })) ++cancelled;
    --waiting;
    return grpc::Status::CANCELLED;
  } else {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "command " + command);
  }
  return grpc::Status::OK;
}

grpc::Status Service::OpenSession(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<api::OpenSessionResponse, api::OpenSessionRequest>* stream) {
  ++waiting;
  api::OpenSessionRequest request;
  while (stream->Read(&request)) {
    api::OpenSessionResponse response;
    response.mutable_session_attached()->set_session_id(request.new_process().command());
    if (!stream->Write(response)) break;
  }
  --waiting;
  return grpc::Status::OK;
}

Served::Served(Options options, const std::function<void(Front&)>& prepare,
               const GrpcLimits& limits) {
  signal(SIGPIPE, SIG_IGN);
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  set_limits(builder, "served", limits);
  server = builder.BuildAndStart();
  front = std::make_unique<Front>(std::move(options), *server);
  service.front = front.get();
  if (prepare) prepare(*front);
  front->start();
}

Served::~Served() {
  front->stop();
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(10));
  server->Wait();
}

std::unique_ptr<api::SandboxProcessService::Stub> Served::stub(
    std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  arguments.SetMaxReceiveMessageSize(-1);
  return api::SandboxProcessService::NewStub(
      grpc::CreateCustomChannel(target(), credentials, arguments));
}

std::unique_ptr<grpc::ClientContext> client_context() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + kPatience);
  return context;
}

bool Answer::has(const std::string& header_line) const {
  const auto lower = [](std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
  };
  return lower(head).find("\r\n" + lower(header_line) + "\r\n") != std::string::npos;
}

Wire::Wire(std::uint16_t port, const std::string& root_pem, const std::string& protocols) {
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval limit{std::chrono::duration_cast<std::chrono::seconds>(kPatience).count(), 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  good_ = connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  if (root_pem.empty() || !good_) return;
  context_ = SSL_CTX_new(TLS_client_method());
  BIO* bio = BIO_new_mem_buf(root_pem.data(), static_cast<int>(root_pem.size()));
  X509* root = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), root);
  X509_free(root);
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  tls_ = SSL_new(context_);
  X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls_), "127.0.0.1");
  if (!protocols.empty()) {
    SSL_set_alpn_protos(tls_, reinterpret_cast<const unsigned char*>(protocols.data()),
                        static_cast<unsigned>(protocols.size()));
  }
  SSL_set_fd(tls_, socket_);
  good_ = SSL_connect(tls_) == 1;
}

Wire::~Wire() {
  SSL_free(tls_);
  SSL_CTX_free(context_);
  if (socket_ >= 0) close(socket_);
}

void Wire::send(std::string_view bytes) {
  while (!bytes.empty() && good_) {
    const auto count = tls_ != nullptr
                           ? SSL_write(tls_, bytes.data(), static_cast<int>(bytes.size()))
                           : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return;  // the other side had enough: what it said can be read still
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
}

void Wire::end_sending() { shutdown(socket_, SHUT_WR); }

void Wire::abandon() {
  const linger now{1, 0};
  setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(socket_);
  socket_ = -1;
}

std::string Wire::read_some() {
  char bytes[64 * 1024];
  const auto count =
      tls_ != nullptr ? SSL_read(tls_, bytes, sizeof bytes) : recv(socket_, bytes, sizeof bytes, 0);
  return count <= 0 ? std::string() : std::string(bytes, static_cast<std::size_t>(count));
}

std::string Wire::read_to_end() {
  std::string all = std::move(buffer_);
  for (std::string more; !(more = read_some()).empty();) all += more;
  return all;
}

Answer Wire::answer() {
  Answer answer;
  auto end = buffer_.find("\r\n\r\n");
  while (end == buffer_.npos) {
    const std::string more = read_some();
    if (more.empty()) return answer;
    buffer_ += more;
    end = buffer_.find("\r\n\r\n");
  }
  answer.head = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  answer.status = std::stoi(answer.head.substr(answer.head.find(' ')));
  const auto length = answer.head.find("Content-Length: ");
  const std::size_t size =
      length == answer.head.npos ? 0 : std::stoul(answer.head.substr(length + 16));
  while (buffer_.size() < size) {
    const std::string more = read_some();
    if (more.empty()) break;
    buffer_ += more;
  }
  answer.body = buffer_.substr(0, size);
  buffer_.erase(0, size);
  return answer;
}

std::string Wire::protocol() const {
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(tls_, &name, &size);
  return std::string(reinterpret_cast<const char*>(name), size);
}

std::string post(const std::string& path, const std::string& type, const std::string& body,
                 const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}

}  // namespace chalk::front
