#include "control_double.h"

#include <stdexcept>

#include "model/core/codec.h"

namespace chalk::agent {

using namespace std::chrono_literals;

struct ControlDouble::Pipe {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<node::v1::ChannelUp> in;
  grpc::ServerReaderWriter<node::v1::ChannelDown, node::v1::ChannelUp>* stream = nullptr;
  grpc::ServerContext* context = nullptr;
  bool attached = false, ended = false, closed = false;
};

ControlDouble::ControlDouble(const std::string& folder) : authority_(folder) {
  const auto credentials = authority_.server_credentials({"127.0.0.1", "localhost"});
  if (!credentials) throw std::runtime_error(credentials.error().message);
  grpc::SslServerCredentialsOptions tls(
      GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = credentials->root_pem;
  tls.pem_key_cert_pairs.push_back(
      {credentials->private_key_pem, credentials->certificate_pem + credentials->root_pem});
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(tls), &port_);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (!server_) throw std::runtime_error("the double's server does not start");
}

ControlDouble::~ControlDouble() {
  cut();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& weak : pipes_) {
      if (const auto pipe = weak.lock()) {
        const std::lock_guard inner(pipe->mutex);
        pipe->closed = true;
        if (pipe->context != nullptr) pipe->context->TryCancel();
        pipe->changed.notify_all();
      }
    }
  }
  server_->Shutdown(std::chrono::system_clock::now() + 2s);
}

grpc::Status ControlDouble::Join(grpc::ServerContext* context,
                                 const node::v1::JoinRequest* request,
                                 node::v1::JoinResponse* response) {
  const std::lock_guard lock(mutex_);
  tokens_.push_back(request->join_token());
  const bool known =
      !context->auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME).empty();
  if (request->join_token() != kToken && !known) {
    return {grpc::StatusCode::PERMISSION_DENIED, "no such join token"};
  }
  const auto certificate = authority_.issue_node(request->csr_pem(), kNodeKey);
  if (!certificate) return {grpc::StatusCode::INVALID_ARGUMENT, certificate.error().message};
  response->set_certificate_pem(*certificate);
  response->set_authority_pem(authority_.certificate_pem());
  response->set_node_key(kNodeKey);
  return grpc::Status::OK;
}

grpc::Status ControlDouble::Connect(grpc::ServerContext* context, Stream* stream) {
  const auto shown = context->auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  if (shown.empty()) return {grpc::StatusCode::UNAUTHENTICATED, "no certificate"};
  const auto key = authority_.node_key(std::string(shown[0].data(), shown[0].size()));
  if (!key || *key != kNodeKey) return {grpc::StatusCode::UNAUTHENTICATED, "not that node"};
  node::v1::FromNode message;
  if (!stream->Read(&message) || !message.has_hello()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "expected hello"};
  }
  {
    const std::lock_guard lock(mutex_);
    stream_ = stream;
    context_ = context;
    ++connections_;
    changed_.notify_all();
  }
  while (stream->Read(&message)) take(message);
  const std::lock_guard lock(mutex_);
  if (stream_ == stream) stream_ = nullptr;
  if (context_ == context) context_ = nullptr;
  changed_.notify_all();
  return grpc::Status::OK;
}

void ControlDouble::say(const Envelope<NodeOrder>& envelope) {
  if (stream_ == nullptr) return;
  node::v1::ToNode message;
  message.set_order(encode(envelope));
  stream_->Write(message);
}

void ControlDouble::take(const node::v1::FromNode& message) {
  const std::lock_guard lock(mutex_);
  if (message.has_registration()) {
    NodeRegistration registration;
    if (!decode(message.registration(), registration)) return;
    if (registration.incarnation != registration_.incarnation) {
      orders_ = {};
      inbox_ = {};
    }
    registration_ = registration;
    welcomed_ = true;
    node::v1::ToNode answer;
    answer.mutable_welcome()->set_incarnation(registration.incarnation);
    answer.mutable_welcome()->set_node(9);
    if (stream_ != nullptr) stream_->Write(answer);
  } else if (message.has_report()) {
    Envelope<NodeReport> envelope;
    if (!decode(message.report().envelope(), envelope)) return;
    orders_.acknowledge(envelope.acknowledged);
    if (envelope.message && inbox_.accept(envelope.sequence)) {
      reports_.push_back(std::move(*envelope.message));
    }
    orders_.resend([&](std::uint64_t sequence, const NodeOrder& order) {
      say({registration_.incarnation, sequence, inbox_.received, order});
    });
    say({registration_.incarnation, 0, inbox_.received, {}});
  }
  changed_.notify_all();
}

void ControlDouble::order(NodeOrder order) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t sequence = orders_.push(order);
  say({registration_.incarnation, sequence, inbox_.received, std::move(order)});
}

std::optional<NodeReport> ControlDouble::report(const Fits& fits, std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  std::optional<NodeReport> found;
  changed_.wait_for(lock, timeout, [&] {
    for (auto place = reports_.begin(); place != reports_.end(); ++place) {
      if (!fits(*place)) continue;
      found = std::move(*place);
      reports_.erase(place);
      return true;
    }
    return false;
  });
  return found;
}

bool ControlDouble::wait_connected(std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return welcomed_ && stream_ != nullptr; });
}

bool ControlDouble::wait_gone(std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] { return stream_ == nullptr; });
}

void ControlDouble::cut() {
  const std::lock_guard lock(mutex_);
  if (context_ != nullptr) context_->TryCancel();
}

std::size_t ControlDouble::connections() {
  const std::lock_guard lock(mutex_);
  return connections_;
}

NodeRegistration ControlDouble::registration() {
  const std::lock_guard lock(mutex_);
  return registration_;
}

// ---- channels

grpc::Status ControlDouble::Channel(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<node::v1::ChannelDown, node::v1::ChannelUp>* stream) {
  node::v1::ChannelUp message;
  if (!stream->Read(&message)) return {grpc::StatusCode::INVALID_ARGUMENT, "nothing said"};
  std::shared_ptr<Pipe> pipe;
  {
    const std::lock_guard lock(mutex_);
    const auto found = opening_.find(message.channel());
    if (found == opening_.end()) return {grpc::StatusCode::NOT_FOUND, "no such channel"};
    pipe = found->second;
    opening_.erase(found);
  }
  {
    const std::lock_guard lock(pipe->mutex);
    pipe->stream = stream;
    pipe->context = context;
    pipe->attached = true;
    pipe->changed.notify_all();
  }
  while (stream->Read(&message)) {
    const std::lock_guard lock(pipe->mutex);
    pipe->in.push_back(message);
    pipe->changed.notify_all();
  }
  const std::lock_guard lock(pipe->mutex);
  pipe->ended = true;
  pipe->stream = nullptr;
  pipe->context = nullptr;
  pipe->changed.notify_all();
  return grpc::Status::OK;
}

std::unique_ptr<ControlDouble::Work> ControlDouble::open(const node::v1::Open& work) {
  const auto pipe = std::make_shared<Pipe>();
  {
    const std::lock_guard lock(mutex_);
    const std::string name = "word-" + std::to_string(pipes_.size());
    opening_[name] = pipe;
    pipes_.push_back(pipe);
    if (stream_ == nullptr) return nullptr;
    node::v1::ToNode message;
    message.mutable_open_channel()->set_channel(name);
    stream_->Write(message);
  }
  std::unique_lock lock(pipe->mutex);
  if (!pipe->changed.wait_for(lock, 30s, [&] { return pipe->attached; })) return nullptr;
  if (pipe->stream == nullptr) return nullptr;
  node::v1::ChannelDown first;
  *first.mutable_open() = work;
  pipe->stream->Write(first);
  return std::make_unique<Work>(pipe);
}

bool ControlDouble::Work::send(const node::v1::ChannelDown& down) {
  const std::lock_guard lock(pipe_->mutex);
  return pipe_->stream != nullptr && pipe_->stream->Write(down);
}

std::optional<node::v1::ChannelUp> ControlDouble::Work::receive(std::chrono::seconds timeout) {
  std::unique_lock lock(pipe_->mutex);
  pipe_->changed.wait_for(lock, timeout, [&] { return !pipe_->in.empty() || pipe_->ended; });
  if (pipe_->in.empty()) return {};
  auto message = std::move(pipe_->in.front());
  pipe_->in.pop_front();
  return message;
}

void ControlDouble::Work::close() {
  const std::lock_guard lock(pipe_->mutex);
  pipe_->closed = true;
  if (pipe_->context != nullptr) pipe_->context->TryCancel();
}

}  // namespace chalk::agent
