// The whole agent with real runsc: what the server orders becomes true, and is told.
#include <signal.h>

#include "real_node.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

TEST_F(RealNode, ASandboxStartsAnswersCommandsAndIsKilled) {
  control_->order(order(1, kBusybox, {"/bin/sh", "-c", "echo hello; exec sleep 1000"}));
  const auto note = started(1);
  EXPECT_GT(note.layers_ready_at(), note.accepted_at());
  EXPECT_GT(note.started_at(), note.layers_ready_at());
  EXPECT_FALSE(note.address().empty());
  EXPECT_EQ(note.node_name(), "test-node");
  int code = -1;
  EXPECT_EQ(run(1, {"/bin/sh", "-c", "hostname; exit 3"}, &code), "box\n");
  EXPECT_EQ(code, 3);
  EXPECT_EQ(run(1, {"/bin/cat"}, &code, "through the pipe"), "through the pipe");
  control_->order(StopOrder{{1}, {}});
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::terminated);
  EXPECT_EQ(note_of(end).signal(), SIGKILL);
}

TEST_F(RealNode, AnEndByItselfIsToldWithItsCodeAndItsTimes) {
  control_->order(order(1, kBusybox, {"/bin/sh", "-c", "echo out; exit 7"}));
  started(1);
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::exited);
  const auto note = note_of(end);
  EXPECT_EQ(note.exit_code(), 7);
  EXPECT_GT(note.first_byte_at(), note.layers_ready_at());
  EXPECT_GT(note.ended_at(), note.started_at());
  EXPECT_EQ(logs(1, false), "out\n");  // kept for a while
}

TEST_F(RealNode, AskedToEndItHasItsGrace) {
  control_->order(order(1, kBusybox,
                        {"/bin/sh", "-c",
                         "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"}));
  started(1);
  control_->order(order(2, kBusybox, {"/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"}));
  started(2);
  await_log(1, "ready");
  control_->order(StopOrder{{1}, seconds(30)});
  const EndedReport polite = ended(1);
  EXPECT_EQ(polite.reason, EndReason::terminated);
  EXPECT_EQ(note_of(polite).exit_code(), 5);
  EXPECT_EQ(logs(1, false), "ready\nbye\n");
  control_->order(StopOrder{{2}, seconds(1)});
  EXPECT_EQ(note_of(ended(2)).signal(), SIGKILL);  // it does not listen
}

TEST_F(RealNode, TheNodeEndsALifetimeByItself) {
  StartOrder mortal = order(1, kBusybox, {"/bin/sleep", "1000"});
  mortal.lifetime = milliseconds(500);
  control_->order(mortal);
  started(1);
  EXPECT_EQ(ended(1).reason, EndReason::lifetime_reached);
}

TEST_F(RealNode, WhatCannotStartSaysWhy) {
  StartOrder missing = order(1, kBusybox, {"/no/such/program"});
  control_->order(missing);
  const EndedReport no_program = ended(1);
  EXPECT_EQ(no_program.reason, EndReason::start_failed);
  EXPECT_NE(note_of(no_program).detail(), "");
  StartOrder stranger = order(2, kBusybox, {"/bin/true"});
  auto changed = payload(stranger);
  changed.set_user("nobody-knows-me");
  stranger.payload = changed.SerializeAsString();
  control_->order(stranger);
  EXPECT_NE(note_of(ended(2)).detail().find("nobody-knows-me"), std::string::npos);
  StartOrder garbage = order(3, kBusybox, {"/bin/true"});
  garbage.payload = "\xff\xff\xff";
  control_->order(garbage);
  EXPECT_EQ(ended(3).reason, EndReason::start_failed);
}

TEST_F(RealNode, APullThatFailsSaysWhyAndTheNextOneWorks) {
  StartOrder gone = order(1, kBusybox, {"/bin/true"});
  auto changed = payload(gone);
  auto image = images::decode_image(changed.image());
  ASSERT_TRUE(image);
  image->reference.repository = "library/no-such-thing";
  changed.set_image(images::encode_image(*image));
  gone.payload = changed.SerializeAsString();
  control_->order(gone);
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::bad_image) << "the registry says that there is no such thing";
  EXPECT_NE(end.note, "");
  control_->order(order(2, kBusybox, {"/bin/sleep", "1000"}));
  started(2);
}

// Says how often it was started, keeps a file, serves, and ends when it is asked for /end.
constexpr const char* kMortalServer =
    "import http.server, os\n"
    "print('begun', os.path.exists('/tmp/mark'), flush=True)\n"
    "open('/tmp/mark', 'w').close()\n"
    "class Serve(http.server.BaseHTTPRequestHandler):\n"
    "  def log_message(self, *words): pass\n"
    "  def do_GET(self):\n"
    "    if self.path.startswith('/end'): os._exit(7)\n"
    "    self.send_response(200); self.end_headers()\n"
    "http.server.HTTPServer(('', 8000), Serve).serve_forever()\n";

TEST_F(RealNode, WhatEndsIsStartedAgainWithItsPortItsOutputAndNewFiles) {
  StartOrder server = order(1, kPython, {"python3", "-c", kMortalServer});
  server.restart = true;
  auto changed = payload(server);
  changed.set_port(8000);
  changed.mutable_startup_probe()->set_http_path("/");
  server.payload = changed.SerializeAsString();
  control_->order(server);
  const std::string url = started(1).web_url();
  http_status(url + "/end");
  const auto waits = note(restarted(1, 1, false).note);
  EXPECT_EQ(waits.exit_code(), 7);
  const auto again = note(restarted(1, 1, true).note);
  EXPECT_EQ(again.web_url(), url);
  EXPECT_EQ(http_status(url), 200);
  EXPECT_EQ(logs(1, false), "begun False\nbegun False\n");
  http_status(url + "/end");
  restarted(1, 2, false);
  control_->order(StopOrder{{1}, {}});
  EXPECT_EQ(ended(1).reason, EndReason::terminated);
}

TEST_F(RealNode, APortIsPublishedAndAProbeWaitsForIt) {
  StartOrder server = order(1, kPython, {"python3", "-m", "http.server", "8000"});
  auto changed = payload(server);
  changed.set_port(8000);
  changed.mutable_startup_probe()->set_http_path("/");
  server.payload = changed.SerializeAsString();
  control_->order(server);
  const auto note = started(1);
  EXPECT_GT(note.ready_at(), note.started_at());
  ASSERT_TRUE(note.web_url().starts_with("http://127.0.0.1:")) << note.web_url();
  EXPECT_EQ(http_status(note.web_url()), 200);
}

class Blocking : public RealNode {
 protected:
  void SetUp() override {
    more_flags_ = {"--block", "203.0.113.0/24"};
    RealNode::SetUp();
  }
};

TEST_F(Blocking, WhatTheOperatorBlocksIsInTheRulesOfTheNode) {
  process::Spawn nft;
  nft.argv = {"nft", "list", "set", "inet", "chalk_" + prefix_, "blocked"};
  nft.env = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin"};
  const auto said = process::run(nft, 30s);
  ASSERT_TRUE(said) << said.error().message;
  EXPECT_NE(said->out.find("203.0.113.0/24"), std::string::npos) << said->out << said->err;
}

TEST_F(RealNode, AProbeThatIsNeverAnsweredFailsTheStart) {
  StartOrder mute = order(1, kBusybox, {"/bin/sleep", "1000"});
  auto changed = payload(mute);
  changed.set_port(8000);
  changed.mutable_startup_probe()->set_tcp(true);
  changed.mutable_startup_probe()->set_period_ms(100);
  changed.mutable_startup_probe()->set_failure_threshold(5);
  mute.payload = changed.SerializeAsString();
  control_->order(mute);
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::start_failed);
  EXPECT_NE(note_of(end).detail().find("probe"), std::string::npos) << note_of(end).detail();
}

TEST_F(RealNode, AKillDuringTheStartEndsIt) {
  StartOrder mute = order(1, kBusybox, {"/bin/sleep", "1000"});
  auto changed = payload(mute);
  changed.set_port(8000);
  changed.mutable_startup_probe()->set_tcp(true);  // never answered: the start goes on
  mute.payload = changed.SerializeAsString();
  control_->order(mute);
  control_->order(StopOrder{{1}, {}});
  EXPECT_EQ(ended(1).reason, EndReason::terminated);
}

TEST_F(RealNode, MemoryBeyondTheLimitIsToldAsSuch) {
  StartOrder hungry = order(1, kPython, {"python3", "-c", "x = bytearray(1 << 30)\nprint(len(x))"});
  hungry.resources.memory_bytes = 256LL << 20;
  control_->order(hungry);
  const auto report = control_->report(
      [](const NodeReport& one) { return std::holds_alternative<EndedReport>(one); }, 60s);
  ASSERT_TRUE(report);
  EXPECT_EQ(std::get<EndedReport>(*report).reason, EndReason::out_of_memory);
}

TEST_F(RealNode, TheGuestHelperMovesFiles) {
  if (!has_guest()) GTEST_SKIP() << "chalk-guest is not built";
  control_->order(order(1, kBusybox, {"/bin/sleep", "1000"}));
  started(1);
  int code = -1;
  const std::string content(300'000, 'c');
  guest(1, {"write", "/tmp/deep/file", "--parents"}, &code, content);
  EXPECT_EQ(code, 0);
  EXPECT_EQ(guest(1, {"read", "/tmp/deep/file"}, &code), content);
  EXPECT_EQ(code, 0);
  guest(1, {"read", "/no/such/file"}, &code);
  EXPECT_NE(code, 0);
}

TEST_F(RealNode, ScrubIsAnsweredWhenNothingIsLeft) {
  control_->order(order(1, kBusybox, {"/bin/true"}));
  ended(1);
  control_->order(ScrubOrder{});
  EXPECT_TRUE(control_->report(
      [](const NodeReport& one) { return std::holds_alternative<ScrubbedReport>(one); }, 60s));
  EXPECT_FALSE(logs_kept(1));
}

}  // namespace
}  // namespace chalk::agent
