// What the program chalk makes of a server that is late, or away for a while: one that says what the
// test wants.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <thread>

#include "adapters/process/child.h"
#include "chalk/admin/v1/admin.grpc.pb.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"
#include "chalk/server/v1/auth.grpc.pb.h"
#include "tests/adapters/server/small_plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace v2 = sandbox::v2;

struct Tokens final : v1::AuthService::Service {
  grpc::Status GetToken(grpc::ServerContext*, const v1::GetTokenRequest*,
                        v1::GetTokenResponse* response) override {
    response->set_access_token("token");
    response->set_primary_environment("red");
    return grpc::Status::OK;
  }
};

struct Sandboxes final : v2::SandboxService::Service {
  grpc::Status CreateSandbox(grpc::ServerContext*, const v2::CreateSandboxRequest*,
                             v2::CreateSandboxResponse* response) override {
    response->mutable_sandbox()->set_id("sbx-1");
    return grpc::Status::OK;
  }
  grpc::Status ListSandboxes(grpc::ServerContext*, const v2::ListSandboxesRequest*,
                             v2::ListSandboxesResponse*) override {
    return {grpc::StatusCode::DEADLINE_EXCEEDED, "the log has not taken a write: look at /data"};
  }
  grpc::Status TerminateSandbox(grpc::ServerContext*, const v2::TerminateSandboxRequest*,
                                v2::TerminateSandboxResponse*) override {
    ++ended;
    return grpc::Status::OK;
  }
  std::atomic<int> ended = 0;
};

struct Details final : admin::v1::SandboxDetailService::Service {
  grpc::Status Inspect(grpc::ServerContext*, const admin::v1::InspectRequest*,
                       admin::v1::InspectResponse* response) override {
    response->set_id("sbx-1");
    response->set_status(runs ? "running" : "pending");
    return grpc::Status::OK;
  }
  grpc::Status Await(grpc::ServerContext* context, const admin::v1::AwaitRequest*,
                     grpc::ServerWriter<admin::v1::AwaitNews>*) override {
    ++awaits;
    while (!runs && !context->IsCancelled()) usleep(10'000);
    return grpc::Status::OK;
  }
  std::atomic<bool> runs = false;
  std::atomic<int> awaits = 0;
};

class LateServerTest : public testing::Test {
 protected:
  LateServerTest() { come(); }
  ~LateServerTest() override { go_away(); }

  void come() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port_),
                             grpc::InsecureServerCredentials(), &port_);
    for (grpc::Service* one : {static_cast<grpc::Service*>(&tokens_),
                               static_cast<grpc::Service*>(&sandboxes_),
                               static_cast<grpc::Service*>(&details_)}) {
      builder.RegisterService(one);
    }
    server_ = builder.BuildAndStart();
  }
  void go_away() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  process::Spawn chalk(const std::vector<std::string>& words) const {
    process::Spawn out;
    out.argv = {std::filesystem::read_symlink("/proc/self/exe").parent_path() / "chalk"};
    out.argv.insert(out.argv.end(), words.begin(), words.end());
    out.env = {"CHALK_API_SERVER=http://127.0.0.1:" + std::to_string(port_),
               "CHALK_CLIENT_ID=client", "CHALK_CLIENT_SECRET=secret", "CHALK_ENVIRONMENT=red"};
    return out;
  }

  Tokens tokens_;
  Sandboxes sandboxes_;
  Details details_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(LateServerTest, WhatItSaysOfBeingLateIsShown) {
  const auto done = process::run(chalk({"compute", "ls"}), 60s);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->status.exit_code, 125);
  EXPECT_NE(done->err.find("could not do this in time: the log has not taken a write: look at "
                           "/data\n"),
            std::string::npos)
      << done->err;
}

TEST_F(LateServerTest, ARunThatWaitsOutlivesItsRestart) {
  auto run = std::async(std::launch::async, [&] {
    return process::run(chalk({"compute", "run", "-d", "busybox", "--", "true"}), 120s);
  });
  ASSERT_TRUE(eventually([&] { return details_.awaits > 0; }));
  go_away();
  std::this_thread::sleep_for(8s);
  details_.runs = true;
  come();
  const auto done = run.get();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->status.exit_code, 0);
  EXPECT_EQ(done->out, "sbx-1\n");
  EXPECT_TRUE(done->err.starts_with("chalk: the server at http://127.0.0.1:")) << done->err;
  EXPECT_TRUE(done->err.ends_with(" is away; sandbox sbx-1 waits for it, for 60 s at most\n"))
      << done->err;
  EXPECT_EQ(std::ranges::count(done->err, '\n'), 1) << "it is said once";
  EXPECT_EQ(sandboxes_.ended, 0);
}

TEST_F(LateServerTest, ARunThatWaitsForItIsInterrupted) {
  const auto run = process::spawn(chalk({"compute", "run", "busybox", "--", "true"}));
  ASSERT_TRUE(run) << run.error().message;
  EXPECT_TRUE(eventually([&] { return details_.awaits > 0; }));
  go_away();
  std::this_thread::sleep_for(4s);
  kill(run->pid, SIGINT);
  const auto ended = process::wait(*run, 30s);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->exit_code, 128 + SIGINT);
}

}  // namespace
}  // namespace chalk::server
