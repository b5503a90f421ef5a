// A whole Chalk server: identity, the control plane, the private port for nodes, the public port for
// clients, and with all_in_one a node in the same process.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adapters/images/registries.h"

namespace chalk::agent {
struct Options;
}

namespace chalk::server {

struct ServerOptions {
  std::string data;                             // directory of all that it keeps
  std::string listen = "127.0.0.1:8080";        // public; port 0: any
  std::string private_listen = "127.0.0.1:0";   // for nodes
  std::vector<std::string> private_names;       // as which nodes reach it; the listen address always
  std::string certificate_file, key_file;       // of the public port; empty: no TLS
  std::string public_url;                       // as which clients reach it; empty: from listen
  images::Registries registries;
  bool share_nodes = false;  // sandboxes of different environments may be on one node at a time
  bool all_in_one = false;
  std::string env_file;       // written when ready
  agent::Options* node = nullptr;  // of all_in_one
};

class Server {
 public:
  // Recovers and listens; throws std::runtime_error with what to do.
  explicit Server(ServerOptions options);
  ~Server();  // stops in an orderly way; sandboxes go on
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  std::string url() const;           // of the public port
  std::uint16_t private_port() const;
  // True once clients can be served; with all_in_one once its node is there. Waits at most so long.
  bool wait_ready(int seconds);
  // Another process has taken over the log.
  bool fenced() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::server
