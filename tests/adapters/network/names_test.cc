#include <sys/socket.h>

#include <fstream>
#include <thread>
#include <vector>

#include "adapters/network/message.h"
#include "adapters/network/resolvers.h"
#include "tests/adapters/network/world.h"

namespace chalk::network {
namespace {

using namespace world;

const std::string kQuestion("\7example\4test\0\0\1\0\1", 18);

std::string query(std::uint16_t number) {
  std::string message("\0\0\1\0\0\1\0\0\0\0\0\0", 12);
  set_number(message, number);
  return message + kQuestion;
}

std::string answer_to(const std::string& asked, const std::string& extra = "") {
  std::string message = asked;
  message[2] = static_cast<char>(0x81);
  message[3] = static_cast<char>(0x80);
  return message + extra;
}

int code_of(const std::string& message) {
  return message.size() < 12 ? -1 : static_cast<unsigned char>(message[3]) & 15;
}

// A socket of a sandbox that talks to one DNS address.
Descriptor asker(const Endpoint& from, const std::string& to) {
  auto socket = datagram_in(from.namespace_path, from.address, 0);
  const auto address = socket_address(parse_address(to).value(), 53);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  return socket;
}

std::string datagram_of(const Descriptor& socket, sockaddr_in* from = nullptr) {
  std::string message(4096, '\0');
  socklen_t size = sizeof *from;
  const timeval limit{30, 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const auto count = ::recvfrom(socket.get(), message.data(), message.size(), 0,
                                reinterpret_cast<sockaddr*>(from), from ? &size : nullptr);
  message.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return message;
}

void reply(const Descriptor& socket, const sockaddr_in& to, const std::string& message) {
  (void)::sendto(socket.get(), message.data(), message.size(), 0,
                 reinterpret_cast<const sockaddr*>(&to), sizeof to);
}

class NamesInWorld : public InWorld {
 protected:
  void start(const Options& given) {
    network = open(given);
    one = network->acquire("one").value();
  }
  void TearDown() override {
    if (!network) return;
    const auto removed = network->remove();
    EXPECT_TRUE(removed) << removed.error().message;
  }
  std::unique_ptr<Network> network;
  Endpoint one;
};

TEST_F(NamesInWorld, AQueryGoesToTheResolverAndItsAnswerComesBack) {
  start(options());
  const auto resolver = datagram_in(kInternet, kInternetAddress, 53);
  // Whatever address is asked, the forwarder answers.
  for (const std::string to : {one.gateway.c_str(), kInternetNeighbour, "8.8.8.8"}) {
    SCOPED_TRACE(to);
    const auto socket = asker(one, to);
    ASSERT_TRUE(send_all(socket, query(77)));
    sockaddr_in from{};
    const auto asked = datagram_of(resolver, &from);
    ASSERT_EQ(asked.substr(2), query(0).substr(2));
    reply(resolver, from, answer_to(query(number_of(asked) ^ 1), "forged"));
    reply(resolver, from, answer_to(asked, "records"));
    EXPECT_EQ(datagram_of(socket), answer_to(query(77), "records"));
  }
  EXPECT_EQ(network->statistics().dns_queries, 3u);
  EXPECT_EQ(network->statistics().dns_failures, 0u);
}

TEST_F(NamesInWorld, WithoutAnyResolverTheAnswerIsAFailure) {
  start(options());  // nobody listens on port 53 of the internet
  const auto socket = asker(one, one.gateway);
  ASSERT_TRUE(send_all(socket, query(5)));
  const auto answer = datagram_of(socket);
  EXPECT_EQ(code_of(answer), 2);
  EXPECT_EQ(number_of(answer), 5);
  EXPECT_EQ(network->statistics().dns_failures, 1u);
}

TEST_F(NamesInWorld, TheSecondResolverIsAskedWhereTheFirstIsAbsent) {
  auto given = options();
  given.dns = {std::string(kInternetAddress), std::string(kInternetNeighbour) + ":5353"};
  start(given);
  const auto second = datagram_in(kInternet, kInternetNeighbour, 5353);
  const auto socket = asker(one, one.gateway);
  ASSERT_TRUE(send_all(socket, query(6)));
  sockaddr_in from{};
  const auto asked = datagram_of(second, &from);
  reply(second, from, answer_to(asked));
  EXPECT_EQ(datagram_of(socket), answer_to(query(6)));
}

TEST_F(NamesInWorld, AMalformedQueryIsRefusedAndNotPassedOn) {
  start(options());
  const auto resolver = datagram_in(kInternet, kInternetAddress, 53);
  const auto socket = asker(one, one.gateway);
  auto two_questions = query(9);
  two_questions[5] = 2;
  ASSERT_TRUE(send_all(socket, "short"));  // gets no answer
  ASSERT_TRUE(send_all(socket, two_questions));
  EXPECT_EQ(code_of(datagram_of(socket)), 1);
  EXPECT_EQ(receive(resolver, 1, kShort), "");
}

// Resolvers may let the host change a zone, or have all of it.
TEST_F(NamesInWorld, OnlyPlainQuestionsArePassedOn) {
  start(options());
  const auto resolver = datagram_in(kInternet, kInternetAddress, 53);
  const auto socket = asker(one, one.gateway);
  const auto changed = [](std::size_t at, int value) {
    auto message = query(9);
    message[at] = static_cast<char>(value);
    return message;
  };
  const std::size_t type = query(9).size() - 3, of = query(9).size() - 1;
  const std::vector<std::pair<std::string, int>> odd{
      {changed(2, 5 << 3), 4},   // update
      {changed(2, 4 << 3), 4},   // notify
      {changed(type, 252), 5},   // AXFR
      {changed(type, 251), 5},   // IXFR
      {changed(of, 3), 5},       // CHAOS
      {changed(7, 1), 5},        // with an answer
      {changed(9, 1), 5}};       // with an authority
  for (const auto& [message, code] : odd) {
    ASSERT_TRUE(send_all(socket, message));
    EXPECT_EQ(code_of(datagram_of(socket)), code);
    const auto client = connect_in(one.namespace_path, one.gateway, 53, kLong);
    const char length = static_cast<char>(message.size());
    ASSERT_TRUE(send_all(client, std::string(1, '\0') + length + message));
    EXPECT_EQ(code_of(receive(client, message.size() + 2).substr(2)), code);
  }
  EXPECT_EQ(receive(resolver, 1, kShort), "");
  // With EDNS, as most ask.
  const auto modern = changed(11, 1) + std::string("\0\0\51\4\320\0\0\0\0\0\0", 11);
  ASSERT_TRUE(send_all(socket, modern));
  EXPECT_EQ(datagram_of(resolver).substr(2), modern.substr(2));
}

TEST_F(NamesInWorld, TcpQueriesArePassedOnOneAfterTheOther) {
  start(options());
  const auto resolver = listen_in(kInternet, kInternetAddress, 53);
  const auto client = connect_in(one.namespace_path, one.gateway, 53, kLong);
  ASSERT_TRUE(client);
  const std::string large(40'000, 'x');  // as it does not fit a datagram
  for (const std::uint16_t number : {11, 12}) {
    std::string framed("\0\0", 2);
    set_number(framed, static_cast<std::uint16_t>(query(number).size()));
    ASSERT_TRUE(send_all(client, framed + query(number)));
    const auto asked = accept(resolver, kLong);
    ASSERT_TRUE(asked);
    EXPECT_EQ(receive(asked, 2 + query(0).size()), framed + query(number));
    const auto answer = answer_to(query(number), large);
    std::string length("\0\0", 2);
    set_number(length, static_cast<std::uint16_t>(answer.size()));
    ASSERT_TRUE(send_all(asked, length + answer));
    EXPECT_EQ(receive(client, 2 + answer.size()), length + answer);
  }
}

TEST_F(NamesInWorld, OverTcpAnAbsentResolverIsAFailureToo) {
  start(options());
  const auto client = connect_in(one.namespace_path, one.gateway, 53, kLong);
  ASSERT_TRUE(client);
  std::string framed("\0\0", 2);
  set_number(framed, static_cast<std::uint16_t>(query(3).size()));
  ASSERT_TRUE(send_all(client, framed + query(3)));
  const auto answer = receive(client, 2 + query(3).size());
  ASSERT_EQ(answer.size(), 2 + query(3).size());
  EXPECT_EQ(code_of(answer.substr(2)), 2);
}

TEST_F(NamesInWorld, OneSandboxCannotTakeAllQueries) {
  start(options());
  const auto two = network->acquire("two").value();
  const auto resolver = datagram_in(kInternet, kInternetAddress, 53);  // never answers the first
  const auto greedy = asker(one, one.gateway);
  for (std::uint16_t i = 0; i < 65; ++i) ASSERT_TRUE(send_all(greedy, query(i)));
  EXPECT_EQ(code_of(datagram_of(greedy)), 2);  // the 65th
  const auto modest = asker(two, two.gateway);
  auto other = query(500);
  other[13] = 'X';
  ASSERT_TRUE(send_all(modest, other));
  for (;;) {
    sockaddr_in from{};
    const auto asked = datagram_of(resolver, &from);
    ASSERT_FALSE(asked.empty());
    if (asked[13] != 'X') continue;
    reply(resolver, from, answer_to(asked));
    break;
  }
  EXPECT_EQ(datagram_of(modest), answer_to(other));
}

TEST(Names, AnswersAreComparedByNumberAndQuestion) {
  EXPECT_TRUE(is_answer_to(answer_to(query(1)), query(1)));
  EXPECT_FALSE(is_answer_to(answer_to(query(2)), query(1)));
  EXPECT_FALSE(is_answer_to(query(1), query(1)));
  auto other = query(1);
  other[13] = 'E';
  EXPECT_TRUE(is_answer_to(answer_to(other), query(1)));
  other[13] = 'f';
  EXPECT_FALSE(is_answer_to(answer_to(other), query(1)));
  for (std::size_t size = 0; size < query(1).size(); ++size) {
    EXPECT_FALSE(is_answer_to(answer_to(query(1)).substr(0, size), query(1)));
    EXPECT_EQ(question_end(std::string_view(query(1)).substr(0, size)), 0u);
  }
}

TEST(Names, ALabelThatPointsElsewhereIsNoQuestion) {
  auto message = query(1);
  message[12] = static_cast<char>(0xc0);
  EXPECT_EQ(question_end(message), 0u);
}

TEST(Names, ResolverFileGivesAtMostThreeFourthVersionAddresses) {
  const auto found = parse_resolver_file(
      "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.1\nnameserver fd00::1\n"
      "nameserver\nnameserver10.0.0.9\nnameserver\t10.0.0.2 # two\nnameserver 10.0.0.300\n"
      "nameserver 10.0.0.3\nnameserver 10.0.0.4");
  const std::vector<Resolver> expected = {{0x0a000001, 53}, {0x0a000002, 53}, {0x0a000003, 53}};
  EXPECT_EQ(found, expected);
}

TEST_F(InWorld, ResolverFileIsReadAgainWhenItChanges) {
  const std::string file = "/run/resolvers";  // of this program's own world
  std::ofstream(file) << "nameserver 10.0.0.1\nnameserver 10.9.9.9\n";
  Resolvers resolvers({}, file, 0x0a090909);
  EXPECT_EQ(resolvers.now(), std::vector<Resolver>{Resolver({0x0a000001, 53})});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // another time of change
  std::ofstream(file) << "nameserver 10.0.0.2\n";
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (resolvers.now().at(0).address != 0x0a000002 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(resolvers.now(), std::vector<Resolver>{Resolver({0x0a000002, 53})});
}

}  // namespace
}  // namespace chalk::network
