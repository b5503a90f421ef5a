// The Connect stream to the server: dials out with mutual TLS, says hello, then carries what the
// machines say. It comes back by itself after every loss, sooner at first (0.1 s to 5 s, with
// jitter). What is said while there is no stream is dropped: the machines repeat what matters. The
// registration is said again on each new stream until the server welcomed it.
// Handlers are called from the link's own thread and must not wait for it.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "adapters/agent/credentials.h"
#include "model/node/node.h"

namespace grpc {
class Channel;
}

namespace chalk::agent {

struct LinkHandlers {
  std::function<void(Envelope<NodeOrder>)> order;
  std::function<void(std::uint64_t incarnation, NodeId)> welcome;
  std::function<void(std::uint64_t incarnation)> unknown;
  std::function<void(const std::string& channel)> open_channel;
};

class Link {
 public:
  struct Hello {
    std::string node_name;
    std::string agent_version;
    std::string advertise_address;
    std::string runtime;
  };
  Link(std::string server, std::string server_name, identity::Credentials credentials, Hello hello,
       LinkHandlers handlers);
  ~Link();
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void start();
  void stop();

  void send(const NodeRegistration& registration);
  void send(NodeId node, const Envelope<NodeReport>& envelope);

  bool connected() const;
  // For other calls over the same connection. Never null.
  std::shared_ptr<grpc::Channel> channel() const;
  // From the next connection on.
  void use(identity::Credentials credentials);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::agent
