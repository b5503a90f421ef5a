// The whole agent with real runsc: what the server orders becomes true, and is told.
#include <signal.h>

#include "real_node.h"

namespace chalk::agent {
namespace {

using namespace std::chrono_literals;

TEST_F(RealNode, ASandboxStartsAnswersCommandsAndIsKilled) {
  control_->order(order(1, kBusybox, {"/bin/sh", "-c", "echo hello; exec sleep 1000"}));
  const auto note = started(1);
  EXPECT_GT(note.started_at(), note.layers_ready_at());
  EXPECT_FALSE(note.address().empty());
  int code = -1;
  EXPECT_EQ(run(1, {"/bin/sh", "-c", "hostname; exit 3"}, &code), "box\n");
  EXPECT_EQ(code, 3);
  control_->order(StopOrder{{1}, {}});
  const EndedReport end = ended(1);
  EXPECT_EQ(end.reason, EndReason::terminated);
}

}  // namespace
}  // namespace chalk::agent
