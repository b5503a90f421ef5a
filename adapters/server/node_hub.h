// The nodes that are connected now: the gRPC service on the private port, mutual TLS, one Connect
// stream for each agent, and a Channel stream for each piece of work that a client waits for.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/server/plane.h"
#include "chalk/node/v1/node.grpc.pb.h"

namespace chalk::server {

// Both ways to one piece of work on a node. Thread safe; one reader and any writers.
class Channel {
 public:
  virtual ~Channel() = default;
  // False when the other side has gone.
  virtual bool send(const node::v1::ChannelDown& message) = 0;
  // The next message; none at the end of the stream; Kind::timeout when nothing came in time.
  virtual Result<std::optional<node::v1::ChannelUp>> receive(std::chrono::milliseconds timeout) = 0;
  // Ends it: the node drops what a dead client no longer wants (a session goes on by itself).
  virtual void close() = 0;
};

struct ConnectedNode {
  std::uint64_t key = 0;
  std::string name;
  std::string agent_version;
  std::string advertise_address;
  std::string runtime;
};

class NodeHub {
 public:
  struct Options {
    std::chrono::milliseconds channel_wait{10'000};  // for the agent to open it
    std::size_t outbox_max = 100'000;                // messages waiting for one agent
    std::size_t order_bytes_max = 15u << 20;         // an agent takes messages of 16 MiB
    // Which node presents this certificate (PEM); denied for strangers.
    std::function<Result<std::uint64_t>(const std::string& certificate_pem)> node_key;
    std::function<Result<node::v1::JoinResponse>(const node::v1::JoinRequest&)> join;
    // The next certificate of who presents a good one.
    std::function<Result<node::v1::JoinResponse>(const node::v1::JoinRequest&,
                                                 const std::string& certificate_pem)>
        renew;
    // A node said that it did not start something. `why`: refused, start_failed or pull_failed.
    std::function<void(const std::string& node_name, const char* why)> start_failed;
  };
  NodeHub(Plane& plane, Options options);
  ~NodeHub();

  grpc::Service& service();
  NodeSender sender();
  void stop();  // ends all streams

  std::optional<ConnectedNode> connected(std::uint64_t key) const;
  std::vector<ConnectedNode> connected() const;
  // Opens a channel to the node where the sandbox runs. unavailable: that node is not connected.
  Result<std::shared_ptr<Channel>> open(NodeId node, const node::v1::Open& work);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace chalk::server
