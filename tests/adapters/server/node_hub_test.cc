// Nodes over mutual TLS, as on the private port: each is who its certificate says, whatever it says
// itself, and speaks of nothing but its own.
#include "adapters/server/node_hub.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "adapters/api/ids.h"
#include "adapters/identity/authority.h"
#include "adapters/identity/store.h"
#include "adapters/identity/tokens.h"
#include "adapters/server/admin_service.h"
#include "adapters/server/detail_service.h"
#include "adapters/server/images.h"
#include "adapters/server/public_services.h"
#include "chalk/sandbox/v2/filesystem_service.grpc.pb.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"
#include "model/protocol/log_record.h"
#include "small_plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using grpc::StatusCode;
using node::v1::FromNode;
using node::v1::ToNode;
using records::Status;

constexpr TenantId kTenant{1};
constexpr std::uint64_t kForged = 50;  // sequence numbers tried: one of them is the next

// A PretendNode with a certificate and a Connect stream.
class Agent {
 public:
  Agent(std::shared_ptr<grpc::Channel> channel, std::uint64_t key, const std::string& name)
      : key_(key), stub_(node::v1::NodeLink::NewStub(channel)), node_(key) {
    stream_ = stub_->Connect(&context_);
    FromNode hello;
    hello.mutable_hello()->set_logic_version(kLogicVersion);
    hello.mutable_hello()->set_node_name(name);
    write(hello);
    node_.speaks_to([this](const NodeRegistration& one) { say(one); },
                    [this](NodeId id, Envelope<NodeReport> one) { say(id, one); });
    reader_ = std::thread([this] {
      ToNode message;
      while (stream_->Read(&message)) hear(message);
    });
  }
  ~Agent() {
    context_.TryCancel();
    reader_.join();
    stream_->Finish();
    for (std::thread& one : babblers_) one.join();
  }

  void say(const NodeRegistration& registration) {
    FromNode message;
    message.set_registration(encode(registration));
    write(message);
  }
  void say(NodeId id, const Envelope<NodeReport>& envelope) {
    FromNode message;
    message.mutable_report()->set_node(id.value);
    message.mutable_report()->set_envelope(encode(envelope));
    write(message);
  }
  grpc::Status present(const std::string& word, bool stay = false) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 60s);
    const auto stream = stub_->Channel(&context);
    node::v1::ChannelUp first;
    first.set_channel(word);
    stream->Write(first);
    node::v1::ChannelDown open;
    if (stay && stream->Read(&open)) opened = true;
    stream->WritesDone();
    while (stream->Read(&open)) {
    }
    return stream->Finish();
  }
  // Answers each channel that it is told to open with `message`, again and again, until it ends.
  void babble(const node::v1::ChannelUp& message) {
    const std::lock_guard lock(mutex_);
    babbled_ = message;
  }
  std::string channel_word() {
    const std::lock_guard lock(mutex_);
    return word_;
  }
  std::uint64_t key() const { return key_; }
  PretendNode& node() { return node_; }
  node::v1::NodeLink::Stub& stub() { return *stub_; }

  std::atomic<bool> deaf{false};  // what it is told to its machine it only counts
  std::atomic<std::uint64_t> unknowns{0}, acknowledged{0};
  std::atomic<bool> opened{false};

 private:
  void say(const std::string& word, const node::v1::ChannelUp& message) {
    grpc::ClientContext context;
    const auto stream = stub_->Channel(&context);
    node::v1::ChannelUp first;
    first.set_channel(word);
    bool good = stream->Write(first);
    for (; good; usleep(10'000)) good = stream->Write(message);
    node::v1::ChannelDown rest;
    while (stream->Read(&rest)) {
    }
    stream->Finish();
  }
  void write(const FromNode& message) {
    const std::lock_guard lock(writing_);
    stream_->Write(message);
  }
  void hear(const ToNode& message) {
    if (message.has_unknown()) {
      ++unknowns;
      if (!deaf) node_.unknown(message.unknown().incarnation());
    } else if (message.has_welcome()) {
      node_.welcome(message.welcome().incarnation(), NodeId{message.welcome().node()});
    } else if (message.has_open_channel()) {
      const std::lock_guard lock(mutex_);
      word_ = message.open_channel().channel();
      if (babbled_) babblers_.emplace_back([this, word = word_, up = *babbled_] { say(word, up); });
    } else {
      Envelope<NodeOrder> envelope;
      ASSERT_TRUE(decode(message.order(), envelope));
      acknowledged = std::max(acknowledged.load(), envelope.acknowledged);
      if (!deaf) node_.order(std::move(envelope));
    }
  }

  const std::uint64_t key_;
  std::unique_ptr<node::v1::NodeLink::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<FromNode, ToNode>> stream_;
  std::mutex writing_, mutex_;
  std::string word_;
  std::optional<node::v1::ChannelUp> babbled_;
  std::vector<std::thread> babblers_;
  PretendNode node_;
  std::thread reader_;
};

PlaneOptions plane_options(const std::string& folder) {
  PlaneOptions out = small_plane(folder);
  out.label = [](SandboxId sandbox, const std::string&) {
    return records::Label{"sbx-" + std::to_string(sandbox.value), {}};
  };
  return out;
}

class NodeHubTest : public testing::Test {
 protected:
  NodeHubTest()
      : folder_(fresh_folder("hub")),
        identities_(folder_ + "/identity.db"),
        authority_(folder_ + "/authority"),
        plane_(plane_options(folder_ + "/plane")),
        hub_(plane_, hub_options()) {
    const auto credentials = authority_.server_credentials({"127.0.0.1"});
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
    tls.pem_root_certs = authority_.certificate_pem();
    tls.pem_key_cert_pairs.push_back({credentials->private_key_pem, credentials->certificate_pem});
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(tls), &port_);
    builder.RegisterService(&hub_.service());
    server_ = builder.BuildAndStart();
    plane_.start(hub_.sender());
    plane_.add_tenant(kTenant);
    one_ = agent();
    two_ = agent();
    one_->node().boot();
    EXPECT_TRUE(eventually([&] { return plane_.nodes().value().size() == 1; }));
  }
  ~NodeHubTest() override {
    one_.reset();
    two_.reset();
    hub_.stop();
    server_->Shutdown(std::chrono::system_clock::now() + 5s);
    plane_.stop();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  NodeHub::Options hub_options() {
    NodeHub::Options out;
    out.node_key = [this](const std::string& pem) {
      return identity::check_node(identities_, authority_, pem);
    };
    out.join = [](const node::v1::JoinRequest&) -> Result<node::v1::JoinResponse> {
      return fail(Error::Kind::denied, "nobody joins here");
    };
    out.renew = [this](const node::v1::JoinRequest& request,
                       const std::string& certificate) -> Result<node::v1::JoinResponse> {
      const auto next =
          identity::renew_node(identities_, authority_, certificate, request.csr_pem());
      if (!next) return std::unexpected(next.error());
      node::v1::JoinResponse response;
      response.set_node_key(next->key);
      response.set_certificate_pem(next->certificate_pem);
      return response;
    };
    out.start_failed = [this](const std::string& node, const char* why) {
      const std::lock_guard lock(failures_mutex_);
      failures_.push_back(node + ": " + why);
    };
    return out;
  }
  std::vector<std::string> failures() {
    const std::lock_guard lock(failures_mutex_);
    return failures_;
  }
  identity::Credentials joined() {
    const auto token = identities_.create_node_token();
    key_ = identities_.redeem_node_token(token->token, 0, "key " + token->id).value();
    return authority_.node_credentials(key_).value();
  }
  std::shared_ptr<grpc::Channel> channel(const std::string& key_pem = {},
                                         const std::string& certificate_pem = {}) {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = authority_.certificate_pem();
    tls.pem_private_key = key_pem;
    tls.pem_cert_chain = certificate_pem;
    grpc::ChannelArguments own;  // a connection of its own for each, also of the same certificate
    own.SetInt("chalk.test.channel", ++channels_);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port_),
                                     grpc::SslCredentials(tls), own);
  }
  std::unique_ptr<Agent> agent(std::string name = {}) {
    const auto own = joined();
    if (name.empty()) name = "node-" + std::to_string(key_);
    return std::make_unique<Agent>(channel(own.private_key_pem, own.certificate_pem), key_, name);
  }
  // Of a Connect stream that should not be one.
  grpc::Status refused(std::shared_ptr<grpc::Channel> channel) {
    const auto stub = node::v1::NodeLink::NewStub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + 60s);
    const auto stream = stub->Connect(&context);
    FromNode hello;
    hello.mutable_hello()->set_logic_version(kLogicVersion);
    stream->Write(hello);
    stream->WritesDone();
    ToNode answer;
    while (stream->Read(&answer)) {
    }
    return stream->Finish();
  }
  static SandboxAsk small_ask() {
    SandboxAsk ask;
    ask.tenant = kTenant;
    ask.resources.cpu_millicores = 100;
    ask.resources.memory_bytes = 1 << 20;
    return ask;
  }
  SandboxId run_on_one() {
    const auto made = plane_.create(small_ask());
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_TRUE(becomes(*made, Status::running));
    EXPECT_TRUE(one_->node().running().contains(*made));
    return *made;
  }
  bool becomes(SandboxId sandbox, Status status) {
    const auto found = plane_.records().wait(
        sandbox, 60s, [&](const records::Sandbox& one) { return one.status == status; });
    return found && found->status == status;
  }
  Status status_of(SandboxId sandbox) {
    return plane_.records()
        .wait(sandbox, 60s, [](const records::Sandbox&) { return true; })
        ->status;
  }
  NodeView view_of(std::uint64_t key) {
    const auto nodes = plane_.nodes().value();
    for (const NodeView& view : nodes) {
      if (view.key == key) return view;
    }
    return {};
  }
  // Its sandbox runs, and ends when the server says so.
  void expect_unharmed(SandboxId sandbox) {
    EXPECT_EQ(status_of(sandbox), Status::running);
    EXPECT_TRUE(one_->node().running().contains(sandbox));
    EXPECT_EQ(one_->unknowns, 0u);
    EXPECT_TRUE(plane_.terminate(sandbox, {}));
    EXPECT_TRUE(eventually([&] { return !one_->node().running().contains(sandbox); }));
    EXPECT_TRUE(eventually([&] { return status_of(sandbox) != Status::running; }));
  }

  std::mutex failures_mutex_;
  std::vector<std::string> failures_;
  const std::string folder_;
  identity::Store identities_;
  identity::Authority authority_;
  Plane plane_;
  NodeHub hub_;
  int port_ = 0, channels_ = 0;
  std::uint64_t key_ = 0;  // of the one that joined last
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Agent> one_, two_;
};

TEST_F(NodeHubTest, ANodeThatTakesTheNameOfAnotherDoesNotKeepItFromBeingDrained) {
  const NodeView one = view_of(one_->key());
  const std::string key = "node-" + std::to_string(one.key);
  const std::string number = std::to_string(one.node.value);
  const auto by_key = agent(key), by_number = agent(number);
  by_key->node().boot();
  by_number->node().boot();
  ASSERT_TRUE(eventually([&] { return plane_.nodes().value().size() == 3; }));
  identity::Tokens tokens(identities_, {});
  ImageCatalogue images(plane_, folder_ + "/images.db", {});
  AdminService admin({plane_, hub_, images, identities_, tokens});
  ASSERT_TRUE(identities_.create_environment("red", "red"));
  const auto client = identities_.create_client("red", identity::Role::admin);
  const std::string token = tokens.issue(client->client_id, client->secret, "")->token;
  grpc::ServerBuilder builder;
  builder.RegisterService(&admin);
  const auto server = builder.BuildAndStart();
  const auto stub = admin::v1::AdminService::NewStub(server->InProcessChannel({}));
  for (const std::string& name : {key, number}) {
    grpc::ClientContext drain, undrain;
    admin::v1::DrainNodeRequest asked;
    admin::v1::DrainNodeResponse drained;
    admin::v1::UndrainNodeRequest asked_back;
    admin::v1::UndrainNodeResponse taken_back;
    asked.set_name(name);
    asked_back.set_name(name);
    for (grpc::ClientContext* context : {&drain, &undrain}) {
      context->AddMetadata("authorization", "Bearer " + token);
    }
    const grpc::Status done = stub->DrainNode(&drain, asked, &drained);
    EXPECT_TRUE(done.ok()) << done.error_message();
    EXPECT_TRUE(view_of(one.key).draining) << name;
    EXPECT_FALSE(view_of(by_key->key()).draining || view_of(by_number->key()).draining);
    const grpc::Status undone = stub->UndrainNode(&undrain, asked_back, &taken_back);
    EXPECT_TRUE(undone.ok()) << undone.error_message();
    EXPECT_FALSE(view_of(one.key).draining) << name;
  }
  server->Shutdown();
}

TEST_F(NodeHubTest, ANodeDoesNotRegisterWithTheKeyOfAnother) {
  const SandboxId sandbox = run_on_one();
  const NodeView before = view_of(one_->key());
  NodeRegistration forged = one_->node().registration();
  forged.incarnation += 10;  // as if it had been restarted
  forged.shape.cpu_millicores = 1'000'000;
  two_->say(forged);
  two_->node().boot();  // on the same stream: what came before it has been looked at
  ASSERT_TRUE(eventually([&] { return plane_.nodes().value().size() == 2; }));
  const NodeView after = view_of(one_->key());
  EXPECT_EQ(after.node, before.node);
  EXPECT_EQ(after.shape, before.shape);
  EXPECT_NE(view_of(two_->key()).node, before.node);
  expect_unharmed(sandbox);
}

// Nobody else hears of it: the sandbox runs on the other node.
TEST_F(NodeHubTest, AStartThatFailedIsToldWithItsNode) {
  two_->node().boot();
  ASSERT_TRUE(eventually([&] { return plane_.nodes().value().size() == 2; }));
  one_->node().fail_starts();
  const auto made = plane_.create(small_ask());
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE(becomes(*made, Status::running));
  EXPECT_TRUE(two_->node().running().contains(*made));
  EXPECT_EQ(failures(), std::vector{"node-" + std::to_string(one_->key()) + ": start_failed"});
}

// What was accepted before there was a bound, say.
TEST_F(NodeHubTest, AnOrderThatIsTooLargeForAnAgentHoldsUpNoOther) {
  SandboxAsk large = small_ask();
  large.payload = std::string(17u << 20, '\xff');
  const auto first = plane_.create(large);
  ASSERT_TRUE(first) << first.error().message;
  const auto second = plane_.create(small_ask());
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(becomes(*second, Status::running));
  EXPECT_TRUE(becomes(*first, Status::running)) << "this node starts anything";
  EXPECT_EQ(one_->node().running().at(*first).payload, "");
}

TEST_F(NodeHubTest, ANodeDoesNotReportAsAnother) {
  two_->node().boot();
  ASSERT_TRUE(eventually([&] { return plane_.nodes().value().size() == 2; }));
  const SandboxId sandbox = run_on_one();
  two_->deaf = true;
  for (std::uint64_t sequence = 1; sequence <= kForged; ++sequence) {
    two_->say(one_->node().id(), {one_->node().registration().incarnation, sequence, 0,
                                  NodeReport{EndedReport{sandbox, EndReason::exited, "forged"}}});
  }
  ASSERT_TRUE(eventually([&] { return two_->unknowns == kForged; }));
  expect_unharmed(sandbox);
}

TEST_F(NodeHubTest, ANodeDoesNotReportOfTheSandboxesOfAnother) {
  const SandboxId sandbox = run_on_one();  // the only node there is
  two_->node().boot();
  ASSERT_TRUE(eventually([&] { return two_->node().id() != NodeId{}; }));
  two_->deaf = true;
  const std::vector<NodeReport> forged = {
      EndedReport{sandbox, EndReason::exited, "forged"},
      RefusedReport{sandbox, NodeRefusal::duplicate, 1, 0}, StartedReport{sandbox, "forged"},
      EndedReport{sandbox, EndReason::pull_failed, "forged"}};
  for (std::uint64_t sequence = 1; sequence <= kForged; ++sequence) {
    two_->say(two_->node().id(), {two_->node().registration().incarnation, sequence, 0,
                                  forged[sequence % forged.size()]});
  }
  two_->say(two_->node().id(), {two_->node().registration().incarnation, 0, 0, std::nullopt});
  ASSERT_TRUE(eventually([&] { return two_->acknowledged >= kForged; })) << two_->acknowledged;
  EXPECT_EQ(two_->unknowns, 0u);
  expect_unharmed(sandbox);
}

TEST_F(NodeHubTest, AChannelIsOpenedByTheNodeThatItWasAskedOf) {
  const SandboxId sandbox = run_on_one();
  node::v1::Open work;
  work.set_sandbox(sandbox.value);
  work.mutable_list_sessions();
  Result<std::shared_ptr<Channel>> opened = fail(Error::Kind::failed, "not asked yet");
  std::thread asking([&] { opened = hub_.open(one_->node().id(), work); });
  ASSERT_TRUE(eventually([&] { return !one_->channel_word().empty(); }));
  const std::string word = one_->channel_word();
  EXPECT_EQ(two_->present(word).error_code(), StatusCode::NOT_FOUND);
  std::thread answering([&] { one_->present(word, true); });
  asking.join();
  EXPECT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(eventually([&] { return one_->opened.load(); }));
  if (opened) (*opened)->close();
  answering.join();
  EXPECT_EQ(one_->present(word).error_code(), StatusCode::NOT_FOUND) << "a word is good once";
}

TEST_F(NodeHubTest, ACertificateIsRenewedForWhoShowsIt) {
  const auto request = identity::make_node_request();
  ASSERT_TRUE(request);
  node::v1::JoinRequest ask;
  ask.set_csr_pem(request->request_pem);
  ask.set_node_name("node-" + std::to_string(one_->key()));
  node::v1::JoinResponse answer;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 60s);
  const auto status = two_->stub().Join(&context, ask, &answer);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(answer.node_key(), two_->key());
  EXPECT_EQ(authority_.node_key(answer.certificate_pem()), two_->key());
}

TEST_F(NodeHubTest, NobodyConnectsWithoutACertificateOfItsOwn) {
  const auto good = joined();
  const auto other = joined();
  identity::Authority elsewhere(folder_ + "/elsewhere");
  const auto foreign = elsewhere.node_credentials(one_->key());
  ASSERT_TRUE(foreign);
  EXPECT_EQ(refused(channel()).error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(refused(channel(foreign->private_key_pem, foreign->certificate_pem)).ok());
  EXPECT_FALSE(refused(channel(other.private_key_pem, good.certificate_pem)).ok());
  ASSERT_TRUE(identities_.revoke_node(key_));
  EXPECT_EQ(refused(channel(other.private_key_pem, other.certificate_pem)).error_code(),
            StatusCode::UNAUTHENTICATED);
  // The same road is open to who has the right: its stream ends well.
  EXPECT_TRUE(refused(channel(good.private_key_pem, good.certificate_pem)).ok());
  EXPECT_TRUE(hub_.connected(one_->key()).has_value());
}

// What runs between a client and a node that never stops to speak.
class BusyTest : public NodeHubTest {
 protected:
  BusyTest() {
    const auto environment = identities_.create_environment("red", "red");
    const auto made = identities_.create_client("red", identity::Role::user);
    client_ = made->client_id;
    token_ = tokens_.issue(client_, made->secret, "")->token;
    plane_.add_tenant(TenantId{environment->tenant});
    SandboxAsk ask = small_ask();
    ask.tenant = TenantId{environment->tenant};
    const auto sandbox = plane_.create(ask);
    EXPECT_TRUE(sandbox && becomes(*sandbox, Status::running));
    id_ = api::sandbox_text_id(*sandbox);
    label_ = "sbx-" + std::to_string(sandbox->value);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &public_port_);
    publics_.register_on(builder);
    builder.RegisterService(&detail_);
    public_server_ = builder.BuildAndStart();
    public_ = grpc::CreateChannel("127.0.0.1:" + std::to_string(public_port_),
                                  grpc::InsecureChannelCredentials());
    context_.AddMetadata("authorization", "Bearer " + token_);
    context_.set_deadline(std::chrono::system_clock::now() + 60s);
    up_.mutable_output()->set_stream(1);
    up_.mutable_output()->set_data("word");
  }
  ~BusyTest() override { public_server_->Shutdown(std::chrono::system_clock::now() + 5s); }

  // Revoked after its first words; how the call then ends.
  template <class Stream, class Message>
  StatusCode revoked(Stream& stream, Message& message) {
    EXPECT_TRUE(stream.Read(&message));
    EXPECT_TRUE(identities_.revoke_client(client_));
    while (stream.Read(&message)) {
    }
    return stream.Finish().error_code();
  }

  identity::Tokens tokens_{identities_, {}};
  ImageCatalogue images_{plane_, folder_ + "/images.db", {}};
  Services services_{plane_, hub_, images_, identities_, tokens_};
  PublicServices publics_{services_};
  DetailService detail_{services_};
  int public_port_ = 0;
  std::unique_ptr<grpc::Server> public_server_;
  std::shared_ptr<grpc::Channel> public_;
  std::string client_, token_, id_, label_;
  grpc::ClientContext context_;
  node::v1::ChannelUp up_;
};

TEST_F(BusyTest, ADownloadEndsWithItsClient) {
  one_->babble(up_);
  sandbox::v2::DownloadFileRequest request;
  request.set_sandbox_id(id_);
  request.set_path("/file");
  sandbox::v2::DownloadFileResponse piece;
  const auto stream =
      sandbox::v2::SandboxFilesystemService::NewStub(public_)->DownloadFile(&context_, request);
  EXPECT_EQ(revoked(*stream, piece), StatusCode::UNAUTHENTICATED);
}

TEST_F(BusyTest, LogsEndWithTheirClient) {
  one_->babble(up_);
  admin::v1::LogsRequest request;
  request.set_id(label_);
  request.set_follow(true);
  admin::v1::LogsChunk piece;
  const auto stream =
      admin::v1::SandboxDetailService::NewStub(public_)->Logs(&context_, request);
  EXPECT_EQ(revoked(*stream, piece), StatusCode::UNAUTHENTICATED);
}

TEST_F(BusyTest, AFileEndsWithItsClient) {
  one_->babble(up_);
  admin::v1::FileRequest request;
  request.mutable_open()->set_id(label_);
  request.mutable_open()->add_arguments("watch");
  admin::v1::FileChunk piece;
  const auto stream = admin::v1::SandboxDetailService::NewStub(public_)->File(&context_);
  stream->Write(request);
  EXPECT_EQ(revoked(*stream, piece), StatusCode::UNAUTHENTICATED);
}

TEST_F(BusyTest, ASessionEndsWithItsClient) {
  up_.mutable_session()->mutable_output_data()->set_data("word");
  one_->babble(up_);
  sandbox::v2::OpenSessionRequest request;
  request.mutable_new_process()->set_sandbox_id(id_);
  request.mutable_new_process()->set_command("yes");
  sandbox::v2::OpenSessionResponse piece;
  const auto stream =
      sandbox::v2::SandboxProcessService::NewStub(public_)->OpenSession(&context_);
  stream->Write(request);
  EXPECT_EQ(revoked(*stream, piece), StatusCode::UNAUTHENTICATED);
}

TEST_F(BusyTest, ACommandEndsWithItsClient) {
  one_->babble(up_);
  sandbox::v2::ExecCommandRequest request;
  request.set_sandbox_id(id_);
  request.set_command("yes");
  sandbox::v2::ExecCommandResponse response;
  grpc::Status status;
  std::thread asking([&] {
    status = sandbox::v2::SandboxProcessService::NewStub(public_)->ExecCommand(&context_, request,
                                                                               &response);
  });
  EXPECT_TRUE(eventually([&] { return !one_->channel_word().empty(); }));
  EXPECT_TRUE(identities_.revoke_client(client_));
  asking.join();
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED) << status.error_message();
}

}  // namespace
}  // namespace chalk::server
