// A server in the test's process: lets nodes join, welcomes them, gives orders over the machines'
// link (repeated until acknowledged, as control does), collects reports, and opens channels.
#pragma once
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "adapters/identity/authority.h"
#include "chalk/node/v1/node.grpc.pb.h"
#include "model/core/link.h"
#include "model/protocol/protocol.h"

namespace chalk::agent {

class ControlDouble : public node::v1::NodeLink::Service {
 public:
  static constexpr std::uint64_t kNodeKey = 77;
  static constexpr const char* kToken = "join-me";

  // `folder` keeps the authority.
  explicit ControlDouble(const std::string& folder);
  ~ControlDouble() override;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  const identity::Authority& authority() const { return authority_; }
  const std::vector<std::string>& tokens_seen() const { return tokens_; }

  void order(NodeOrder order);
  // The first report that fits, taken out; waits for it.
  using Fits = std::function<bool(const NodeReport&)>;
  std::optional<NodeReport> report(const Fits& fits, std::chrono::seconds timeout);
  bool wait_connected(std::chrono::seconds timeout);  // and welcomed
  bool wait_gone(std::chrono::seconds timeout);
  void cut();                                         // the stream there is
  std::size_t connections();
  NodeRegistration registration();

  struct Pipe;
  class Work {  // a channel to the agent
   public:
    explicit Work(std::shared_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {}
    ~Work() { close(); }
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    bool send(const node::v1::ChannelDown& down);
    // None at the end of it, or when nothing came in time.
    std::optional<node::v1::ChannelUp> receive(std::chrono::seconds timeout);
    void close();

   private:
    std::shared_ptr<Pipe> pipe_;
  };
  // Null when the agent does not come.
  std::unique_ptr<Work> open(const node::v1::Open& work);

 private:
  using Stream = grpc::ServerReaderWriter<node::v1::ToNode, node::v1::FromNode>;
  grpc::Status Join(grpc::ServerContext*, const node::v1::JoinRequest*,
                    node::v1::JoinResponse*) override;
  grpc::Status Connect(grpc::ServerContext*, Stream*) override;
  grpc::Status Channel(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<node::v1::ChannelDown, node::v1::ChannelUp>*) override;
  void take(const node::v1::FromNode& message);
  void say(const Envelope<NodeOrder>& envelope);  // with mutex_

  identity::Authority authority_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Stream* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;  // of the stream
  std::size_t connections_ = 0;
  bool welcomed_ = false;
  NodeRegistration registration_;
  Outbox<NodeOrder> orders_;
  Inbox inbox_;
  std::deque<NodeReport> reports_;
  std::vector<std::string> tokens_;
  std::map<std::string, std::shared_ptr<Pipe>> opening_;
  std::vector<std::weak_ptr<Pipe>> pipes_;
};

}  // namespace chalk::agent
