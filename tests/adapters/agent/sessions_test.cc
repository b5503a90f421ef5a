// Sessions over plain processes: what a client sees of a process, also when its stream breaks.
#include "adapters/agent/sessions.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "plain_process.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
constexpr SandboxId kSandbox{7};
constexpr auto kLong = 30s;

Command shell(const std::string& script) { return {{"/bin/sh", "-c", script}, {}, {}, {}}; }
Command terminal(const std::string& script) {
  Command command = shell(script);
  command.terminal = Window{91, 33};
  return command;
}

// A client that takes everything until the end, or until it has seen `word`.
struct Client {
  explicit Client(std::shared_ptr<Session> one) : session(std::move(one)) {
    ticket = session->attach();
  }
  bool take() {
    SessionEvent event;
    last = session->next(ticket, after, std::chrono::milliseconds(kLong), event);
    if (last != Session::Next::event) return false;
    EXPECT_EQ(event.number, after + 1);
    after = event.number;
    if (event.kind == SessionEvent::Kind::output) {
      (event.stream == SessionEvent::Stream::standard_error ? error : output) += event.data;
    }
    newest = event;
    return true;
  }
  void until(const std::string& word) {
    while (output.find(word) == std::string::npos) ASSERT_TRUE(take()) << output;
  }
  void to_the_end() {
    while (take()) {
    }
    EXPECT_EQ(last, Session::Next::over);
  }
  bool write(const std::string& data) { return session->write(ticket, data); }
  std::shared_ptr<Session> session;
  std::uint64_t ticket = 0, after = 0;
  Session::Next last{};
  SessionEvent newest;
  std::string output, error;
};

struct SessionsTest : testing::Test {
  // Declared so that sessions go before the threads that tell them of ends: those are joined first.
  std::unique_ptr<PlainProcesses> plain = std::make_unique<PlainProcesses>();
  Sessions::Options options;
  std::unique_ptr<Sessions> sessions;

  std::shared_ptr<Session> begin(Command command, std::chrono::milliseconds timeout = {}) {
    if (!sessions) sessions = std::make_unique<Sessions>(plain->source(), options);
    auto session = sessions->open(kSandbox, std::move(command));
    EXPECT_TRUE(session) << session.error().message;
    sessions->start(*session, timeout);
    return *session;
  }
  void TearDown() override {
    if (sessions) {
      for (const auto& one : sessions->list(kSandbox)) (void)one->signal(SIGKILL);
    }
    plain.reset();
    sessions.reset();
  }
};

TEST_F(SessionsTest, OutputOfBothStreamsAndTheExitCodeArriveInOrder) {
  Client client(begin(shell("echo out; echo err >&2; exit 42")));
  client.to_the_end();
  EXPECT_EQ(client.output, "out\n");
  EXPECT_EQ(client.error, "err\n");
  EXPECT_EQ(client.newest.kind, SessionEvent::Kind::exited);
  EXPECT_EQ(client.newest.end.exit_code, 42);
  EXPECT_EQ(client.session->status().state, SessionState::exited);
}

TEST_F(SessionsTest, InputReachesTheProcessAndItsEndIsSeen) {
  Client client(begin({{"/bin/cat"}, {}, {}, {}}));
  EXPECT_TRUE(client.write("first "));
  EXPECT_TRUE(client.write("second"));
  client.session->end_input();
  client.to_the_end();
  EXPECT_EQ(client.output, "first second");
  EXPECT_EQ(client.newest.end.exit_code, 0);
  EXPECT_FALSE(client.write("late"));
}

TEST_F(SessionsTest, MuchInputGoesThroughASmallPipe) {
  Client client(begin(shell("sleep 0.2; wc -c")));
  const std::string block(300'000, 'x');
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(client.write(block));
  client.session->end_input();
  client.to_the_end();
  EXPECT_EQ(client.output, "6000000\n");
}

TEST_F(SessionsTest, InputForAProcessThatClosedItIsNotKept) {
  Client client(begin(shell("exec <&-; echo closed; sleep 60")));
  client.until("closed");
  const auto until = std::chrono::steady_clock::now() + kLong;
  while (client.write(std::string(200'000, 'x'))) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  }
}

TEST_F(SessionsTest, WhoWaitsForASlowReaderMayGiveUp) {
  Client client(begin(shell("exec sleep 60")));
  while (client.session->write(client.ticket, std::string(300'000, 'x'), [] { return true; })) {
  }
  EXPECT_EQ(client.session->status().state, SessionState::running);
  std::thread waiting([&] { EXPECT_FALSE(client.write("never read")); });
  client.session->detach(client.ticket);
  waiting.join();
}

TEST_F(SessionsTest, ASignalEndsTheProcessAndIsReported) {
  // cat answers: it runs, and no more the shell before it.
  Client client(begin(shell("exec cat")));
  EXPECT_TRUE(client.write("ready\n"));
  client.until("ready");
  EXPECT_TRUE(client.session->signal(SIGINT));
  client.to_the_end();
  EXPECT_EQ(client.newest.end.signal, SIGINT);
  EXPECT_FALSE(client.session->signal(SIGINT));
}

TEST_F(SessionsTest, ACommandThatIsNotThereFailsInWords) {
  Client client(begin({{"/no/such/program"}, {}, {}, {}}));
  client.to_the_end();
  EXPECT_EQ(client.newest.kind, SessionEvent::Kind::failed);
  EXPECT_EQ(client.newest.why, Error::Kind::not_found);
  EXPECT_NE(client.newest.data.find("executable not found"), std::string::npos);
}

TEST_F(SessionsTest, ATimeLimitKillsTheProcess) {
  Client client(begin(shell("echo ready; exec sleep 60"), 300ms));
  client.to_the_end();
  EXPECT_EQ(client.newest.kind, SessionEvent::Kind::timed_out);
  EXPECT_EQ(client.newest.end.signal, SIGKILL);
}

TEST_F(SessionsTest, ATerminalHasItsSizeAndEndsItsInputByACharacter) {
  Client client(begin(terminal("stty size; cat >/dev/null; echo done")));
  client.until("33 91");
  client.write("hello\n");
  client.session->end_input();
  client.to_the_end();
  EXPECT_NE(client.output.find("done"), std::string::npos);
}

TEST_F(SessionsTest, ATerminalIsResized) {
  Client client(begin(terminal("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done")));
  client.until("ready");
  EXPECT_TRUE(client.session->resize({120, 50}));
  client.until("50 120");
  client.to_the_end();
}

TEST_F(SessionsTest, WhoAttachesAgainGetsWhatCameAfterItsNumber) {
  const auto session = begin(shell("echo one; read line; echo two; read line; echo three"));
  Client first(session);
  first.until("one");
  session->detach(first.ticket);
  EXPECT_FALSE(first.take());
  EXPECT_EQ(first.last, Session::Next::displaced);
  EXPECT_FALSE(first.write("from nobody"));
  Client second(session);
  EXPECT_TRUE(second.write("\n\n"));
  second.after = first.after;
  second.to_the_end();
  EXPECT_EQ(second.output, "two\nthree\n");
  Client third(*sessions->find(kSandbox, session->id()));  // also after its end, from the start
  third.to_the_end();
  EXPECT_EQ(third.output, "one\ntwo\nthree\n");
}

TEST_F(SessionsTest, WhoAttachesTakesTheSessionFromTheOneBefore) {
  const auto session = begin(shell("echo one; exec sleep 60"));
  Client first(session);
  first.until("one");
  Client second(session);
  EXPECT_FALSE(first.take());
  EXPECT_EQ(first.last, Session::Next::displaced);
  second.until("one");
}

TEST_F(SessionsTest, OutputThatNobodyTookHoldsTheProcessUpAndIsNotLost) {
  options.record_bytes_max = 100'000;
  const auto session = begin(shell("head -c 2000000 /dev/zero | tr '\\0' x; echo end >&2"));
  std::this_thread::sleep_for(500ms);  // time enough to write it all, if it could
  EXPECT_EQ(session->status().state, SessionState::running);
  Client client(session);
  client.to_the_end();
  EXPECT_EQ(client.output.size(), 2'000'000u);
  EXPECT_EQ(client.error, "end\n");
}

TEST_F(SessionsTest, WhatWasTakenAndDroppedIsMissedInWords) {
  options.record_bytes_max = 100'000;
  const auto session = begin(shell("head -c 2000000 /dev/zero"));
  Client client(session);
  client.to_the_end();
  Client late(session);
  EXPECT_FALSE(late.take());
  EXPECT_EQ(late.last, Session::Next::gap);
  SessionEvent event;
  EXPECT_EQ(session->next(late.ticket, 0, 1s, event), Session::Next::gap);
  EXPECT_GT(event.number, 1u);
  EXPECT_EQ(session->next(late.ticket, event.number - 1, 1s, event), Session::Next::event);
}

TEST_F(SessionsTest, AProcessWithoutASandboxIsDeclaredFailed) {
  options.end_patience = 100ms;
  const auto session = begin(shell("echo ready; exec sleep 60"));
  Client client(session);
  client.until("ready");
  sessions->sandbox_ended({8});  // another one
  EXPECT_EQ(session->status().state, SessionState::running);
  const auto kill = [pid = session] { (void)pid->signal(SIGKILL); };
  sessions->sandbox_ended(kSandbox);
  kill();
  client.to_the_end();
  EXPECT_NE(client.newest.kind, SessionEvent::Kind::output);
}

TEST_F(SessionsTest, NoMoreThanAllowedRunAtOnceAndEndedOnesAreForgotten) {
  options.running_max = 2;
  options.ended_max = 1;
  const auto first = begin(shell("exec sleep 60"));
  const auto second = begin(shell("exec sleep 60"));
  EXPECT_EQ(sessions->open(kSandbox, shell("true")).error().kind, Error::Kind::exhausted);
  for (const auto& one : {first, second}) {
    ASSERT_TRUE(one->signal(SIGKILL));
    Client(one).to_the_end();
  }
  Client(begin(shell("true"))).to_the_end();
  EXPECT_LE(sessions->list(kSandbox).size(), 1u);
  EXPECT_EQ(sessions->find({8}, first->id()).error().kind, Error::Kind::not_found);
}

TEST_F(SessionsTest, OneSandboxIsRefusedBeyondItsPartAndAnotherStillOpens) {
  options.of_sandbox_max = 2;
  options.running_max = 3;
  const auto first = begin(shell("exec sleep 60"));
  begin(shell("exec sleep 60"));
  const auto beyond = sessions->open(kSandbox, shell("true"));
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().kind, Error::Kind::exhausted);
  EXPECT_NE(beyond.error().message.find("in this sandbox: 2 run, 2 allowed"), std::string::npos)
      << beyond.error().message;
  const auto other = sessions->open({8}, shell("true"));
  EXPECT_TRUE(other) << other.error().message;
  const auto full = sessions->open({9}, shell("true"));
  ASSERT_FALSE(full);
  EXPECT_NE(full.error().message.find("on this node: 3 run, 3 allowed"), std::string::npos)
      << full.error().message;
  ASSERT_TRUE(first->signal(SIGKILL));
  Client(first).to_the_end();
  EXPECT_TRUE(sessions->open(kSandbox, shell("true")));
}

}  // namespace
}  // namespace chalk::agent
