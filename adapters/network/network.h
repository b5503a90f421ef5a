// The network of the sandboxes of one node: a network namespace for each, with one address of the
// pool, a way out by masquerade, DNS by a forwarder on the gateway, and published ports by a proxy.
//
// Promises: a sandbox reaches the internet and what the host can reach, but no other sandbox of any
// node here, no address of the host (except DNS on the gateway), whatever rules of others make of
// it, no link-local address (cloud metadata), and sends from no address but its own. IPv4 only: IPv6 is off inside and dropped outside. acquire()
// starts no process and makes no namespace when a spare is ready. Everything made carries the name
// of the Options as prefix, so that agents with different names and pools share a host.
// What the kernel holds outlives this process: a new one takes it over by recover().
// Thread safe. Needs root in the network namespace that open() is called in ("the host").
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"

namespace chalk::network {

struct Options {
  // 1..8 of [a-z0-9], begins with a letter. Links and namespaces are called name-<slot in hex>, the
  // link of the gateway name-gw, the nftables table chalk_name.
  std::string name = "chalk";

  // CIDR of /16 to /29; its first address is the gateway, all others but the last are for
  // sandboxes. Refused where it overlaps an address or a route (but the default) of the host.
  std::string pool = "10.200.0.0/16";

  // The only link that sandboxes may go out by. Empty: whatever the routes of the host say.
  std::string uplink;
  std::uint32_t mtu = 0;  // of sandboxes; 0: that of the uplink or of the default route's link

  int spare = 4;  // namespaces made ahead, 0..64

  // Of published ports: an IPv4 address of the host (0.0.0.0: all), and the ports to choose from.
  std::string listen = "127.0.0.1";
  std::uint16_t port_first = 20000;
  std::uint16_t port_last = 29999;
  std::size_t connections_max = 4096;               // through all published ports
  std::size_t connections_max_per_port = 1024;      // through one
  std::chrono::milliseconds connect_timeout{5000};  // of the proxy, to the sandbox

  std::uint32_t flows_max = 8192;  // tracked connections and exchanges of one sandbox to elsewhere

  std::vector<std::string> blocked;  // CIDRs that no sandbox reaches, at most 1024

  // IPv4 resolvers "address" or "address:port" that the forwarder asks, at most 3. Empty: those of
  // resolver_file, which is read again when it changes.
  std::vector<std::string> dns;
  std::string resolver_file = "/etc/resolv.conf";

  std::string namespaces = "/run/netns";     // where they are mounted; `ip netns` knows this folder
  std::string records = "/run/chalk-network";  // folder of who has what; must not outlive a reboot
};

// What a sandbox is started with. A namespace is for one start: runsc takes the address off the
// link in it, so it is released and never acquired again.
struct Endpoint {
  std::string sandbox;
  std::string namespace_path;  // for the network namespace of the OCI specification
  std::string address;         // of eth0 inside
  std::string gateway;
  std::string resolv_conf;  // text for /etc/resolv.conf: the forwarder on the gateway
  std::string hosts;        // text for /etc/hosts
};

struct Published {
  std::string sandbox;
  std::uint16_t container_port = 0;
  std::uint16_t host_port = 0;  // on Options::listen

  bool operator==(const Published&) const = default;
};

struct Recovered {
  std::vector<Endpoint> kept;
  std::vector<std::string> lost;     // ids that were said to be alive and have no usable namespace
  std::vector<Published> published;  // again on the host port that they had
  std::vector<Published> unpublished;  // their host port is taken by somebody else now
  std::size_t destroyed = 0;           // namespaces or links that belonged to nobody
};

struct Statistics {
  std::size_t sandboxes = 0;
  std::size_t spares = 0;
  std::size_t addresses_free = 0;
  std::size_t published = 0;
  std::size_t connections = 0;  // open now
  std::uint64_t connections_refused = 0;  // a limit was reached, or the sandbox did not answer
  std::uint64_t namespaces_made = 0;
  std::uint64_t failures = 0;      // of making or destroying in the background; each is tried again
  std::string last_failure;        // of those
  std::uint64_t dns_queries = 0;
  std::uint64_t dns_failures = 0;  // answered SERVFAIL, or dropped because too many were under way
};

class Network {
 public:
  static constexpr std::size_t kPublishedMax = 64;  // per sandbox
  static constexpr std::size_t kIdBytesMax = 64;    // of a sandbox id: [A-Za-z0-9_.-]

  // Checks the options, sets net.ipv4.ip_forward where it is off (and leaves it on: others may rely on
  // it by then; what the host forwards otherwise is for its own rules to say), makes the gateway and
  // the rules (a host whose own rules drop what is forwarded must let NAME-* through), starts DNS and the making of spares. What an earlier process with the
  // same name left stays untouched, and its addresses taken, until recover().
  // Error::invalid on a bad option or a pool that overlaps; Error::unavailable while another
  // process has this name.
  static Result<std::unique_ptr<Network>> open(Options options);

  // Ends the threads and closes published ports and their connections. Namespaces, links and rules
  // stay: sandboxes go on without this process, and recover() finds them.
  ~Network();

  // To be called once after open(), before the first acquire(), by an agent that restarts: keeps
  // the namespaces of these sandboxes, publishes their ports again, and destroys all others. The
  // ports of those that are `closed` take no connections until set_open().
  Result<Recovered> recover(std::span<const std::string> alive,
                            std::span<const std::string> closed = {});

  // A namespace for this sandbox. Error::invalid: a bad id, or one that has a namespace already;
  // exhausted: every address of the pool is in use; unavailable, timeout (10 s): none could be made.
  Result<Endpoint> acquire(std::string_view sandbox);

  // Ends published ports and connections now; namespace and links go in the background, and the
  // address comes back after that. Error::not_found where it has none.
  // Call it when the sandbox's processes have ended.
  Result<void> release(std::string_view sandbox);

  Result<Endpoint> endpoint(std::string_view sandbox) const;

  // Listens on Options::listen and passes every connection on to this port of the sandbox. Which
  // host port: `host_port`, or for 0 a free one of the range. Repeated, it answers the same port.
  // Error::exhausted: no port of the range is free, or too many are published by this sandbox.
  // Not open, it resets every connection at once until set_open(); that does not outlive this process.
  Result<std::uint16_t> publish(std::string_view sandbox, std::uint16_t container_port,
                                std::uint16_t host_port = 0, bool open = true);
  // Whether new connections are taken; those that there are go on. Where it is not published nothing
  // happens.
  void set_open(std::string_view sandbox, std::uint16_t container_port, bool open);
  Result<void> unpublish(std::string_view sandbox, std::uint16_t container_port);
  std::vector<Published> published() const;

  // A TCP connection from the host to this port of the sandbox: a blocking, close-on-exec
  // descriptor that the caller owns. Error::unavailable: refused; timeout.
  Result<int> connect(std::string_view sandbox, std::uint16_t port,
                      std::chrono::milliseconds timeout) const;
  // The same, begun and not waited for: a non-blocking descriptor, writable once it is connected.
  Result<int> begin_connect(std::string_view sandbox, std::uint16_t port) const;

  Statistics statistics() const;

  // Waits until nothing is to be made or destroyed. False after the timeout.
  bool settle(std::chrono::milliseconds timeout) const;

  // Shutdown for good: destroys all namespaces, links, routes and rules with this name. No other call
  // may be under way, and nothing but the destructor may be called after it.
  Result<void> remove();

  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

 private:
  struct Parts;
  explicit Network(std::unique_ptr<Parts> parts);
  static Result<std::unique_ptr<Network>> begin(Options options);
  std::unique_ptr<Parts> parts_;
};

}  // namespace chalk::network
