// Durable placements per second of the control plane, with 1 and 64 callers; a node that answers at
// once stands for the fleet. Of the plane: create() returns when the request is on disk, stepped and
// accepted. Through gRPC: CreateSandbox over h2c on loopback, by the public port, with a token, until
// the sandbox runs. Beside the physical limit: appending as many bytes to a file with fdatasync, one
// by one.
//
//     plane_bench [REGISTRY]     HOST:PORT of ci/registry; without it nothing goes through gRPC
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "adapters/front/front.h"
#include "adapters/server/images.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"
#include "adapters/server/public_services.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"

namespace chalk::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSeconds = 3;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double bare_appends(const std::string& folder) {
  const int file = open((folder + "/bare").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  const std::string record(256, 'x');
  std::uint64_t count = 0;
  const auto begin = Clock::now();
  while (since(begin) < kSeconds) {
    if (write(file, record.data(), record.size()) < 0 || fdatasync(file) != 0) return 0;
    ++count;
  }
  close(file);
  return static_cast<double>(count) / since(begin);
}

struct Fleet {
  Plane* plane = nullptr;
  std::atomic<std::uint64_t> sequence{0}, placed{0};
  NodeSender sender() {
    NodeSender out;
    out.order = [this](NodeId node, Envelope<NodeOrder> envelope) {
      if (!envelope.message) return;
      const auto* start = std::get_if<StartOrder>(&*envelope.message);
      if (start == nullptr) return;
      ++placed;
      plane->reported(node, {1, ++sequence, envelope.sequence,
                             NodeReport{StartedReport{start->sandbox}}});
    };
    out.welcome = [](std::uint64_t, std::uint64_t, NodeId) {};
    out.unknown = [](NodeId, std::uint64_t) {};
    return out;
  }
};

PlaneOptions plane_options(const std::string& folder) {
  std::filesystem::create_directories(folder);
  PlaneOptions options;
  options.data = folder;
  fleet::PoolAdded pool;
  pool.pool = {1};
  pool.policy.zones = {{1}};
  options.pools = {pool};
  options.config.fleet.heartbeat_timeout = seconds(3600);
  options.config.tenancy.separate_tenants = false;
  options.label = [](SandboxId id, const std::string&) {
    return records::Label{std::to_string(id.value), {}};
  };
  return options;
}

// With one node, too large to be ever full.
void begin(Plane& plane, Fleet& fleet) {
  fleet.plane = &plane;
  plane.start(fleet.sender());
  NodeRegistration node;
  node.key = 1;
  node.incarnation = 1;
  node.pool = {1};
  node.zone = {1};
  node.shape = {.cpu_millicores = 1LL << 39, .memory_bytes = 1LL << 50, .disk_bytes = 1LL << 50,
                .start_slots = 1'000'000, .sandboxes_max = 10'000'000};
  plane.registered(node);
  while (plane.nodes().value().empty()) std::this_thread::yield();
}

// `call` for kSeconds from each of so many threads; what the fleet was ordered to start in a second.
double rate_of(const Fleet& fleet, int callers, const std::function<void(int)>& call) {
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  const std::uint64_t before = fleet.placed;
  const auto begun = Clock::now();
  for (int i = 0; i < callers; ++i) {
    threads.emplace_back([&, i] {
      while (!done) call(i);
    });
  }
  std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
  done = true;
  for (auto& thread : threads) thread.join();
  return static_cast<double>(fleet.placed - before) / since(begun);
}

double of_plane(const std::string& folder, int callers) {
  Plane plane(plane_options(folder));
  Fleet fleet;
  begin(plane, fleet);
  plane.add_tenant({1});
  SandboxAsk ask;
  ask.tenant = {1};
  ask.resources = {.cpu_millicores = 100, .memory_bytes = 1 << 20};
  ask.payload = std::string(512, 'p');
  const double rate = rate_of(fleet, callers, [&](int) { (void)plane.create(ask); });
  plane.stop();
  return rate;
}

double through_grpc(const std::string& folder, const std::string& registry, int callers) {
  Plane plane(plane_options(folder));
  Fleet fleet;
  begin(plane, fleet);
  identity::Store identities(folder + "/identity.db");
  identity::Tokens tokens(identities, {});
  NodeHub hub(plane, {});
  images::Registries registries;
  registries.registries["docker.io"] = {.mirrors = {{registry, true}}, .direct = false};
  ImageCatalogue images(plane, folder + "/images.db", registries);
  PublicServices publics({plane, hub, images, identities, tokens});
  grpc::ServerBuilder builder;
  publics.register_on(builder);
  const auto server = builder.BuildAndStart();
  front::Front port({}, *server);
  publics.add_routes(port);
  port.start();

  (void)identities.create_environment("bench", "bench");
  const auto client = identities.create_client("bench", identity::Role::user);
  const auto token = tokens.issue(client->client_id, client->secret, "");
  std::vector<std::unique_ptr<sandbox::v2::SandboxService::Stub>> stubs;
  for (int i = 0; i < callers; ++i) {
    grpc::ChannelArguments own;
    own.SetInt("chalk.bench.caller", i);  // a connection of its own
    stubs.push_back(sandbox::v2::SandboxService::NewStub(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port.port()),
                                  grpc::InsecureChannelCredentials(), own)));
  }
  const auto call = [&](int caller) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + token->token);
    sandbox::v2::CreateSandboxRequest request;
    auto& spec = *request.mutable_spec();
    spec.set_image("busybox");
    spec.mutable_resources()->set_cpu("100m");
    spec.mutable_resources()->set_memory("64Mi");
    sandbox::v2::CreateSandboxResponse answer;
    const auto status = stubs[static_cast<std::size_t>(caller)]->CreateSandbox(&context, request, &answer);
    if (!status.ok()) {
      std::fprintf(stderr, "plane_bench: CreateSandbox: %s\n", status.error_message().c_str());
      std::exit(1);
    }
  };
  call(0);  // connected, and the image resolved
  const double rate = rate_of(fleet, callers, call);
  port.stop_accepting();
  server->Shutdown();
  port.stop();
  plane.stop();
  return rate;
}

}  // namespace
}  // namespace chalk::server

int main(int argc, char** argv) {
  const std::string folder =
      std::filesystem::temp_directory_path() / ("plane_bench" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const double bare = chalk::server::bare_appends(folder);
  std::printf("append and fdatasync, one by one:          %8.0f /s\n", bare);
  const auto print = [&](const char* what, int callers, double rate) {
    std::printf("durable placements, %-12s %2d callers: %8.0f /s  (%.2f of it)\n", what, callers, rate,
                rate / bare);
  };
  for (const int callers : {1, 64}) {
    const std::string own = folder + "/" + std::to_string(callers);
    print("of the plane", callers, chalk::server::of_plane(own + "-plane", callers));
    if (argc > 1) {
      print("through gRPC", callers, chalk::server::through_grpc(own + "-grpc", argv[1], callers));
    }
  }
  std::filesystem::remove_all(folder);
}
