#include "adapters/server/node_hub.h"

#include <grpcpp/grpcpp.h>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "model/core/codec.h"
#include "model/protocol/log_record.h"

namespace chalk::server {
namespace {

using node::v1::ChannelDown;
using node::v1::ChannelUp;

constexpr std::size_t kChannelQueueMax = 64;  // messages read ahead of whoever receives
constexpr std::size_t kChannelsMax = 10'000;  // opened and not attached yet

std::string random_word() {
  unsigned char bytes[16];
  if (RAND_bytes(bytes, sizeof bytes) != 1) return {};
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string word;
  for (const unsigned char byte : bytes) {
    word += kDigits[byte >> 4];
    word += kDigits[byte & 15];
  }
  return word;
}

std::string peer_certificate(const grpc::ServerContext& context) {
  const auto values =
      context.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  return values.empty() ? std::string() : std::string(values[0].data(), values[0].size());
}

// One agent's Connect stream: what waits to be written to it.
struct Link {
  std::uint64_t key = 0;
  ConnectedNode about;
  std::mutex mutex;
  std::condition_variable came;
  std::deque<node::v1::ToNode> out;
  bool closed = false;
  grpc::ServerContext* context = nullptr;

  void close() {
    const std::lock_guard lock(mutex);
    closed = true;
    if (context != nullptr) context->TryCancel();
    came.notify_all();
  }
  bool push(node::v1::ToNode message, std::size_t max) {
    const std::lock_guard lock(mutex);
    if (closed || out.size() >= max) return false;  // the machines' links say it again
    out.push_back(std::move(message));
    came.notify_one();
    return true;
  }
};

// One Channel stream. The handler's thread reads it; it lives until both sides let go.
struct Pipe {
  using Stream = grpc::ServerReaderWriter<ChannelDown, ChannelUp>;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<ChannelUp> in;
  Stream* stream = nullptr;  // while the handler runs
  grpc::ServerContext* context = nullptr;
  std::uint64_t key = 0;  // of the node that it was asked of
  bool attached = false, ended = false, closed = false;
  std::mutex writing;  // before mutex, where both are held

  void close() {
    const std::lock_guard lock(mutex);
    closed = true;
    if (context != nullptr) context->TryCancel();
    changed.notify_all();
  }
};

class OpenPipe : public Channel {
 public:
  explicit OpenPipe(std::shared_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {}
  ~OpenPipe() override { pipe_->close(); }

  bool send(const ChannelDown& message) override {
    const std::lock_guard writing(pipe_->writing);
    Pipe::Stream* stream = nullptr;
    {
      const std::lock_guard lock(pipe_->mutex);
      if (pipe_->closed || pipe_->ended) return false;
      stream = pipe_->stream;
    }
    return stream != nullptr && stream->Write(message);
  }

  Result<std::optional<ChannelUp>> receive(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(pipe_->mutex);
    const bool came = pipe_->changed.wait_for(lock, timeout, [&] {
      return !pipe_->in.empty() || pipe_->ended || pipe_->closed;
    });
    if (!came) return fail(Error::Kind::timeout, "the node said nothing in time");
    if (pipe_->in.empty()) return std::optional<ChannelUp>();
    std::optional<ChannelUp> message(std::move(pipe_->in.front()));
    pipe_->in.pop_front();
    pipe_->changed.notify_all();
    return message;
  }

  void close() override { pipe_->close(); }

 private:
  std::shared_ptr<Pipe> pipe_;
};

}  // namespace

struct NodeHub::State : node::v1::NodeLink::Service {
  Plane& plane;
  Options options;
  mutable std::mutex mutex;
  std::map<std::uint64_t, std::shared_ptr<Link>> links;  // by key
  std::map<NodeId, std::uint64_t> keys;                  // whose node it is
  std::map<std::string, std::shared_ptr<Pipe>> opening;  // by channel word
  std::map<Pipe*, std::weak_ptr<Pipe>> pipes;
  bool stopping = false;

  State(Plane& p, Options o) : plane(p), options(std::move(o)) {}

  grpc::Status Join(grpc::ServerContext* context, const node::v1::JoinRequest* request,
                    node::v1::JoinResponse* response) override;
  grpc::Status Connect(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<node::v1::ToNode, node::v1::FromNode>* stream) override;
  grpc::Status Channel(grpc::ServerContext* context, Pipe::Stream* stream) override;

  Result<std::uint64_t> key_of(grpc::ServerContext& context) const {
    const std::string certificate = peer_certificate(context);
    if (certificate.empty()) return fail(Error::Kind::denied, "no client certificate");
    return options.node_key(certificate);
  }
  std::shared_ptr<Link> link_of(NodeId node);
  void drop(Link& link);  // nothing is written to it any more
  void note_failure(const Link& link, const NodeReport& report);
  // Nothing: that cannot be known now.
  std::optional<bool> owns(std::uint64_t key, NodeId node);
  void take(Link& link, const node::v1::FromNode& message);
  std::string encoded(NodeId node, Envelope<NodeOrder> envelope) const;
};

grpc::Status NodeHub::State::Join(grpc::ServerContext* context, const node::v1::JoinRequest* request,
                                  node::v1::JoinResponse* response) {
  const std::string certificate = peer_certificate(*context);
  auto joined = certificate.empty() ? options.join(*request) : options.renew(*request, certificate);
  if (!joined) {
    spdlog::warn("join refused: {}", joined.error().message);
    return {grpc::StatusCode::PERMISSION_DENIED, joined.error().message};
  }
  *response = std::move(*joined);
  spdlog::info("node {} joined as {}", request->node_name(), response->node_key());
  return grpc::Status::OK;
}

grpc::Status NodeHub::State::Connect(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<node::v1::ToNode, node::v1::FromNode>* stream) {
  const auto key = key_of(*context);
  if (!key) return {grpc::StatusCode::UNAUTHENTICATED, key.error().message};
  node::v1::FromNode message;
  if (!stream->Read(&message) || !message.has_hello()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "expected hello as the first message"};
  }
  const node::v1::Hello& hello = message.hello();
  if (hello.logic_version() != kLogicVersion) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "the agent's machines have version " + std::to_string(hello.logic_version()) +
                ", the server's " + std::to_string(kLogicVersion) + ": upgrade the older of both"};
  }
  const auto link = std::make_shared<Link>();
  link->key = *key;
  link->about = {*key, hello.node_name(), hello.agent_version(), hello.advertise_address(),
                 hello.runtime()};
  link->context = context;
  std::shared_ptr<Link> older;
  {
    const std::lock_guard lock(mutex);
    if (stopping) return {grpc::StatusCode::UNAVAILABLE, "the server is stopping"};
    older = std::exchange(links[*key], link);
  }
  if (older) older->close();
  spdlog::info("node {} ({}) connected: {}", link->about.name, *key, link->about.runtime);

  const auto write = [&] {
    while (true) {
      std::unique_lock lock(link->mutex);
      link->came.wait(lock, [&] { return link->closed || !link->out.empty(); });
      if (link->closed) return;
      const node::v1::ToNode next = std::move(link->out.front());
      link->out.pop_front();
      lock.unlock();
      if (!stream->Write(next)) return;
    }
  };
  std::thread writer;
  try {
    writer = std::thread(write);
  } catch (const std::system_error&) {
    drop(*link);
    return {grpc::StatusCode::RESOURCE_EXHAUSTED, "the server has no thread left for a node"};
  }
  while (stream->Read(&message)) take(*link, message);
  drop(*link);
  writer.join();
  spdlog::info("node {} ({}) disconnected", link->about.name, *key);
  return grpc::Status::OK;
}

void NodeHub::State::drop(Link& link) {
  {
    const std::lock_guard lock(link.mutex);
    link.closed = true;
    link.context = nullptr;
  }
  link.came.notify_all();
  const std::lock_guard lock(mutex);
  const auto mine = links.find(link.key);
  if (mine != links.end() && mine->second.get() == &link) links.erase(mine);
}

// Nothing of what a node says is believed but what is its own.
void NodeHub::State::take(Link& link, const node::v1::FromNode& message) {
  if (message.has_registration()) {
    NodeRegistration registration;
    if (!decode(message.registration(), registration) || registration.key != link.key) {
      spdlog::warn("node {} registered with bytes that are not its registration", link.key);
      return;
    }
    plane.registered(registration);
  } else if (message.has_report()) {
    const NodeId node{message.report().node()};
    Envelope<NodeReport> envelope;
    if (!decode(message.report().envelope(), envelope)) {
      spdlog::warn("node {} reported bytes that are no report", link.key);
      return;
    }
    const std::optional<bool> own = owns(link.key, node);
    if (!own) return;  // what is not acknowledged is reported again
    if (!*own) {
      spdlog::warn("node {} reported for node id {}, which is not its own", link.key, node.value);
      // It may be of a control plane that forgot it: the agent registers anew.
      node::v1::ToNode unknown;
      unknown.mutable_unknown()->set_incarnation(envelope.incarnation);
      link.push(std::move(unknown), options.outbox_max);
      return;
    }
    if (envelope.message) note_failure(link, *envelope.message);
    plane.reported(node, std::move(envelope));
  }
}

// Starts that fail are tried on other nodes, so nobody else hears of them.
void NodeHub::State::note_failure(const Link& link, const NodeReport& report) {
  SandboxId sandbox;
  const char* why = nullptr;
  if (const auto* refused = std::get_if<RefusedReport>(&report)) {
    sandbox = refused->sandbox;
    why = "refused";
  } else if (const auto* ended = std::get_if<EndedReport>(&report)) {
    sandbox = ended->sandbox;
    if (ended->reason == EndReason::start_failed) why = "start_failed";
    if (ended->reason == EndReason::pull_failed) why = "pull_failed";
  }
  if (why == nullptr) return;
  spdlog::warn("node {} did not start sandbox {}: {}", link.about.name, sandbox.value, why);
  if (options.start_failed) options.start_failed(link.about.name, why);
}

std::optional<bool> NodeHub::State::owns(std::uint64_t key, NodeId node) {
  {
    const std::lock_guard lock(mutex);
    const auto found = keys.find(node);
    if (found != keys.end()) return found->second == key;
  }
  // After the server's restart: welcomed before it.
  const auto nodes = plane.nodes();
  if (!nodes) return std::nullopt;
  for (const NodeView& view : *nodes) {
    if (view.node != node) continue;
    const std::lock_guard lock(mutex);
    keys[node] = view.key;
    return view.key == key;
  }
  return false;
}

std::shared_ptr<Link> NodeHub::State::link_of(NodeId node) {
  const std::lock_guard lock(mutex);
  const auto key = keys.find(node);
  if (key == keys.end()) return nullptr;
  const auto link = links.find(key->second);
  return link == links.end() ? nullptr : link->second;
}

grpc::Status NodeHub::State::Channel(grpc::ServerContext* context, Pipe::Stream* stream) {
  const auto key = key_of(*context);
  if (!key) return {grpc::StatusCode::UNAUTHENTICATED, key.error().message};
  ChannelUp message;
  if (!stream->Read(&message) || message.said_case() != ChannelUp::kChannel) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "expected the channel's word as the first message"};
  }
  std::shared_ptr<Pipe> pipe;
  {
    const std::lock_guard lock(mutex);
    const auto found = opening.find(message.channel());
    if (found == opening.end() || found->second->key != *key) {
      return {grpc::StatusCode::NOT_FOUND, "nobody waits for this channel any more"};
    }
    pipe = found->second;
    opening.erase(found);
    pipes[pipe.get()] = pipe;
  }
  {
    const std::lock_guard lock(pipe->mutex);
    pipe->stream = stream;
    pipe->context = context;
    pipe->attached = true;
    if (pipe->closed) context->TryCancel();
    pipe->changed.notify_all();
  }
  while (stream->Read(&message)) {
    std::unique_lock lock(pipe->mutex);
    pipe->changed.wait(lock,
                       [&] { return pipe->closed || pipe->in.size() < kChannelQueueMax; });
    if (pipe->closed) break;
    pipe->in.push_back(std::move(message));
    pipe->changed.notify_all();
  }
  {
    const std::lock_guard writing(pipe->writing);
    const std::lock_guard lock(pipe->mutex);
    pipe->ended = true;
    pipe->stream = nullptr;
    pipe->context = nullptr;
    pipe->changed.notify_all();
  }
  const std::lock_guard lock(mutex);
  pipes.erase(pipe.get());
  return grpc::Status::OK;
}

NodeHub::NodeHub(Plane& plane, Options options)
    : state_(std::make_shared<State>(plane, std::move(options))) {}
NodeHub::~NodeHub() { stop(); }

grpc::Service& NodeHub::service() { return *state_; }

// An order that the agent cannot take would end its stream each time that it is sent, and no later
// one would get past it. So it goes without its payload: the node takes it, and says that it cannot
// start that.
std::string NodeHub::State::encoded(NodeId node, Envelope<NodeOrder> envelope) const {
  std::string bytes = encode(envelope);
  if (bytes.size() <= options.order_bytes_max || !envelope.message) return bytes;
  if (auto* start = std::get_if<StartOrder>(&*envelope.message)) {
    spdlog::error("the order to start sandbox {} on node {} has {} bytes, of at most {}: it is sent "
                  "without what to start, and fails there",
                  start->sandbox.value, node.value, bytes.size(), options.order_bytes_max);
    start->payload.clear();
    bytes = encode(envelope);
  }
  return bytes;
}

NodeSender NodeHub::sender() {
  const std::shared_ptr<State> state = state_;
  NodeSender out;
  out.order = [state](NodeId node, Envelope<NodeOrder> envelope) {
    const auto link = state->link_of(node);
    if (!link) return;
    node::v1::ToNode message;
    message.set_order(state->encoded(node, std::move(envelope)));
    link->push(std::move(message), state->options.outbox_max);
  };
  out.welcome = [state](std::uint64_t key, std::uint64_t incarnation, NodeId node) {
    std::shared_ptr<Link> link;
    {
      const std::lock_guard lock(state->mutex);
      std::erase_if(state->keys, [&](const auto& one) { return one.second == key; });
      state->keys[node] = key;
      const auto found = state->links.find(key);
      if (found == state->links.end()) return;
      link = found->second;
    }
    node::v1::ToNode message;
    message.mutable_welcome()->set_incarnation(incarnation);
    message.mutable_welcome()->set_node(node.value);
    link->push(std::move(message), state->options.outbox_max);
  };
  out.unknown = [state](NodeId node, std::uint64_t incarnation) {
    const auto link = state->link_of(node);
    if (!link) return;
    node::v1::ToNode message;
    message.mutable_unknown()->set_incarnation(incarnation);
    link->push(std::move(message), state->options.outbox_max);
  };
  return out;
}

void NodeHub::stop() {
  std::vector<std::shared_ptr<Link>> links;
  std::vector<std::shared_ptr<Pipe>> pipes;
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    for (const auto& [key, link] : state_->links) links.push_back(link);
    for (const auto& [raw, weak] : state_->pipes) {
      if (auto pipe = weak.lock()) pipes.push_back(std::move(pipe));
    }
  }
  for (const auto& pipe : pipes) pipe->close();
  for (const auto& link : links) link->close();
}

std::optional<ConnectedNode> NodeHub::connected(std::uint64_t key) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->links.find(key);
  if (found == state_->links.end()) return std::nullopt;
  return found->second->about;
}

std::vector<ConnectedNode> NodeHub::connected() const {
  std::vector<ConnectedNode> out;
  const std::lock_guard lock(state_->mutex);
  for (const auto& [key, link] : state_->links) out.push_back(link->about);
  return out;
}

Result<std::shared_ptr<Channel>> NodeHub::open(NodeId node, const node::v1::Open& work) {
  std::shared_ptr<Link> link = state_->link_of(node);
  if (!link) {
    const auto nodes = state_->plane.nodes();  // welcomed before the server's restart
    if (!nodes) return std::unexpected(nodes.error());
    for (const NodeView& view : *nodes) {
      if (view.node == node) state_->owns(view.key, node);
    }
    link = state_->link_of(node);
  }
  if (!link) {
    return fail(Error::Kind::unavailable,
                "the sandbox's node is not connected now; try again in a moment");
  }
  const auto pipe = std::make_shared<Pipe>();
  pipe->key = link->key;
  const std::string word = random_word();
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->opening.size() >= kChannelsMax || word.empty()) {
      return fail(Error::Kind::exhausted, "too many sessions are being opened; try again");
    }
    state_->opening[word] = pipe;
  }
  node::v1::ToNode message;
  message.mutable_open_channel()->set_channel(word);
  const bool sent = link->push(std::move(message), state_->options.outbox_max);
  bool attached = false;
  if (sent) {
    std::unique_lock lock(pipe->mutex);
    attached = pipe->changed.wait_for(lock, state_->options.channel_wait,
                                      [&] { return pipe->attached || pipe->closed; }) &&
               pipe->attached;
  }
  if (!attached) {
    const std::lock_guard lock(state_->mutex);
    state_->opening.erase(word);
    pipe->close();
    return fail(Error::Kind::unavailable, "the sandbox's node did not answer in time");
  }
  auto channel = std::make_shared<OpenPipe>(pipe);
  ChannelDown first;
  *first.mutable_open() = work;
  if (!channel->send(first)) {
    return fail(Error::Kind::unavailable, "the sandbox's node went away");
  }
  return std::shared_ptr<Channel>(std::move(channel));
}

}  // namespace chalk::server
