// Published ports: each has a listener of its own on the host, and every connection to it is joined
// with one to a port of one sandbox. Bytes, ends and breaks of either side reach the other; a side
// that does not read stops the other, so that a connection holds at most kChunk in each direction.
// One thread carries all bytes; the calls are thread safe and do not wait.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/descriptor.h"

namespace chalk::network {

struct ProxyOptions {
  Address listen = 0;
  std::uint16_t port_first = 0;
  std::uint16_t port_last = 0;
  std::size_t connections_max = 0;
  std::size_t connections_max_per_port = 0;
  std::chrono::milliseconds connect_timeout{0};
};

class Proxy {
 public:
  static constexpr std::size_t kChunk = 64 << 10;

  static Result<std::unique_ptr<Proxy>> open(ProxyOptions options);
  ~Proxy();  // closes everything
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  // Answers the host's port: `wanted`, or for 0 a free one of the range.
  Result<std::uint16_t> publish(Address target, std::uint16_t target_port, std::uint16_t wanted,
                                bool open = true);
  void unpublish(std::uint16_t host_port);  // with its connections
  // Closed, it resets new connections at once; those that there are go on.
  void set_open(std::uint16_t host_port, bool open);

  struct Counts {
    std::size_t connections = 0;
    std::uint64_t refused = 0;
  };
  Counts counts() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Listener {
    Descriptor socket;
    Address target = 0;
    std::uint16_t target_port = 0;
    std::size_t connections = 0;
    bool open = true;
  };
  // Side 0 is the client, side 1 the sandbox.
  struct Side {
    Descriptor socket;
    std::uint32_t watched = 0;  // events that epoll was asked for; 0: not in it
    bool ended = false;         // it will send nothing more
    bool shut = false;          // we told it that nothing more comes
    std::vector<char> waiting;  // read from it, not yet written to the other
    std::size_t written = 0;    // of those
  };
  struct Connection {
    Side sides[2];
    std::uint16_t host_port = 0;
    bool connecting = true;
    Clock::time_point deadline;
  };
  // What epoll says: an odd kind for listeners, the sides of connections otherwise.
  using Key = std::uint64_t;

  explicit Proxy(ProxyOptions options);
  Result<Descriptor> listen_on(std::uint16_t port);
  void run();
  void handle(Key key, std::uint32_t events);                   // with mutex_
  void accept_some(std::uint16_t host_port);                    // with mutex_
  bool begin(Descriptor client, std::uint16_t host_port);       // with mutex_
  bool connected(Connection& connection);                       // with mutex_
  bool carry(Connection& connection, int from);                 // with mutex_; false: broken
  bool flush(Connection& connection, int from);                 // with mutex_; false: broken
  bool pass_end(Connection& connection, int from);              // with mutex_; false: broken
  void watch(std::uint64_t number, Connection& connection);     // with mutex_
  void end(std::uint64_t number, bool broken);                  // with mutex_
  void every_so_often();                                        // with mutex_
  void watch_listeners(bool on);                                // with mutex_

  const ProxyOptions options_;
  Descriptor epoll_;
  Descriptor wake_;

  mutable std::mutex mutex_;
  std::map<std::uint16_t, Listener> listeners_;  // by host port
  std::unordered_map<std::uint64_t, Connection> connections_;
  std::uint64_t next_connection_ = 1;
  std::uint16_t next_port_ = 0;
  std::uint64_t refused_ = 0;
  bool accepting_ = true;  // false for a while where descriptors or memory ran out
  bool stopping_ = false;
  Clock::time_point accept_again_;
  Clock::time_point next_round_;
  std::vector<char> chunk_;  // of the thread
  std::thread thread_;
};

}  // namespace chalk::network
