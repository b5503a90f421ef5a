#include "adapters/agent/link.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <thread>

#include "chalk/node/v1/node.grpc.pb.h"
#include "model/core/codec.h"
#include "model/protocol/log_record.h"

namespace chalk::agent {
namespace {

using Stream = grpc::ClientReaderWriter<node::v1::FromNode, node::v1::ToNode>;
using namespace std::chrono_literals;

constexpr std::size_t kOutboxMax = 10'000;            // more are dropped, and repeated by machines
constexpr int kMessageBytesMax = 16 << 20;

std::shared_ptr<grpc::Channel> dial(const std::string& server, const std::string& server_name,
                                    const identity::Credentials& credentials) {
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = credentials.root_pem;
  tls.pem_cert_chain = credentials.certificate_pem;
  tls.pem_private_key = credentials.private_key_pem;
  grpc::ChannelArguments arguments;
  if (!server_name.empty()) arguments.SetSslTargetNameOverride(server_name);
  // A connection that died without a word is found within a minute.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 15'000);
  // Despite its name also how long one attempt may take: a busy machine needs seconds for TLS.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 15'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5'000);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // Each agent of a process has a connection of its own, whose certificate says which node it is.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(server, grpc::SslCredentials(tls), arguments);
}

}  // namespace

struct Link::State {
  std::string server, server_name;
  Hello hello;
  LinkHandlers handlers;

  mutable std::mutex mutex;
  std::condition_variable changed;
  identity::Credentials credentials;
  std::shared_ptr<grpc::Channel> channel;
  std::deque<node::v1::FromNode> outbox;
  std::string registration;  // not welcomed yet; as sent
  std::uint64_t registered_incarnation = 0;
  grpc::ClientContext* context = nullptr;  // of the stream there is
  bool up = false, stopping = false, redial = false;
  std::thread thread;

  void run();
  bool converse();
  void write(Stream& stream);
  void handle(const node::v1::ToNode& message);
  void push(node::v1::FromNode message);
};

void Link::State::push(node::v1::FromNode message) {
  const std::lock_guard lock(mutex);
  if (!up || outbox.size() >= kOutboxMax) return;
  outbox.push_back(std::move(message));
  changed.notify_all();
}

void Link::State::run() {
  std::minstd_rand random(std::random_device{}());
  auto pause = 100ms;
  while (true) {
    const auto began = std::chrono::steady_clock::now();
    const bool heard = converse();
    std::unique_lock lock(mutex);
    if (stopping) return;
    pause = heard ? 100ms : std::min<std::chrono::milliseconds>(pause * 2, 5s);
    if (heard && std::chrono::steady_clock::now() - began < 1s) pause = 500ms;
    const auto jitter = std::uniform_int_distribution<int>(50, 100)(random);
    changed.wait_for(lock, pause * jitter / 100, [&] { return stopping; });
    if (stopping) return;
    if (std::exchange(redial, false)) channel = dial(server, server_name, credentials);
  }
}

// One stream, from its hello to its end. True when the server said something.
bool Link::State::converse() {
  grpc::ClientContext context;
  // Else the call fails at once while the server is away, nobody polls the channel until the next
  // one, and handshakes that begin meanwhile die of old age.
  context.set_wait_for_ready(true);
  std::unique_ptr<node::v1::NodeLink::Stub> stub;
  {
    const std::lock_guard lock(mutex);
    if (stopping) return false;
    stub = node::v1::NodeLink::NewStub(channel);
    this->context = &context;
  }
  const std::unique_ptr<Stream> stream = stub->Connect(&context);
  node::v1::FromNode first;
  auto& said = *first.mutable_hello();
  said.set_logic_version(kLogicVersion);
  said.set_node_name(hello.node_name);
  said.set_agent_version(hello.agent_version);
  said.set_advertise_address(hello.advertise_address);
  said.set_runtime(hello.runtime);
  bool heard = false;
  if (stream->Write(first)) {
    {
      const std::lock_guard lock(mutex);
      up = true;
      outbox.clear();
      if (!registration.empty()) outbox.emplace_back().set_registration(registration);
    }
    std::thread writer([&] { write(*stream); });
    node::v1::ToNode message;
    while (stream->Read(&message)) {
      if (!heard) spdlog::info("link: connected to {}", server);
      heard = true;
      handle(message);
    }
    {
      const std::lock_guard lock(mutex);
      up = false;
      changed.notify_all();
    }
    context.TryCancel();  // a writer that is held up by flow control goes on
    writer.join();
  }
  const grpc::Status status = stream->Finish();
  {
    const std::lock_guard lock(mutex);
    this->context = nullptr;
    up = false;
    if (stopping) return heard;
  }
  spdlog::warn("link: {}: the stream ended: {} ({})", server, status.error_message(),
               static_cast<int>(status.error_code()));
  return heard;
}

void Link::State::write(Stream& stream) {
  while (true) {
    node::v1::FromNode message;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return !up || !outbox.empty(); });
      if (!up) return;
      message = std::move(outbox.front());
      outbox.pop_front();
    }
    if (!stream.Write(message)) return;
  }
}

void Link::State::handle(const node::v1::ToNode& message) {
  using Said = node::v1::ToNode;
  switch (message.said_case()) {
    case Said::kOrder: {
      Envelope<NodeOrder> envelope;
      if (decode(message.order(), envelope)) return handlers.order(std::move(envelope));
      spdlog::error("link: {} sent an order of {} bytes that is not of this version", server,
                    message.order().size());
      return;
    }
    case Said::kWelcome: {
      {
        const std::lock_guard lock(mutex);
        if (message.welcome().incarnation() == registered_incarnation) registration.clear();
      }
      return handlers.welcome(message.welcome().incarnation(), {message.welcome().node()});
    }
    case Said::kUnknown: return handlers.unknown(message.unknown().incarnation());
    case Said::kOpenChannel: return handlers.open_channel(message.open_channel().channel());
    case Said::SAID_NOT_SET: return;
  }
}

Link::Link(std::string server, std::string server_name, identity::Credentials credentials,
           Hello hello, LinkHandlers handlers)
    : state_(std::make_unique<State>()) {
  state_->server = std::move(server);
  state_->server_name = std::move(server_name);
  state_->credentials = std::move(credentials);
  state_->hello = std::move(hello);
  state_->handlers = std::move(handlers);
  state_->channel = dial(state_->server, state_->server_name, state_->credentials);
}
Link::~Link() { stop(); }

void Link::start() {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

void Link::stop() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    if (state_->context != nullptr) state_->context->TryCancel();
    state_->changed.notify_all();
  }
  if (state_->thread.joinable()) state_->thread.join();
}

void Link::send(const NodeRegistration& registration) {
  node::v1::FromNode message;
  message.set_registration(encode(registration));
  {
    const std::lock_guard lock(state_->mutex);
    state_->registration = message.registration();
    state_->registered_incarnation = registration.incarnation;
  }
  state_->push(std::move(message));
}

void Link::send(NodeId node, const Envelope<NodeReport>& envelope) {
  node::v1::FromNode message;
  message.mutable_report()->set_node(node.value);
  message.mutable_report()->set_envelope(encode(envelope));
  state_->push(std::move(message));
}

bool Link::connected() const {
  const std::lock_guard lock(state_->mutex);
  return state_->up;
}

std::shared_ptr<grpc::Channel> Link::channel() const {
  const std::lock_guard lock(state_->mutex);
  return state_->channel;
}

void Link::use(identity::Credentials credentials) {
  const std::lock_guard lock(state_->mutex);
  state_->credentials = std::move(credentials);
  state_->redial = true;
}

}  // namespace chalk::agent
