// What becomes of a sandbox whose creator is gone before it runs: over an in-process channel, with a
// pretended node of eight cores and a registry that answers when it may.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>

#include "adapters/identity/store.h"
#include "adapters/identity/tokens.h"
#include "adapters/server/admin_service.h"
#include "adapters/server/detail_service.h"
#include "adapters/server/images.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"
#include "adapters/server/public_services.h"
#include "adapters/server/telemetry.h"
#include "chalk/admin/v1/admin.grpc.pb.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"
#include "tests/adapters/images/layers.h"
#include "tests/adapters/images/served_image.h"
#include "tests/adapters/server/small_plane.h"
#include "tests/support/standing_disk.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
namespace v2 = sandbox::v2;
using grpc::StatusCode;
using records::Sandbox;
using records::Status;

PlaneOptions plane_options(const std::string& folder, std::chrono::milliseconds answer_max) {
  PlaneOptions out = labelled_plane(folder);
  out.answer_max = answer_max;
  return out;
}

class CreationsTest : public testing::Test {
 protected:
  explicit CreationsTest(std::chrono::milliseconds answer_max = 30s)
      : plane_{plane_options(folder_, answer_max)} {
    start_with(plane_, node_);
    node_.boot();
    grpc::ServerBuilder builder;
    publics_.register_on(builder);
    builder.RegisterService(&admin_);
    builder.RegisterService(&detail_);
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel({});
    EXPECT_TRUE(identities_.create_environment("red", "red"));
    EXPECT_TRUE(eventually([&] { return plane_.nodes().value().size() == 1; }));
  }
  ~CreationsTest() override {
    open_ = true;
    server_->Shutdown(std::chrono::system_clock::now() + 30s);
    plane_.stop();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  struct Client {
    std::string id, token;
  };
  Client client(identity::Role role = identity::Role::user) {
    const auto made = identities_.create_client("red", role);
    return {made->client_id, tokens_.issue(made->client_id, made->secret, "")->token};
  }
  static std::unique_ptr<grpc::ClientContext> as(const Client& who,
                                                 std::chrono::milliseconds patience = 60s) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->AddMetadata("authorization", "Bearer " + who.token);
    context->set_deadline(std::chrono::system_clock::now() + patience);
    return context;
  }
  grpc::Status create(grpc::ClientContext& context, const std::string& name,
                      const std::string& cpu) {
    v2::CreateSandboxRequest request;
    request.mutable_spec()->set_image(registry_.host() + "/app:1");
    request.mutable_spec()->set_name(name);
    request.mutable_spec()->add_entrypoint("sleep");
    request.mutable_spec()->mutable_resources()->set_cpu(cpu);
    v2::CreateSandboxResponse response;
    return v2::SandboxService::NewStub(channel_)->CreateSandbox(&context, request, &response);
  }
  std::optional<Sandbox> named(const std::string& name) {
    records::Records::Filter filter;
    filter.name = name;
    const auto found = plane_.records().list(filter);
    return found.empty() ? std::nullopt : std::optional(found.front());
  }
  bool becomes(const std::string& name, Status status) {
    return eventually([&] {
      const auto one = named(name);
      return one && one->status == status;
    });
  }

  const images::testing::Published image_ =
      images::testing::publish({images::testing::make_layer({})});
  std::atomic<bool> open_ = true;
  std::atomic<int> asked_ = 0;
  images::testing::Server registry_{[this](const images::testing::Asked& asked) {
    ++asked_;
    while (!open_) usleep(1'000);
    return images::testing::serve_image(image_, "app", asked);
  }};
  std::string folder_ = fresh_folder("creations");
  identity::Store identities_{folder_ + "/identity.db"};
  identity::Tokens tokens_{identities_, {}};
  PretendNode node_{5};
  Plane plane_;
  NodeHub hub_{plane_, {}};
  ImageCatalogue images_{plane_, folder_ + "/images.db",
                         images::testing::plain({registry_.host()})};
  Services services_{plane_, hub_, images_, identities_, tokens_};
  PublicServices publics_{services_};
  AdminService admin_{services_};
  DetailService detail_{services_};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(CreationsTest, WhoIsGoneWhenTheRegistryAnswersGetsNothing) {
  const Client red = client();
  open_ = false;
  const auto gave_up = as(red, 1s);
  EXPECT_EQ(create(*gave_up, "late", "1").error_code(), StatusCode::DEADLINE_EXCEEDED);
  EXPECT_GT(asked_, 0);
  const auto left = as(red);
  auto leaves = std::async([&] { return create(*left, "left", "1"); });
  usleep(300'000);
  left->TryCancel();
  EXPECT_EQ(leaves.get().error_code(), StatusCode::CANCELLED);
  open_ = true;
  const auto context = as(red);
  const auto made = create(*context, "stays", "1");
  EXPECT_TRUE(made.ok()) << made.error_message();
  server_->Shutdown();  // all calls are over on its side too
  EXPECT_FALSE(named("late"));
  EXPECT_FALSE(named("left"));
  EXPECT_TRUE(named("stays"));
}

TEST_F(CreationsTest, WhoLeavesWhileItsSandboxWaitsForRoomLeavesNone) {
  const Client red = client();
  const auto first = as(red);
  ASSERT_TRUE(create(*first, "runs", "8").ok());
  const auto context = as(red);
  auto waits = std::async([&] { return create(*context, "waits", "1"); });
  ASSERT_TRUE(becomes("waits", Status::pending));
  context->TryCancel();
  EXPECT_EQ(waits.get().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(becomes("waits", Status::ended));
  EXPECT_EQ(named("runs")->status, Status::running);
}

// Creates are answered soon, so that one which is not is seen to give up; what a slow machine needs
// for one that is answered is less.
class StandingDiskTest : public CreationsTest {
 protected:
  StandingDiskTest() : CreationsTest(10s) {}
};

// The log's disk stands still: who asks hears of it, and nothing is left of who asked in vain.
TEST_F(StandingDiskTest, ADiskThatStandsStillIsNamedAndLeavesNoSandboxOfWhoIsGone) {
  const Client red = client(), admin = client(identity::Role::admin);
  ASSERT_TRUE(create(*as(red), "before", "1").ok());
  ASSERT_TRUE(becomes("before", Status::running));
  Telemetry telemetry;
  EXPECT_NE(telemetry.text(services_, {}).find("\nchalk_log_events "), std::string::npos);
  std::future<grpc::Status> gave_up, nodes;  // they end after the disk goes on
  StandingDisk disk("control.db-wal");
  gave_up = std::async([&] { return create(*as(red), "late", "1"); });
  ASSERT_TRUE(eventually([&] { return plane_.log_stands_still_for().count() > 0; }));
  nodes = std::async([&] {
    admin::v1::ListNodesResponse response;
    return admin::v1::AdminService::NewStub(channel_)->ListNodes(as(admin).get(), {}, &response);
  });
  const std::string text = telemetry.text(services_, {});
  EXPECT_EQ(text.find("\nchalk_log_events "), std::string::npos);
  EXPECT_EQ(text.find("\nchalk_nodes{"), std::string::npos);
  EXPECT_NE(text.find("\nchalk_log_stands_still_seconds "), std::string::npos);
  const grpc::Status said = nodes.get();
  EXPECT_EQ(said.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(said.error_message().starts_with(
      "the control plane's log has not taken a write for ")) << said.error_message();
  EXPECT_TRUE(said.error_message().ends_with(" s: look at the disk of " + folder_));
  EXPECT_EQ(gave_up.get().error_code(), StatusCode::DEADLINE_EXCEEDED);
  disk.go_on();
  EXPECT_TRUE(becomes("late", Status::ended));
  EXPECT_EQ(named("before")->status, Status::running);
  EXPECT_NE(telemetry.text(services_, {}).find("\nchalk_log_events "), std::string::npos);
}

TEST_F(StandingDiskTest, WhoGaveUpLeavesNothingAlsoWhereTheServerStopsMeanwhile) {
  const Client red = client();
  ASSERT_TRUE(create(*as(red), "before", "1").ok());
  std::future<grpc::Status> gave_up;  // these end after the disk goes on
  std::future<Result<SandboxId>> by_key;
  std::future<void> stopped;
  StandingDisk disk("control.db-wal");
  gave_up = std::async([&] { return create(*as(red), "late", "1"); });
  by_key = std::async([&] {
    SandboxAsk ask;
    ask.key = "key";
    ask.tenant = named("before")->tenant;
    return plane_.create(ask);
  });
  const std::string said = gave_up.get().error_message();
  EXPECT_TRUE(said.starts_with("the control plane's log has not taken a write for ")) << said;
  EXPECT_NE(said.find("should the sandbox still be created, the server ends it"),
            std::string::npos) << said;
  const auto answer = by_key.get();
  ASSERT_FALSE(answer);
  EXPECT_NE(answer.error().message.find("ask again by the same key"), std::string::npos)
      << answer.error().message;
  stopped = std::async([&] { plane_.stop(); });
  usleep(300'000);
  disk.go_on();
  stopped.get();
  const auto late = named("late");
  ASSERT_TRUE(late);
  EXPECT_TRUE(late->stop_asked);
  EXPECT_FALSE(named("before")->stop_asked);
}

// Who waits for a start, as `chalk compute run` does.
struct Awaiting {
  Awaiting(const std::shared_ptr<grpc::Channel>& channel,
           std::unique_ptr<grpc::ClientContext> given, const std::string& name)
      : context(std::move(given)) {
    admin::v1::AwaitRequest request;
    request.set_id(name);
    stream = admin::v1::SandboxDetailService::NewStub(channel)->Await(context.get(), request);
  }
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientReader<admin::v1::AwaitNews>> stream;
};

TEST_F(CreationsTest, WhoAwaitsAStartIsToldWhyItWaitsAndEndsItByLeaving) {
  const Client red = client();
  ASSERT_TRUE(create(*as(red), "runs", "8").ok());
  ASSERT_TRUE(create(*as(red), "waits", "1").ok());
  Awaiting one(channel_, as(red), "waits");
  admin::v1::AwaitNews news;
  ASSERT_TRUE(one.stream->Read(&news));
  EXPECT_EQ(news.status(), "pending");
  EXPECT_FALSE(news.placed());
  EXPECT_EQ(news.status_message(),
            "it waits for a node: cpu: it asks for 1000m, and of the node that it may use none has "
            "more than 0m free");
  one.context->TryCancel();
  EXPECT_EQ(one.stream->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(becomes("waits", Status::ended));
  EXPECT_EQ(named("runs")->status, Status::running);
}

// As one whose connection broke unseen, and who has asked again.
TEST_F(CreationsTest, AnAwaitThatANewerOneHasFollowedEndsNothing) {
  const Client red = client();
  ASSERT_TRUE(create(*as(red), "runs", "8").ok());
  ASSERT_TRUE(create(*as(red), "waits", "1").ok());
  Awaiting old(channel_, as(red), "waits"), again(channel_, as(red), "waits");
  admin::v1::AwaitNews news;
  ASSERT_TRUE(old.stream->Read(&news));
  ASSERT_TRUE(again.stream->Read(&news));
  Awaiting newest(channel_, as(red), "waits");
  ASSERT_TRUE(newest.stream->Read(&news));
  old.context->TryCancel();
  EXPECT_EQ(old.stream->Finish().error_code(), StatusCode::CANCELLED);
  again.context->TryCancel();
  EXPECT_EQ(again.stream->Finish().error_code(), StatusCode::CANCELLED);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(newest.stream->Read(&news));  // two seconds
  EXPECT_EQ(news.status(), "pending");
  newest.context->TryCancel();
  EXPECT_EQ(newest.stream->Finish().error_code(), StatusCode::CANCELLED);
  EXPECT_TRUE(becomes("waits", Status::ended));
}

TEST_F(CreationsTest, WhatHasStartedOutlivesWhoAwaitedIt) {
  const Client red = client();
  ASSERT_TRUE(create(*as(red), "first", "8").ok());
  ASSERT_TRUE(create(*as(red), "second", "8").ok());
  Awaiting one(channel_, as(red), "second");
  admin::v1::AwaitNews news;
  ASSERT_TRUE(one.stream->Read(&news));
  ASSERT_TRUE(plane_.terminate(named("first")->sandbox, {}));
  while (one.stream->Read(&news)) {
  }
  EXPECT_TRUE(one.stream->Finish().ok());
  EXPECT_EQ(news.status(), "running");
  EXPECT_EQ(named("second")->status, Status::running);
}

TEST_F(CreationsTest, TheServersEndIsNotTheLeavingOfWhoAwaits) {
  const Client red = client();
  ASSERT_TRUE(create(*as(red), "runs", "8").ok());
  ASSERT_TRUE(create(*as(red), "waits", "1").ok());
  Awaiting one(channel_, as(red), "waits");
  admin::v1::AwaitNews news;
  ASSERT_TRUE(one.stream->Read(&news));
  detail_.stop();
  server_->Shutdown(std::chrono::system_clock::now());  // ends the calls that go on
  while (one.stream->Read(&news)) {
  }
  EXPECT_FALSE(one.stream->Finish().ok());
  EXPECT_EQ(named("waits")->status, Status::pending);
}

TEST_F(CreationsTest, ARevokedClientLosesWhatWaitsAndKeepsWhatRuns) {
  const Client red = client(), other = client(), admin = client(identity::Role::admin);
  ASSERT_TRUE(create(*as(red), "runs", "7").ok());
  auto told = std::async([&] { return create(*as(red), "told", "2"); });
  ASSERT_TRUE(becomes("told", Status::pending));
  ASSERT_TRUE(create(*as(red), "waits", "2").ok()) << "after a while it is told that it is pending";
  ASSERT_TRUE(create(*as(other), "others", "2").ok());
  EXPECT_TRUE(told.get().ok());
  admin::v1::RevokeClientRequest request;
  request.set_client_id(red.id);
  admin::v1::RevokeClientResponse response;
  const auto context = as(admin);
  const auto revoked =
      admin::v1::AdminService::NewStub(channel_)->RevokeClient(context.get(), request, &response);
  ASSERT_TRUE(revoked.ok()) << revoked.error_message();
  EXPECT_TRUE(becomes("waits", Status::ended));
  EXPECT_TRUE(becomes("told", Status::ended));
  EXPECT_EQ(named("runs")->status, Status::running);
  EXPECT_EQ(named("others")->status, Status::pending);
}

}  // namespace
}  // namespace chalk::server
