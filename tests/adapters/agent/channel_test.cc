// Sessions and commands of clients over channels, with real sandboxes.
#include <signal.h>

#include "real_node.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;
namespace wire = chalk::sandbox::v2;

// The client's end of one session stream.
class Talk {
 public:
  Talk(ControlDouble& control, std::uint64_t sandbox) {
    node::v1::Open open;
    open.set_sandbox(sandbox);
    open.mutable_session();
    work_ = control.open(open);
    if (!work_) ADD_FAILURE() << "no channel";
  }
  void say(const wire::OpenSessionRequest& request) {
    node::v1::ChannelDown down;
    *down.mutable_session() = request;
    if (work_) work_->send(down);
  }
  void begin(const std::string& script, bool terminal = false, int timeout_ms = 0) {
    wire::OpenSessionRequest request;
    auto& process = *request.mutable_new_process();
    process.set_command("/bin/sh");
    process.add_args("-c");
    process.add_args(script);
    if (terminal) {
      process.mutable_pty_info()->set_cols(91);
      process.mutable_pty_info()->set_rows(33);
    }
    if (timeout_ms != 0) process.mutable_timeout()->set_nanos(timeout_ms * 1'000'000);
    say(request);
  }
  void attach(const std::string& session, std::uint64_t after) {
    wire::OpenSessionRequest request;
    request.mutable_attach_session()->set_session_id(session);
    request.mutable_attach_session()->set_after_seq(after);
    say(request);
  }
  void input(const std::string& data) {
    wire::OpenSessionRequest request;
    request.mutable_stdin_data()->set_data(data);
    say(request);
  }
  // One event; false at the end of the stream.
  bool take() {
    const auto up = work_ ? work_->receive(40s) : std::nullopt;
    if (!up) return false;
    last = up->session();
    if (last.seq() != 0) {
      EXPECT_GT(last.seq(), seq);
      seq = last.seq();
    }
    if (last.has_session_attached()) id = last.session_attached().session_id();
    if (last.has_output_data()) {
      (last.output_data().stream() == wire::OutputData::STREAM_STDERR ? error : output) +=
          last.output_data().data();
    }
    return true;
  }
  void until(const std::string& word) {
    while (output.find(word) == std::string::npos) ASSERT_TRUE(take()) << "so far: " << output;
  }
  void until_end() {
    while (!last.has_process_exited() && !last.has_process_failed() &&
           !last.has_process_timed_out() && !last.has_error()) {
      ASSERT_TRUE(take()) << "so far: " << output;
    }
  }
  void cut() { work_->close(); }

  wire::OpenSessionResponse last;
  std::uint64_t seq = 0;
  std::string id, output, error;

 private:
  std::unique_ptr<ControlDouble::Work> work_;
};

class Channels : public RealNode {
 protected:
  void SetUp() override {
    RealNode::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
    started(1);
  }
};

TEST_F(Channels, ASessionHasBothStreamsInputAndAnExitCode) {
  Talk talk(*control_, 1);
  talk.begin("read a; echo got $a; echo problem >&2; exit 9");
  talk.input("word\n");
  talk.until_end();
  EXPECT_EQ(talk.output, "got word\n");
  EXPECT_EQ(talk.error, "problem\n");
  EXPECT_TRUE(talk.id.starts_with("ses-"));
  ASSERT_TRUE(talk.last.has_process_exited());
  EXPECT_EQ(talk.last.process_exited().exit_code(), 9);
}

TEST_F(Channels, ASessionWithATerminalHasItsSizeAndIsResized) {
  Talk talk(*control_, 1);
  talk.begin("stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done",
             true);
  talk.until("33 91");
  talk.until("ready");
  wire::OpenSessionRequest request;
  request.mutable_resize_pty()->set_cols(120);
  request.mutable_resize_pty()->set_rows(50);
  talk.say(request);
  talk.until("50 120");
  talk.until_end();
  EXPECT_EQ(talk.last.process_exited().exit_code(), 4);
}

TEST_F(Channels, ASignalReachesTheProcessOfTheSession) {
  Talk talk(*control_, 1);
  talk.begin("trap 'echo caught; exit 6' USR1; echo ready; while :; do sleep 0.1; done");
  talk.until("ready");
  wire::OpenSessionRequest request;
  request.mutable_signal()->set_signal(SIGUSR1);
  talk.say(request);
  talk.until_end();
  EXPECT_EQ(talk.output, "ready\ncaught\n");
  EXPECT_EQ(talk.last.process_exited().exit_code(), 6);
  Talk killed(*control_, 1);
  killed.begin("echo ready; exec sleep 100");
  killed.until("ready");
  request.mutable_signal()->set_signal(SIGKILL);
  killed.say(request);
  killed.until_end();
  EXPECT_EQ(killed.last.process_exited().signal(), SIGKILL);
}

TEST_F(Channels, ASessionOutlivesItsStreamAndIsReplayed) {
  Talk first(*control_, 1);
  first.begin("echo one; read a; echo two $a");
  first.until("one");
  first.cut();
  Talk second(*control_, 1);
  second.attach(first.id, first.seq);
  second.input("more\n");
  second.until_end();
  EXPECT_EQ(second.output, "two more\n");
  EXPECT_EQ(second.last.process_exited().exit_code(), 0);
  Talk third(*control_, 1);
  third.attach(first.id, 1);
  third.until_end();
  EXPECT_EQ(third.output, "one\ntwo more\n");
  Talk stranger(*control_, 1);
  stranger.attach("ses-of-somebody-else", 0);
  stranger.until_end();
  EXPECT_EQ(stranger.last.error().code(), "session_not_found");
}

TEST_F(Channels, ATimeLimitAndAMissingProgramAreTold) {
  Talk slow(*control_, 1);
  slow.begin("sleep 100", false, 700);
  slow.until_end();
  EXPECT_TRUE(slow.last.has_process_timed_out());
  Talk missing(*control_, 1);
  wire::OpenSessionRequest request;
  request.mutable_new_process()->set_command("/no/such/program");
  missing.say(request);
  missing.until_end();
  ASSERT_TRUE(missing.last.has_process_failed());
  EXPECT_NE(missing.last.process_failed().message(), "");
}

TEST_F(Channels, SessionsEndWithTheirSandbox) {
  Talk talk(*control_, 1);
  talk.begin("echo ready; sleep 1000");
  talk.until("ready");
  control_->order(StopOrder{{1}, {}});
  talk.until_end();
  EXPECT_TRUE(talk.last.has_process_exited() || talk.last.has_process_failed());
  EXPECT_EQ(ended(1).reason, EndReason::terminated);
  Talk late(*control_, 1);
  late.begin("true");
  late.until_end();
  EXPECT_TRUE(late.last.has_process_failed());
}

TEST_F(Channels, SessionsAreListed) {
  Talk talk(*control_, 1);
  talk.begin("echo ready; read a");
  talk.until("ready");
  node::v1::Open open;
  open.set_sandbox(1);
  open.mutable_list_sessions();
  const auto work = control_->open(open);
  ASSERT_TRUE(work);
  const auto up = work->receive(30s);
  ASSERT_TRUE(up && up->sessions().sessions_size() == 1);
  EXPECT_EQ(up->sessions().sessions(0).session_id(), talk.id);
  EXPECT_EQ(up->sessions().sessions(0).new_process().command(), "/bin/sh");
  EXPECT_EQ(up->sessions().sessions(0).process_status().state(), wire::PROCESS_STATE_RUNNING);
}

TEST_F(Channels, ACommandThatWritesTooMuchIsCutOff) {
  node::v1::Open open;
  open.set_sandbox(1);
  for (const char* word : {"/bin/cat", "/dev/zero"}) open.mutable_run()->add_argv(word);
  open.mutable_run()->set_output_bytes_max(1 << 20);
  const auto work = control_->open(open);
  ASSERT_TRUE(work);
  while (const auto up = work->receive(40s)) {
    if (!up->has_failure()) continue;
    EXPECT_EQ(up->failure().kind(), node::v1::Failure::EXHAUSTED);
    return;
  }
  ADD_FAILURE() << "it was not cut off";
}

TEST_F(Channels, OutputOfTheMainProcessIsFollowedUntilItsEnd) {
  control_->order(order(2, kBusybox,
                        {"/bin/sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.3; done"}));
  started(2);
  EXPECT_EQ(logs(2, true), "line 1\nline 2\nline 3\n");
  ended(2);
  EXPECT_EQ(logs(2, false, 7), "line 3\n");
}

TEST_F(Channels, WorkOnASandboxThatIsNotHereFailsInWords) {
  node::v1::Open open;
  open.set_sandbox(99);
  open.mutable_run()->add_argv("/bin/true");
  const auto work = control_->open(open);
  ASSERT_TRUE(work);
  const auto up = work->receive(30s);
  ASSERT_TRUE(up && up->has_failure());
  EXPECT_EQ(up->failure().kind(), node::v1::Failure::NOT_FOUND);
}

}  // namespace
}  // namespace chalk::agent
