#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <thread>

#include "adapters/network/links.h"
#include "tests/adapters/network/world.h"

namespace chalk::network {
namespace {

using namespace world;

class Publishing : public InWorld {
 protected:
  void SetUp() override {
    InWorld::SetUp();
    if (IsSkipped()) return;
    auto given = options();
    given.port_first = 21000;
    given.port_last = 21003;
    given.connections_max_per_port = 2;
    network = open(given);
    one = network->acquire("one").value();
    server = listen_in(one.namespace_path, "0.0.0.0", 8080);
  }
  void TearDown() override {
    if (!network) return;
    const auto removed = network->remove();
    EXPECT_TRUE(removed) << removed.error().message;
  }
  Descriptor client(std::uint16_t port, int* error = nullptr) {
    return connect_in(kHost, "127.0.0.1", port, kLong, error);
  }
  // What a client of the port learns that is turned away: after it was let in, or while it was.
  int break_of(std::uint16_t port) {
    int error = 0;
    const auto near = client(port, &error);
    if (!near) return error;
    const timeval limit{30, 0};
    (void)::setsockopt(near.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    char byte = 0;
    return ::recv(near.get(), &byte, 1, 0) < 0 ? errno : 0;
  }
  std::unique_ptr<Network> network;
  Endpoint one;
  Descriptor server;
};

TEST_F(Publishing, BytesAndEndsGoBothWays) {
  const auto port = network->publish("one", 8080).value();
  EXPECT_GE(port, 21000);
  EXPECT_LE(port, 21003);
  const auto near = client(port);
  ASSERT_TRUE(near);
  std::string seen;
  const auto far = accept(server, kLong, &seen);
  ASSERT_TRUE(far);
  EXPECT_EQ(seen, one.gateway);

  std::string request(8 << 20, '\0');
  for (std::size_t i = 0; i < request.size(); ++i) request[i] = static_cast<char>(i * 31 >> 3);
  std::thread sender([&] {
    EXPECT_TRUE(send_all(near, request));
    ::shutdown(near.get(), SHUT_WR);
  });
  const auto received = receive_all(far);  // to the end, which only one side has said
  sender.join();
  EXPECT_TRUE(received == request) << received.size() << " bytes";

  std::string answer(request.rbegin(), request.rend());
  std::thread answerer([&] {
    EXPECT_TRUE(send_all(far, answer));
    ::shutdown(far.get(), SHUT_WR);
  });
  const auto answered = receive_all(near);
  answerer.join();
  EXPECT_TRUE(answered == answer) << answered.size() << " bytes";
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (network->statistics().connections != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(network->statistics().connections, 0u);
}

TEST_F(Publishing, AReaderThatStopsStopsTheSender) {
  const auto port = network->publish("one", 8080).value();
  const auto near = client(port);
  const auto far = accept(server, kLong);
  const std::string chunk(64 << 10, 'x');
  std::size_t sent = 0;
  const timeval limit{0, 700'000};
  ASSERT_EQ(::setsockopt(near.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
  for (;;) {
    const auto count = ::send(near.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
    if (count <= 0) break;
    sent += static_cast<std::size_t>(count);
    ASSERT_LT(sent, std::size_t{64} << 20);
  }
  EXPECT_EQ(receive(far, sent).size(), sent);
}

TEST_F(Publishing, ABreakOfOneSideBreaksTheOther) {
  const auto port = network->publish("one", 8080).value();
  const auto near = client(port);
  {
    const auto far = accept(server, kLong);
    const linger none{1, 0};
    ASSERT_EQ(::setsockopt(far.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
  }
  const timeval limit{30, 0};
  ASSERT_EQ(::setsockopt(near.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0)
      << std::strerror(errno);
  char byte = 0;
  EXPECT_EQ(::recv(near.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(Publishing, ABreakAfterAnEndIsSeenWhileTheOtherSideIsSilent) {
  const auto port = network->publish("one", 8080).value();
  Descriptor far;
  {
    const auto near = client(port);
    far = accept(server, kLong);
    ::shutdown(near.get(), SHUT_WR);
    EXPECT_EQ(receive(far, 1), "") << "the end has come";
    const linger none{1, 0};
    ASSERT_EQ(::setsockopt(near.get(), SOL_SOCKET, SO_LINGER, &none, sizeof none), 0);
  }
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (network->statistics().connections != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(network->statistics().connections, 0u);
}

TEST_F(Publishing, AClientOfAPortThatNobodyServesIsReset) {
  const auto port = network->publish("one", 9999).value();
  EXPECT_EQ(break_of(port), ECONNRESET);
  EXPECT_EQ(network->statistics().connections_refused, 1u);
}

TEST_F(Publishing, ConnectionsOfOnePortHaveALimit) {
  const auto port = network->publish("one", 8080).value();
  const auto first = client(port);
  const auto second = client(port);
  ASSERT_TRUE(accept(server, kLong));
  ASSERT_TRUE(accept(server, kLong));
  EXPECT_EQ(break_of(port), ECONNRESET);
  EXPECT_EQ(network->statistics().connections_refused, 1u);
}

TEST_F(Publishing, AClosedPortResetsWhatComesAndLeavesWhatIsThere) {
  const auto port = network->publish("one", 8080, 0, false).value();
  EXPECT_EQ(break_of(port), ECONNRESET);
  network->set_open("one", 8080, true);
  const auto near = client(port);
  const auto far = accept(server, kLong);
  ASSERT_TRUE(far);
  network->set_open("one", 8080, false);
  EXPECT_EQ(break_of(port), ECONNRESET);
  ASSERT_TRUE(send_all(near, "still here"));
  EXPECT_EQ(receive(far, 10), "still here");
  network->set_open("one", 9, true);  // not published
  network->set_open("nobody", 8080, true);
}

TEST_F(Publishing, UnpublishEndsListenerAndConnections) {
  const auto port = network->publish("one", 8080).value();
  const auto near = client(port);
  const auto far = accept(server, kLong);
  ASSERT_TRUE(network->unpublish("one", 8080));
  EXPECT_EQ(receive(near, 1), "");
  int error = 0;
  EXPECT_FALSE(client(port, &error));
  EXPECT_EQ(error, ECONNREFUSED);
  EXPECT_TRUE(network->published().empty());
  EXPECT_EQ(network->unpublish("one", 8080).error().kind, Error::Kind::not_found);
}

TEST_F(Publishing, EachSandboxHasItsOwnPortAndReleaseFreesIt) {
  const auto two = network->acquire("two").value();
  const auto other = listen_in(two.namespace_path, "0.0.0.0", 8080);
  const auto first = network->publish("one", 8080).value();
  const auto second = network->publish("two", 8080).value();
  EXPECT_NE(first, second);
  EXPECT_EQ(network->publish("one", 8080).value(), first);
  EXPECT_EQ(network->publish("two", 8081, first).error().kind, Error::Kind::exhausted);
  const auto near = client(second);
  EXPECT_FALSE(accept(server, kShort));
  EXPECT_TRUE(accept(other, kLong));
  ASSERT_TRUE(network->release("two"));
  EXPECT_FALSE(client(second));
  EXPECT_EQ(network->publish("one", 8081, second).value(), second);
}

TEST_F(Publishing, ARangeWithoutAFreePortIsANamedRefusal) {
  const auto taken = listen_in(kHost, "127.0.0.1", 21001);  // by somebody else
  std::set<std::uint16_t> ports;
  for (const std::uint16_t port : {1, 2, 3}) ports.insert(network->publish("one", port).value());
  EXPECT_EQ(ports, (std::set<std::uint16_t>{21000, 21002, 21003}));
  const auto refused = network->publish("one", 4);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::exhausted);
  EXPECT_NE(refused.error().message.find("none of 21000..21003 is free on 127.0.0.1"),
            std::string::npos)
      << refused.error().message;
}

TEST_F(Publishing, ConnectSaysWhyItCouldNot) {
  EXPECT_EQ(network->connect("one", 9999, kLong).error().kind, Error::Kind::unavailable);
  EXPECT_EQ(network->connect("nobody", 8080, kLong).error().kind, Error::Kind::not_found);
  inside(one.namespace_path, [&] {  // nobody is there to refuse
    auto netlink = Netlink::open().value();
    ASSERT_TRUE(delete_link(netlink, "eth0"));
  });
  const auto gone = network->connect("one", 8080, std::chrono::milliseconds(300));
  ASSERT_FALSE(gone);
}

}  // namespace
}  // namespace chalk::network
