// The DNS forwarder on the gateway: takes queries of sandboxes over UDP and TCP and passes them on to
// the resolvers of the host, each over a socket of its own with a number of its own, and answers
// SERVFAIL when none of them answers in time. It looks at the header and the question only, and
// passes on plain questions: no update, notification or transfer of a zone. Bounded:
// queries under way (in all, and per sandbox), their sizes, TCP connections and every wait.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "adapters/error.h"
#include "adapters/network/address.h"
#include "adapters/network/descriptor.h"
#include "adapters/network/resolvers.h"

namespace chalk::network {

class Names {
 public:
  static constexpr std::size_t kQueriesMax = 512;           // under way over UDP
  static constexpr std::size_t kQueriesMaxPerSandbox = 64;
  static constexpr std::size_t kConnectionsMax = 128;       // over TCP
  static constexpr std::size_t kConnectionsMaxPerSandbox = 8;
  static constexpr std::size_t kQueryBytesMax = 4096;
  static constexpr std::size_t kAnswerBytesMax = 65535;
  static constexpr std::chrono::milliseconds kTryTimeout{2000};   // of one resolver
  static constexpr std::size_t kTries = 3;
  static constexpr std::chrono::seconds kIdleTimeout{10};         // of a TCP client

  // Listens on gateway:53 and serves the addresses of the pool.
  static Result<std::unique_ptr<Names>> open(Address gateway, Range pool, Resolvers resolvers);
  ~Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  std::uint64_t queries() const { return queries_; }
  std::uint64_t failures() const { return failures_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Query {  // over UDP
    Address client = 0;
    std::uint16_t client_port = 0;
    std::uint16_t client_number = 0;
    std::string message;  // with a number of its own
    std::size_t tries = 0;
    Descriptor socket;
    Clock::time_point deadline;
  };
  struct Connection {  // over TCP: one query at a time
    enum class Step : std::uint8_t { reading, asking, answered };
    Step step = Step::reading;
    Address client = 0;
    Descriptor socket;
    Descriptor resolver;
    std::string in;   // from the client: length and message
    std::string out;  // to the resolver, as far as not written
    std::string back; // from the resolver, then to the client
    std::size_t tries = 0;
    Clock::time_point deadline;
  };

  Names(Address gateway, Range pool, Resolvers resolvers);
  Result<void> listen();
  void run();
  void handle(std::uint64_t key);
  void every_so_often();
  std::optional<Resolver> resolver(std::size_t tries);
  void watch(int socket, std::uint64_t key, std::uint32_t events);

  void take_queries();
  void take_query(std::string_view message, Address client, std::uint16_t port);
  bool ask(std::uint64_t number, Query& query);  // the next resolver; false: there is none
  void answered(std::uint64_t number);
  void give_up(std::uint64_t number);
  void forget(std::uint64_t number);
  void reply(const Query& query, std::string message);

  void take_connections();
  void move(std::uint64_t number, Connection& connection);
  void read_query(std::uint64_t number, Connection& connection);
  void begin_asking(std::uint64_t number, Connection& connection);
  void exchange(std::uint64_t number, Connection& connection);
  void begin_answer(std::uint64_t number, Connection& connection);
  void write_answer(std::uint64_t number, Connection& connection);
  void connection_late(std::uint64_t number);
  void close(std::uint64_t number);

  const Address gateway_;
  const Range pool_;
  Resolvers resolvers_;
  Descriptor epoll_;
  Descriptor wake_;
  Descriptor datagrams_;
  Descriptor listener_;
  std::unordered_map<std::uint64_t, Query> under_way_;
  std::unordered_map<std::uint64_t, Connection> connections_;
  std::map<Address, std::size_t> queries_of_;      // under way, by sandbox
  std::map<Address, std::size_t> connections_of_;  // by sandbox
  std::uint64_t next_ = 1;
  Clock::time_point next_round_;
  std::string buffer_;
  std::atomic<std::uint64_t> queries_ = 0;
  std::atomic<std::uint64_t> failures_ = 0;
  std::thread thread_;
};

}  // namespace chalk::network
