// The public services over an in-process channel, on a real plane with a pretended node: who may
// call, what is refused, what is found and listed. What needs a node's processes is in tests/sdk.
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>

#include "adapters/api/ids.h"
#include "adapters/api/translate.h"
#include "adapters/images/image.h"
#include "adapters/server/call_watch.h"
#include "adapters/server/detail_service.h"
#include "adapters/server/images.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/places.h"
#include "adapters/server/plane.h"
#include "adapters/server/public_services.h"
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/container/v1/service.grpc.pb.h"
#include "chalk/sandbox/v2/filesystem_service.grpc.pb.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"
#include "chalk/server/v1/auth.grpc.pb.h"
#include "small_plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
namespace v2 = sandbox::v2;
using grpc::StatusCode;

class ServicesTest : public testing::Test {
 protected:
  ServicesTest()
      : folder_(fresh_folder("services")),
        identities_(folder_ + "/identity.db"),
        tokens_(identities_, {}),
        plane_(labelled_plane(folder_)),
        hub_(plane_, {}),
        images_(plane_, folder_ + "/images.db", {}),
        services_{plane_, hub_, images_, identities_, tokens_},
        publics_(services_) {
    start_with(plane_, node_, &held_);
    node_.boot();
    ImageSpec image;
    image.image = ImageId{1};
    plane_.add_image(image);
    grpc::ServerBuilder builder;
    publics_.register_on(builder);
    server_ = builder.BuildAndStart();
    channel_ = server_->InProcessChannel({});
    red_ = client("red");
    blue_ = client("blue");
    EXPECT_TRUE(eventually([&] { return !plane_.nodes().value().empty(); }));
  }
  ~ServicesTest() override {
    server_->Shutdown(std::chrono::system_clock::now() + 5s);
    plane_.stop();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  // One that may log in, in an environment of that name.
  struct Client {
    std::string environment, id, secret, token;
    TenantId tenant;
  };
  Client client(const std::string& name) {
    const auto environment = identities_.create_environment(name, name);
    const auto made = identities_.create_client(name, identity::Role::user);
    const auto grant = tokens_.issue(made->client_id, made->secret, "");
    plane_.add_tenant(TenantId{environment->tenant});
    return {name, made->client_id, made->secret, grant->token, TenantId{environment->tenant}};
  }
  std::unique_ptr<grpc::ClientContext> as(const Client& who, std::chrono::seconds patience = 60s) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->AddMetadata("authorization", "Bearer " + who.token);
    context->AddMetadata("x-chalk-env-id", who.environment);
    context->set_deadline(std::chrono::system_clock::now() + patience);
    return context;
  }
  // As the API makes them, but for the image, which no registry is asked for.
  std::string create(const Client& who, const std::string& name, const std::string& tag = "") {
    container::v1::ChalkContainerSpec spec;
    spec.set_name(name);
    spec.set_image("busybox");
    (*spec.mutable_env_vars())["SECRET"] = "word";
    if (!tag.empty()) (*spec.mutable_tags())["of"] = tag;
    auto asked = api::translate(spec);
    EXPECT_TRUE(asked);
    asked->payload.set_created_by(who.id);
    SandboxAsk ask;
    ask.tenant = who.tenant;
    ask.resources = {100, 64 << 20, 16 << 20, 0, 0, 0};
    ask.image = ImageId{1};
    ask.payload = asked->payload.SerializeAsString();
    const auto made = plane_.create(ask);
    EXPECT_TRUE(made) << made.error().message;
    if (!held_) {
      plane_.records().wait(*made, 60s, [](const records::Sandbox& one) {
        return one.status == records::Status::running;
      });
    }
    return api::sandbox_text_id(*made);
  }
  std::vector<std::string> listed(const Client& who, const v2::ListSandboxesRequest& ask,
                                  std::string* cursor = nullptr) {
    v2::ListSandboxesResponse answer;
    const auto context = as(who);
    const auto status =
        v2::SandboxService::NewStub(channel_)->ListSandboxes(context.get(), ask, &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<std::string> names;
    for (const auto& one : answer.sandboxes()) names.push_back(one.name());
    if (cursor != nullptr) *cursor = answer.next_cursor();
    return names;
  }

  std::string folder_;
  identity::Store identities_;
  identity::Tokens tokens_;
  PretendNode node_{5};
  std::atomic<bool> held_ = false;  // orders do not arrive
  Plane plane_;
  NodeHub hub_;
  ImageCatalogue images_;
  Services services_;
  PublicServices publics_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  Client red_, blue_;
};

TEST_F(ServicesTest, ASecretBuysATokenForItsEnvironmentOnly) {
  const auto stub = v1::AuthService::NewStub(channel_);
  const auto ask = [&](const std::string& secret, const std::string& scope) {
    v1::GetTokenRequest request;
    request.set_client_id(red_.id);
    request.set_client_secret(secret);
    request.set_grant_type("client_credentials");
    if (!scope.empty()) request.set_scope(scope);
    v1::GetTokenResponse answer;
    grpc::ClientContext context;
    const auto status = stub->GetToken(&context, request, &answer);
    return std::pair(status, answer);
  };
  const auto [good, answer] = ask(red_.secret, "env:red");
  ASSERT_TRUE(good.ok()) << good.error_message();
  EXPECT_EQ(answer.primary_environment(), "red");
  EXPECT_EQ(answer.environment_id_to_name().at("red"), "red");
  EXPECT_TRUE(answer.engines().empty());
  EXPECT_GT(answer.expires_in(), 86'400) << "clients never renew it";
  EXPECT_EQ(ask("wrong", "").first.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(ask(red_.secret, "env:blue").first.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(ask(red_.secret, "everything").first.error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServicesTest, WhatIsNotThereIsUnimplemented) {
  grpc::GenericStub stub(channel_);
  const auto context = as(red_);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(
      context.get(), "/chalk.volume.v2.VolumeService/ListVolumes", grpc::ByteBuffer(), &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, &answer);
  void* tag = nullptr;
  bool good = false;
  ASSERT_TRUE(queue.Next(&tag, &good));
  EXPECT_EQ(status.error_code(), StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(),
            "\"chalk.volume.v2.VolumeService/ListVolumes\" is not part of this server yet");
}

TEST_F(ServicesTest, AnotherEnvironmentInTheHeadersIsDenied) {
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer " + red_.token);
  context.AddMetadata("x-chalk-env-id", "blue");
  v2::ListSandboxesResponse answer;
  const auto status = v2::SandboxService::NewStub(channel_)->ListSandboxes(
      &context, v2::ListSandboxesRequest(), &answer);
  EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED);
}

TEST_F(ServicesTest, ASandboxIsNotFoundFromAnotherEnvironment) {
  const std::string id = create(red_, "mine");
  const auto sandboxes = v2::SandboxService::NewStub(channel_);
  const auto processes = v2::SandboxProcessService::NewStub(channel_);
  const auto containers = container::v1::ContainerService::NewStub(channel_);
  v2::GetSandboxRequest get;
  get.set_id(id);
  v2::GetSandboxResponse got;
  ASSERT_TRUE(sandboxes->GetSandbox(as(red_).get(), get, &got).ok());
  EXPECT_EQ(got.sandbox().status(), v2::SANDBOX_STATUS_RUNNING);
  EXPECT_EQ(got.sandbox().spec().env_vars().at("SECRET"), "word");
  EXPECT_EQ(got.sandbox().created_by(), red_.id);
  EXPECT_EQ(sandboxes->GetSandbox(as(blue_).get(), get, &got).error_code(), StatusCode::NOT_FOUND);
  v2::TerminateSandboxRequest terminate;
  terminate.set_id(id);
  v2::TerminateSandboxResponse terminated;
  EXPECT_EQ(sandboxes->TerminateSandbox(as(blue_).get(), terminate, &terminated).error_code(),
            StatusCode::NOT_FOUND);
  v2::ExecCommandRequest exec;
  exec.set_sandbox_id(id);
  exec.set_command("true");
  v2::ExecCommandResponse executed;
  EXPECT_EQ(processes->ExecCommand(as(blue_).get(), exec, &executed).error_code(),
            StatusCode::NOT_FOUND);
  container::v1::GetContainerRequest by_name;
  by_name.set_name("mine");
  container::v1::GetContainerResponse container;
  EXPECT_EQ(containers->GetContainer(as(blue_).get(), by_name, &container).error_code(),
            StatusCode::NOT_FOUND);
  ASSERT_TRUE(containers->GetContainer(as(red_).get(), by_name, &container).ok());
  EXPECT_EQ(container.container().id(), id);
  EXPECT_EQ(container.container().status(), "Running");
  EXPECT_TRUE(listed(blue_, {}).empty());
  EXPECT_EQ(listed(red_, {}), std::vector<std::string>{"mine"});
}

TEST_F(ServicesTest, TerminateEndsAndTellsSo) {
  const std::string id = create(red_, "short");
  const auto stub = v2::SandboxService::NewStub(channel_);
  v2::TerminateSandboxRequest terminate;
  terminate.set_id(id);
  terminate.mutable_grace_period()->set_seconds(-1);
  v2::TerminateSandboxResponse terminated;
  EXPECT_EQ(stub->TerminateSandbox(as(red_).get(), terminate, &terminated).error_code(),
            StatusCode::INVALID_ARGUMENT);
  terminate.clear_grace_period();
  ASSERT_TRUE(stub->TerminateSandbox(as(red_).get(), terminate, &terminated).ok());
  ASSERT_TRUE(stub->TerminateSandbox(as(red_).get(), terminate, &terminated).ok()) << "twice is fine";
  v2::GetSandboxRequest get;
  get.set_id(id);
  v2::GetSandboxResponse got;
  ASSERT_TRUE(stub->GetSandbox(as(red_).get(), get, &got).ok());
  EXPECT_EQ(got.sandbox().status(), v2::SANDBOX_STATUS_TERMINATED);
  EXPECT_TRUE(got.sandbox().has_finished_at());
  v2::ExecCommandRequest exec;
  exec.set_sandbox_id(id);
  exec.set_command("true");
  v2::ExecCommandResponse executed;
  const auto status = v2::SandboxProcessService::NewStub(channel_)->ExecCommand(
      as(red_).get(), exec, &executed);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION) << status.error_message();
}

TEST_F(ServicesTest, AListHasPagesFiltersAndBothOrders) {
  for (const char* name : {"a", "b", "c", "d", "e"}) create(red_, name, "x");
  create(red_, "other", "y");
  v2::ListSandboxesRequest ask;
  (*ask.mutable_filters()->mutable_tags())["of"] = "x";
  ask.set_limit(2);
  for (const auto order : {v2::SANDBOX_SORT_ORDER_ASC, v2::SANDBOX_SORT_ORDER_DESC}) {
    ask.set_sort_order(order);
    ask.clear_cursor();
    std::string all, cursor;
    do {
      const auto page = listed(red_, ask, &cursor);
      ASSERT_LE(page.size(), 2u);
      for (const std::string& name : page) all += name;
      ask.set_cursor(cursor);
    } while (!cursor.empty());
    EXPECT_EQ(all, order == v2::SANDBOX_SORT_ORDER_ASC ? "abcde" : "edcba");
  }
  v2::ListSandboxesRequest search;
  search.set_search("the");
  EXPECT_EQ(listed(red_, search), std::vector<std::string>{"other"});
  v2::ListSandboxesRequest status;
  status.mutable_filters()->add_statuses(v2::SANDBOX_STATUS_SUCCEEDED);
  EXPECT_TRUE(listed(red_, status).empty());
  const auto bad = [&](auto change) {
    v2::ListSandboxesRequest request;
    change(request);
    v2::ListSandboxesResponse answer;
    return v2::SandboxService::NewStub(channel_)
        ->ListSandboxes(as(red_).get(), request, &answer)
        .error_code();
  };
  EXPECT_EQ(bad([](auto& r) { r.set_limit(-1); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(bad([](auto& r) { r.set_cursor("'; DROP TABLE"); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(bad([](auto& r) { r.set_search(std::string(10'000, 'x')); }), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(bad([](auto& r) {
              for (int i = 0; i < 5'000; ++i) r.mutable_filters()->add_names("x");
            }),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServicesTest, VariablesAreNotInLists) {
  create(red_, "holder");
  v2::ListSandboxesResponse answer;
  ASSERT_TRUE(v2::SandboxService::NewStub(channel_)
                  ->ListSandboxes(as(red_).get(), v2::ListSandboxesRequest(), &answer)
                  .ok());
  ASSERT_EQ(answer.sandboxes_size(), 1);
  EXPECT_TRUE(answer.sandboxes(0).spec().env_vars().empty());
  EXPECT_EQ(answer.ShortDebugString().find("word"), std::string::npos);
}

TEST_F(ServicesTest, ACommandWaitsForAStartOnlyAsLongAsItsCall) {
  held_ = true;
  const std::string id = create(red_, "slow");
  v2::ExecCommandRequest exec;
  exec.set_sandbox_id(id);
  exec.set_command("true");
  v2::ExecCommandResponse executed;
  const auto status = v2::SandboxProcessService::NewStub(channel_)->ExecCommand(
      as(red_, 2s).get(), exec, &executed);
  EXPECT_EQ(status.error_code(), StatusCode::DEADLINE_EXCEEDED) << status.error_message();
}

TEST_F(ServicesTest, AGpuIsRefusedWithTheNumbers) {
  v2::CreateSandboxRequest request;
  request.mutable_spec()->set_image("busybox");
  request.mutable_spec()->mutable_resources()->set_gpu("A100");
  v2::CreateSandboxResponse answer;
  const auto stub = v2::SandboxService::NewStub(channel_);
  auto status = stub->CreateSandbox(as(red_).get(), request, &answer);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(),
            "no node pool offers a GPU: asked 1 x nvidia-a100, offered 0");
  request.mutable_spec()->mutable_resources()->clear_gpu();
  request.mutable_spec()->mutable_resources()->set_memory("1Ti");
  status = stub->CreateSandbox(as(red_).get(), request, &answer);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(status.error_message().find("asked cpu 1000m, memory 1Ti"), std::string::npos)
      << status.error_message();
  EXPECT_NE(status.error_message().find("memory 16Gi"), std::string::npos) << status.error_message();
}

TEST_F(ServicesTest, ASessionIsRefusedInItsStream) {
  const auto stub = v2::SandboxProcessService::NewStub(channel_);
  const auto ends_with = [&](const v2::OpenSessionRequest& first, bool say, const Client& who) {
    const auto context = as(who, 20s);
    const auto stream = stub->OpenSession(context.get());
    if (say) stream->Write(first);
    if (!say) stream->WritesDone();
    v2::OpenSessionResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  };
  const std::string id = create(red_, "quiet");
  v2::OpenSessionRequest request;
  EXPECT_EQ(ends_with(request, false, red_).error_code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_stdin_data()->set_data("first");
  EXPECT_EQ(ends_with(request, true, red_).error_code(), StatusCode::INVALID_ARGUMENT);
  request.mutable_new_process()->set_sandbox_id(id);
  EXPECT_EQ(ends_with(request, true, red_).error_code(), StatusCode::INVALID_ARGUMENT)
      << "a session without a program";
  request.mutable_new_process()->set_command("true");
  EXPECT_EQ(ends_with(request, true, blue_).error_code(), StatusCode::NOT_FOUND);
  // No agent is connected to the hub.
  EXPECT_EQ(ends_with(request, true, red_).error_code(), StatusCode::UNAVAILABLE);
  Client nobody = red_;
  nobody.token = "nonsense";
  EXPECT_EQ(ends_with(request, true, nobody).error_code(), StatusCode::UNAUTHENTICATED);
}

TEST_F(ServicesTest, AClientThatLeavesWhileItsSessionIsOpenedLeavesNothing) {
  held_ = true;  // it never starts, so the session is never opened
  const std::string id = create(red_, "never");
  const auto stub = v2::SandboxProcessService::NewStub(channel_);
  for (int i = 0; i < 20; ++i) {
    const auto context = as(red_);
    const auto stream = stub->OpenSession(context.get());
    v2::OpenSessionRequest request;
    request.mutable_new_process()->set_sandbox_id(id);
    request.mutable_new_process()->set_command("true");
    stream->Write(request);
    context->TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
  }
  // The server's end waits for all of them.
}

// An upload that says nothing after its headers.
struct SilentUpload final : grpc::ClientWriteReactor<v2::UploadFileRequest> {
  void OnDone(const grpc::Status& status) override {
    const std::lock_guard lock(mutex);
    code = status.error_code();
    changed.notify_all();
  }
  std::optional<StatusCode> ended_within(std::chrono::seconds patience) {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, patience, [&] { return code.has_value(); });
    return code;
  }
  std::unique_ptr<grpc::ClientContext> context;
  v2::UploadFileResponse response;
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<StatusCode> code;
};

TEST_F(ServicesTest, UploadsThatSayNothingHaveTheirPlacesAndEndWithTheirClient) {
  constexpr std::size_t kOfTenant = 512;
  const auto stub = v2::SandboxFilesystemService::NewStub(channel_);
  std::vector<std::unique_ptr<SilentUpload>> uploads;
  const auto begin = [&](const Client& who) {
    auto& one = uploads.emplace_back(std::make_unique<SilentUpload>());
    one->context = as(who, 600s);
    stub->async()->UploadFile(one->context.get(), &one->response, one.get());
    one->StartCall();
    return one.get();
  };
  for (std::size_t i = 0; i <= kOfTenant; ++i) begin(red_);
  std::size_t refused = 0;  // any of them: they have no order
  for (int round = 0; round < 60 && refused == 0; ++round) {
    for (auto& one : uploads) refused += one->ended_within(0s) == StatusCode::RESOURCE_EXHAUSTED;
    if (refused == 0) uploads.back()->ended_within(1s);
  }
  EXPECT_EQ(refused, 1u);
  EXPECT_TRUE(identities_.revoke_client(red_.id));
  std::size_t revoked = 0;
  for (auto& one : uploads) {
    const auto code = one->ended_within(60s);
    if (!code) one->context->TryCancel();
    // On a slow machine the time for the first message may be over before.
    EXPECT_TRUE(code == StatusCode::UNAUTHENTICATED || code == StatusCode::RESOURCE_EXHAUSTED ||
                code == StatusCode::DEADLINE_EXCEEDED);
    revoked += code == StatusCode::UNAUTHENTICATED;
  }
  EXPECT_GT(revoked, 0u);
}

// What follows the output of a sandbox that has not started holds its place until it leaves.
TEST_F(ServicesTest, StreamsOfLogsAreBoundedForAllAndForEach) {
  DetailService detail(services_, 2, 1);
  grpc::ServerBuilder builder;
  builder.RegisterService(&detail);
  const auto server = builder.BuildAndStart();
  const auto stub = admin::v1::SandboxDetailService::NewStub(server->InProcessChannel({}));
  held_ = true;
  const Client green = client("green");
  std::map<std::string, std::string> ids;
  for (const Client* who : std::initializer_list<const Client*>{&red_, &blue_, &green}) {
    ids[who->environment] = create(*who, "box");
  }
  const auto ask = [&](grpc::ClientContext& context, const Client& who, bool follow) {
    admin::v1::LogsRequest request;
    request.set_id(ids[who.environment]);
    request.set_follow(follow);
    const auto reader = stub->Logs(&context, request);
    admin::v1::LogsChunk chunk;
    while (reader->Read(&chunk)) {
    }
    return reader->Finish();
  };
  const auto becomes = [&](const Client& who, StatusCode code) {
    grpc::Status said;
    for (int i = 0; i < 6'000 && said.error_code() != code; ++i) {
      said = ask(*as(who), who, false);  // UNAVAILABLE where it had a place
      usleep(10'000);
    }
    return said;
  };
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::thread> followers;
  const auto follow = [&](const Client& who) {
    contexts.push_back(as(who, 600s));
    followers.emplace_back([&, context = contexts.back().get()] { (void)ask(*context, who, true); });
  };
  follow(red_);
  const auto second = becomes(red_, StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(second.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(second.error_message().find("streams of logs and files"), std::string::npos);
  EXPECT_EQ(ask(*as(green), green, false).error_code(), StatusCode::UNAVAILABLE);
  follow(blue_);
  EXPECT_EQ(becomes(green, StatusCode::RESOURCE_EXHAUSTED).error_code(),
            StatusCode::RESOURCE_EXHAUSTED)
      << "two of all";
  for (auto& context : contexts) context->TryCancel();
  for (std::thread& one : followers) one.join();
  EXPECT_EQ(becomes(red_, StatusCode::UNAVAILABLE).error_code(), StatusCode::UNAVAILABLE);
  server->Shutdown();
}

TEST_F(ServicesTest, CreationsThatWaitForTheirImagesAreBoundedAndGiveTheirPlacesBack) {
  const auto caller = tokens_.verify_header("Bearer " + red_.token);
  ASSERT_TRUE(caller);
  const std::string image = "127.0.0.1:1/a/b:c";  // which nobody may ask
  const grpc::ServerContext context;
  TenantSandboxes full(services_, 1, 0);
  const auto refused = full.resolve(context, *caller, image);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_NE(refused.error().error_message().find("creations that wait"), std::string::npos);
  EXPECT_FALSE(TenantSandboxes(services_, 0, 1).resolve(context, *caller, image));
  TenantSandboxes one(services_, 1, 1);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(one.resolve(context, *caller, image)) << i;
}

// Reads until its client has no more to say.
class Reading final : public v2::SandboxFilesystemService::Service {
 public:
  grpc::Status UploadFile(grpc::ServerContext* context,
                          grpc::ServerReader<v2::UploadFileRequest>* reader,
                          v2::UploadFileResponse*) override {
    CallWatch::Watched watched(watch_, *context, [] { return grpc::Status::OK; });
    watched.expect_first(50ms);
    v2::UploadFileRequest request;
    if (!reader->Read(&request)) return {StatusCode::INTERNAL, "this is not what is to be seen"};
    watched.first_came();
    while (reader->Read(&request)) {
    }
    return grpc::Status::OK;
  }

 private:
  CallWatch watch_{10ms};
};

TEST(CallWatch, EndsTheCallWhoseFirstMessageDoesNotCome) {
  Reading service;
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  const auto stub = v2::SandboxFilesystemService::NewStub(server->InProcessChannel({}));
  SilentUpload silent;
  silent.context = std::make_unique<grpc::ClientContext>();
  stub->async()->UploadFile(silent.context.get(), &silent.response, &silent);
  silent.StartCall();
  const auto code = silent.ended_within(60s);
  if (!code) silent.context->TryCancel();
  EXPECT_EQ(code, StatusCode::DEADLINE_EXCEEDED);
  server->Shutdown();
}

TEST(Places, AreBoundedForAllAndForEach) {
  Places places(3, 2);
  auto first = places.take(1);
  auto second = places.take(1);
  EXPECT_TRUE(first && second);
  EXPECT_FALSE(places.take(1)) << "no third of the same tenant";
  auto third = places.take(2);
  EXPECT_TRUE(third);
  EXPECT_FALSE(places.take(3)) << "no fourth of all";
  first = {};
  EXPECT_TRUE(places.take(3));
  Places::Place moved = std::move(second);
  EXPECT_FALSE(second);  // NOLINT: what was moved from holds nothing
  EXPECT_TRUE(moved);
}

}  // namespace
}  // namespace chalk::server
