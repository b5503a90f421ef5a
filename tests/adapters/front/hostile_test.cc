// What strangers send: too much, too slowly, nonsense, and too many of them.
#include <gtest/gtest.h>

#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "tests/adapters/front/half_messages.h"
#include "tests/adapters/front/served.h"

namespace chalk::front {
namespace {

using std::chrono::milliseconds;

std::string echo(const std::string& text) {
  api::ExecCommandRequest request;
  request.set_command("echo");
  request.add_args(text);
  return post(kExec, "application/proto", request.SerializeAsString());
}

std::string sized(std::size_t bytes) {
  api::ExecCommandRequest request;
  request.set_command("size");
  request.set_stdin(std::string(bytes, 'b'));
  return request.SerializeAsString();
}

bool works(Served& served) {
  Wire wire(served.front->port());
  wire.send(echo("x"));
  return wire.answer().status == 200;
}

bool all_gone(Served& served) {
  return eventually([&] { return served.front->counters().open == 0; });
}

TEST(FrontHostile, ABodyBeyondTheLimitIsRefusedAndAKnownCallerMaySendMore) {
  Options options;
  options.limits.body_bytes = 1 << 20;
  options.limits.body_bytes_unauthenticated = 1000;
  options.authenticated = [](const Request& request) {
    return request.header("authorization") == "Bearer good";
  };
  Served served(options);
  const auto status = [&](std::size_t bytes, const std::string& headers) {
    Wire wire(served.front->port());
    wire.send(post(kExec, "application/proto", sized(bytes), headers));
    return wire.answer().status;
  };
  EXPECT_EQ(status(500, ""), 200);
  EXPECT_EQ(status(2000, ""), 413);
  EXPECT_EQ(status(2000, "Authorization: Bearer bad\r\n"), 413);
  EXPECT_EQ(status(1'000'000, "Authorization: Bearer good\r\n"), 200);
  EXPECT_EQ(status(3'000'000, "Authorization: Bearer good\r\n"), 413);
  Wire wire(served.front->port());  // says so much that it cannot be meant
  wire.send("POST " + std::string(kExec) +
            " HTTP/1.1\r\nContent-Type: application/proto\r\n"
            "Content-Length: 18446744073709551615\r\n\r\n");
  EXPECT_EQ(wire.answer().status, 413);
  Wire chunked(served.front->port());
  chunked.send(
      "POST " + std::string(kExec) +
      " HTTP/1.1\r\nContent-Type: application/proto\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunked.send("64\r\n" + std::string(100, 'c') + "\r\n");
  EXPECT_EQ(chunked.answer().status, 413);
  EXPECT_TRUE(all_gone(served));
}

TEST(FrontHostile, AChunkedBodyWithinTheLimitIsTaken) {
  Served served;
  const std::string body = sized(5000);
  Wire wire(served.front->port());
  wire.send("POST " + std::string(kExec) +
            " HTTP/1.1\r\nContent-Type: application/proto\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (std::size_t at = 0; at < body.size(); at += 256) {
    const auto piece = body.substr(at, 256);
    char size[32];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    wire.send(size + piece + "\r\n");
  }
  wire.send("0\r\n\r\n");
  const auto answer = wire.answer();
  ASSERT_EQ(answer.status, 200) << answer.body;
  api::ExecCommandResponse response;
  ASSERT_TRUE(response.ParseFromString(answer.body));
  EXPECT_EQ(response.stdout(), "5000");
}

TEST(FrontHostile, MemoryForBodiesIsBoundedInTotal) {
  Options options;
  options.limits.body_bytes_unauthenticated = 1 << 20;
  options.limits.buffered_bytes = 1'500'000;
  Served served(options);
  const std::string whole = post(kExec, "application/proto", sized(1'000'000));
  std::unique_ptr<Wire> first;
  Answer refused;
  // Where the server sees the second before the first, it is the first that is refused: once more.
  ASSERT_TRUE(eventually([&] {
    first.reset();
    if (!all_gone(served)) return false;
    first = std::make_unique<Wire>(served.front->port());
    first->send(whole.substr(0, whole.size() - 10));
    Wire second(served.front->port());
    second.send(whole);
    refused = second.answer();
    return refused.status != 200;
  }));
  EXPECT_EQ(refused.status, 503);
  first->send(whole.substr(whole.size() - 10));
  EXPECT_EQ(first->answer().status, 200);
  EXPECT_TRUE(eventually([&] {
    Wire third(served.front->port());
    third.send(post(kExec, "application/proto", sized(1'000'000)));
    return third.answer().status == 200;
  }));
}

TEST(FrontHostile, TooLongHeadersAreRefused) {
  Served served;
  Wire wire(served.front->port());
  wire.send("GET / HTTP/1.1\r\nX-Long: " + std::string(100'000, 'h') + "\r\n\r\n");
  EXPECT_EQ(wire.answer().status, 431);
  Wire many(served.front->port());
  std::string lines;
  for (int i = 0; i < 10'000; ++i) lines += "a: b\r\n";
  many.send("GET / HTTP/1.1\r\n" + lines + "\r\n");
  EXPECT_EQ(many.answer().status, 431);
  EXPECT_TRUE(works(served));
}

TEST(FrontHostile, SilentAndSlowConnectionsAreEnded) {
  Options options;
  options.limits.first_bytes = milliseconds(200);
  options.limits.header = milliseconds(200);
  options.limits.stall = milliseconds(200);
  options.limits.idle = milliseconds(200);
  Served served(options);
  const std::string head =
      "POST " + std::string(kExec) + " HTTP/1.1\r\nContent-Type: application/proto\r\n";
  for (const std::string& beginning :
       {std::string(), std::string("PRI * HT"), std::string("P"), head,
        head + "Content-Length: 100\r\n\r\nabc", std::string("GET / HTTP/1.1\r\n\r\n"),
        echo("and then silence")}) {
    Wire wire(served.front->port());
    wire.send(beginning);
    wire.read_to_end();  // waits for the end, or fails below by having waited in vain
  }
  EXPECT_TRUE(all_gone(served));
  Wire drip(served.front->port());  // a byte now and then does not help
  const auto begun = std::chrono::steady_clock::now();
  std::thread dripping([&] {
    for (int i = 0; i < 100 && std::chrono::steady_clock::now() - begun < kPatience; ++i) {
      drip.send(i == 0 ? "GET / HTTP/1.1\r\n" : "a: b\r\n");
      std::this_thread::sleep_for(milliseconds(50));
    }
  });
  EXPECT_TRUE(eventually([&] { return served.front->counters().failed >= 5; }));
  EXPECT_TRUE(all_gone(served));
  dripping.join();
}

TEST(FrontHostile, GarbageIsAnsweredOrDroppedAndHurtsNobody) {
  Served served;
  for (const std::string& garbage :
       {std::string("\0\0\0\0", 4), std::string("\x16\x03\x01\x02\x00", 5),
        std::string("hello\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("GET  / HTTP/1.1\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        std::string("POST /a.B/C HTTP/1.1\r\nContent-Length: x\r\n\r\n"),
        std::string("POST /a.B/C HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        std::string("POST /a.B/C HTTP/1.1\r\nContent-Type: application/proto\r\n"
                    "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("GET /../../etc/passwd HTTP/1.1\r\n\r\n"),
        std::string("GET http://other/ HTTP/1.1\r\n\r\n"),
        std::string("CONNECT other:443 HTTP/1.1\r\n\r\n")}) {
    Wire wire(served.front->port());
    wire.send(garbage);
    wire.end_sending();
    const auto said = wire.read_to_end();
    EXPECT_TRUE(said.empty() || !said.starts_with("HTTP/1.1 2")) << garbage << said;
  }
  EXPECT_TRUE(works(served));
  EXPECT_TRUE(all_gone(served));
}

TEST(FrontHostile, RandomBytesAndTornRequestsDoNotCrashIt) {
  Served served;
  std::mt19937 random(7);
  const std::string good = echo("seed");
  for (int round = 0; round < 300; ++round) {
    std::string bytes;
    switch (round % 3) {
      case 0:  // noise, behind the beginning of something
        bytes = std::vector<std::string>{"", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                         "\x16\x03\x01", "POST "}[random() % 5];
        for (std::size_t i = random() % 400; i > 0; --i) bytes += static_cast<char>(random());
        break;
      case 1:  // a good request with some bytes changed
        bytes = good;
        for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
        break;
      default:  // cut off
        bytes = good.substr(0, random() % good.size());
    }
    Wire wire(served.front->port());
    wire.send(bytes);
    if (random() % 2 == 0) {
      wire.abandon();
    } else {
      wire.end_sending();
      wire.read_some();
    }
  }
  EXPECT_TRUE(works(served));
  EXPECT_TRUE(all_gone(served)) << served.front->counters().open;
}

TEST(FrontHostile, ConnectionsBeyondTheLimitAreClosedAndOthersGoOn) {
  Options options;
  options.limits.connections = 8;
  Served served(options);
  std::vector<std::unique_ptr<Wire>> held;
  for (int i = 0; i < 8; ++i) {
    held.push_back(std::make_unique<Wire>(served.front->port()));
    held.back()->send(echo("held"));
    ASSERT_EQ(held.back()->answer().status, 200);
  }
  for (int i = 0; i < 50; ++i) {
    Wire extra(served.front->port());
    extra.send(echo("extra"));
    EXPECT_EQ(extra.answer().status, 0);
  }
  EXPECT_EQ(served.front->counters().refused, 50u);
  held[3]->send(echo("again"));
  EXPECT_EQ(held[3]->answer().status, 200);
  held.clear();
  EXPECT_TRUE(eventually([&] { return works(served); }));
}

TEST(FrontHostile, OneAddressCannotTakeEveryConnection) {
  Options options;
  options.limits.connections = 100;
  options.limits.connections_per_address = 2;
  Served served(options);
  Wire first(served.front->port()), second(served.front->port());
  first.send(echo("x"));
  second.send(echo("x"));
  EXPECT_EQ(first.answer().status, 200);
  EXPECT_EQ(second.answer().status, 200);
  EXPECT_FALSE(works(served));
}

TEST(FrontHostile, ConnectionsThatAreResetLeaveNothingBehind) {
  Served served;
  for (int i = 0; i < 50; ++i) {
    Wire wire(served.front->port());
    wire.send(i % 2 == 0 ? std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") : echo("x"));
    wire.abandon();
  }
  EXPECT_TRUE(all_gone(served)) << served.front->counters().open;
  EXPECT_TRUE(works(served));
}

std::size_t resident_bytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST(FrontHostile, HalfMessagesOfManyCallsDoNotFillTheMemory) {
  GrpcLimits limits;
  limits.memory_bytes = 64 << 20;
  limits.message_bytes = 32 << 20;
  Served served({}, {}, limits);
  const auto stub = served.stub();
  const auto echoes = [&] {
    api::ExecCommandRequest request;
    request.set_command("echo");
    request.add_args("x");
    api::ExecCommandResponse response;
    return stub->ExecCommand(client_context().get(), request, &response);
  };
  ASSERT_TRUE(echoes().ok());
  const std::size_t before = resident_bytes();
  HalfMessages stranger(served.front->port(), kExec, 24, 32 << 20);  // 768 MiB
  EXPECT_EQ(stranger.streams_max(), 256u);
  stranger.send_all();
  EXPECT_LT(resident_bytes(), before + (256u << 20));
  EXPECT_GT(stranger.ended(), 0);
  for (int i = 0; i < 20; ++i) {
    const auto status = echoes();
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

}  // namespace
}  // namespace chalk::front
