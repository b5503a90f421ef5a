#include "adapters/server/server.h"

#include <fcntl.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "adapters/agent/agent.h"
#include "adapters/agent/options.h"
#include "adapters/api/translate.h"
#include "adapters/front/front.h"
#include "adapters/front/grpc_limits.h"
#include "adapters/identity/authority.h"
#include "adapters/identity/private_file.h"
#include "adapters/identity/store.h"
#include "adapters/identity/tokens.h"
#include "adapters/metrics/grpc_calls.h"
#include "adapters/server/admin_service.h"
#include "adapters/server/detail_service.h"
#include "adapters/server/images.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"
#include "adapters/server/public_services.h"
#include "adapters/server/telemetry.h"

namespace chalk::server {
namespace {

// The largest message of a client is a command with 16 MiB of input; what it gets may be larger.
constexpr front::GrpcLimits kPublicLimits{.memory_bytes = std::size_t{1} << 30,
                                          .threads = 4'096,
                                          .streams_of_connection = 256,
                                          .message_bytes = 32 << 20};
// A node has one connection, and on it a stream for each piece of work: all that all clients may have
// at once can be on one node. Each node holds a thread, so their number is not bounded here.
constexpr front::GrpcLimits kPrivateLimits{.memory_bytes = std::size_t{2} << 30,
                                           .threads = 0,
                                           .streams_of_connection = 8'192,
                                           .message_bytes = 16 << 20};
constexpr int kReplyBytesMax = 100 << 20;
constexpr const char* kDefaultEnvironment = "default";

template <class T>
T must(Result<T> result, const std::string& doing) {
  if (!result) throw std::runtime_error(doing + ": " + result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// Reflection adds itself to every server of the process; here strangers would be told by it.
struct NoServicesButOurs : grpc::ServerBuilderOption {
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->clear();
  }
};

struct Address {
  std::string host;
  std::uint16_t port = 0;
};
Address parse_address(const std::string& text, const char* option) {
  const auto colon = text.rfind(':');
  Address out;
  int port = -1;
  if (colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + colon + 1, end, port);
    if (read.ec != std::errc() || read.ptr != end) port = -1;
  }
  if (port < 0 || port > 65535 || colon == 0) {
    throw std::runtime_error(std::string(option) + ": found \"" + text +
                             "\", expected ADDRESS:PORT such as 127.0.0.1:8080");
  }
  out.host = text.substr(0, colon);
  if (out.host.size() > 2 && out.host.front() == '[') {
    out.host = out.host.substr(1, out.host.size() - 2);
  }
  out.port = static_cast<std::uint16_t>(port);
  return out;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + ": cannot read: " + std::strerror(errno));
  return {std::istreambuf_iterator<char>(in), {}};
}

// It holds secrets.
void write_secret_file(const std::string& path, const std::string& text) {
  const auto written = identity::write_private_file(path, text);
  if (!written) throw std::runtime_error(written.error().message);
}

// One server for a data directory, held until the process ends.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::string& data) {
    std::filesystem::create_directories(data);
    std::filesystem::permissions(data, std::filesystem::perms::owner_all);
    const std::string path = data + "/lock";
    file_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file_ < 0 || flock(file_, LOCK_EX | LOCK_NB) != 0) {
      const std::string why = file_ < 0 ? std::strerror(errno) : "another chalk-server uses it";
      if (file_ >= 0) close(file_);
      throw std::runtime_error("--data " + data + ": " + why);
    }
  }
  ~DirectoryLock() { close(file_); }
  DirectoryLock(const DirectoryLock&) = delete;

 private:
  int file_ = -1;
};

control::Config control_config(bool share_nodes) {
  control::Config config;
  config.fleet.heartbeat_timeout = seconds(20);
  config.sandbox.start_timeout = seconds(300);
  config.tenancy.separate_tenants = !share_nodes;
  config.tenancy.owner_linger = seconds(5);
  return config;
}

Result<node::v1::JoinResponse> join_response(const Result<identity::JoinedNode>& joined) {
  if (!joined) return std::unexpected(joined.error());
  node::v1::JoinResponse out;
  out.set_certificate_pem(joined->certificate_pem);
  out.set_authority_pem(joined->root_pem);
  out.set_node_key(joined->key);
  return out;
}

fleet::PoolAdded default_pool() {
  fleet::PoolAdded pool;
  pool.pool = PoolId{1};
  pool.policy.zones = {ZoneId{1}};
  pool.policy.nodes_max = 200'000;
  return pool;
}

}  // namespace

struct Server::State {
  ServerOptions options;
  Address listen, private_listen;
  DirectoryLock lock;
  Telemetry telemetry;
  identity::Store identities;
  identity::Tokens tokens;
  identity::Authority authority;
  Plane plane;
  NodeHub hub;
  ImageCatalogue images;
  Services services{plane, hub, images, identities, tokens};
  PublicServices publics{services};
  AdminService admin{services};
  DetailService detail{services};
  std::unique_ptr<grpc::Server> private_server, public_server;
  int private_port = 0;
  std::unique_ptr<front::Front> front;
  std::unique_ptr<agent::Agent> agent;
  std::uint64_t node_key = 0;

  explicit State(ServerOptions given)
      : options(std::move(given)),
        listen(parse_address(options.listen, "--listen")),
        private_listen(parse_address(options.private_listen, "--private-listen")),
        lock(options.data),
        identities(options.data + "/identity.db"),
        tokens(identities, {}),
        authority(options.data + "/authority"),
        plane(plane_options()),
        hub(plane, hub_options()),
        images(plane, options.data + "/images.db", options.registries) {}

  PlaneOptions plane_options() {
    PlaneOptions out;
    out.data = options.data;
    out.config = control_config(options.share_nodes);
    out.pools = {default_pool()};
    out.label = api::read_label;
    out.log_failed = [this](const std::string& what) {
      telemetry.metrics().count("chalk_log_failures_total");
      spdlog::error("log: {}", what);
    };
    out.seen = [this](Time now, const std::vector<control::Effect>& effects) {
      telemetry.seen(now, effects);
    };
    out.measured = [this](std::size_t events, double append_s, double step_s) {
      telemetry.metrics().batch(events, append_s, step_s);
    };
    return out;
  }
  NodeHub::Options hub_options() {
    NodeHub::Options out;
    out.node_key = [this](const std::string& pem) {
      return identity::check_node(identities, authority, pem);
    };
    out.join = [this](const node::v1::JoinRequest& request) {
      return join_response(
          identity::join_node(identities, authority, request.join_token(), request.csr_pem()));
    };
    out.renew = [this](const node::v1::JoinRequest& request, const std::string& certificate) {
      return join_response(
          identity::renew_node(identities, authority, certificate, request.csr_pem()));
    };
    out.start_failed = [this](const std::string& node, const char* why) {
      telemetry.metrics().count("chalk_node_starts_failed_total",
                                {{"node", node}, {"reason", why}});
    };
    return out;
  }

  void start_private();
  void start_public();
  void start_agent();
  std::string first_client();
  void write_env_file();
  std::string url() const;
};

void Server::State::start_private() {
  std::vector<std::string> names = options.private_names;
  if (private_listen.host != "0.0.0.0" && private_listen.host != "::") {
    names.push_back(private_listen.host);
  }
  if (options.all_in_one && private_listen.host != "127.0.0.1") names.push_back("127.0.0.1");
  if (names.empty()) {
    throw std::runtime_error("--private-name: name the addresses under which nodes reach this "
                             "server, since --private-listen " + options.private_listen +
                             " says none");
  }
  const auto credentials = must(authority.server_credentials(names), "the private port");
  grpc::SslServerCredentialsOptions tls(
      GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);  // Join comes without one
  tls.pem_root_certs = authority.certificate_pem();
  tls.pem_key_cert_pairs.push_back({credentials.private_key_pem, credentials.certificate_pem});
  grpc::ServerBuilder builder;
  const bool six = private_listen.host.find(':') != std::string::npos;
  builder.AddListeningPort((six ? "[" + private_listen.host + "]" : private_listen.host) + ":" +
                               std::to_string(private_listen.port),
                           grpc::SslServerCredentials(tls), &private_port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  front::set_limits(builder, "private", kPrivateLimits);
  builder.RegisterService(&hub.service());
  builder.SetOption(std::make_unique<NoServicesButOurs>());
  private_server = builder.BuildAndStart();
  if (!private_server || private_port == 0) {
    throw std::runtime_error("--private-listen " + options.private_listen +
                             ": cannot listen there; is the port taken?");
  }
}

void Server::State::start_public() {
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  front::set_limits(builder, "public", kPublicLimits);
  builder.SetMaxSendMessageSize(kReplyBytesMax);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  publics.register_on(builder);
  builder.RegisterService(&admin);
  builder.RegisterService(&detail);
  builder.experimental().SetInterceptorCreators(metrics::count_calls(telemetry.metrics()));
  public_server = builder.BuildAndStart();
  if (!public_server) throw std::runtime_error("cannot start the public gRPC server");

  front::Options front_options;
  front_options.address = listen.host;
  front_options.port = listen.port;
  if (!options.certificate_file.empty()) {
    front_options.certificate_pem = read_file(options.certificate_file);
    front_options.private_key_pem = read_file(options.key_file);
    front_options.tls_only = true;  // or a client that says http:// would send its secret to all
  }
  front_options.limits.body_bytes = kPublicLimits.message_bytes;
  front_options.authenticated = [this](const front::Request& request) {
    return tokens.verify_header(std::string(request.header("authorization"))).has_value();
  };
  front = std::make_unique<front::Front>(front_options, *public_server);
  publics.add_routes(*front);
  front->route("GET", "/healthz", [this](const front::Request&) {
    const bool fenced = plane.fenced(), stands = plane.log_stands_still_for().count() > 0;
    return front::Response{fenced || stands ? 503 : 200, "text/plain; charset=utf-8",
                           fenced   ? "another server has taken over\n"
                           : stands ? "the log takes no writes\n"
                                    : "ok\n",
                           {}};
  });
  front->route("GET", "/metrics", [this](const front::Request& request) {
    const auto caller = tokens.verify_header(std::string(request.header("authorization")));
    if (!caller || caller->role != identity::Role::admin) {
      return front::Response{401, "text/plain; charset=utf-8", "an admin's bearer token\n", {}};
    }
    return front::Response{200, "text/plain; version=0.0.4; charset=utf-8",
                           telemetry.text(services, front->counters()), {}};
  });
  front->start();
}

void Server::State::start_agent() {
  const std::string directory = options.data + "/node";
  std::filesystem::create_directories(directory);
  const std::string key_file = directory + "/key";
  if (std::filesystem::exists(key_file)) {
    node_key = std::stoull(read_file(key_file));
  } else {
    const auto token = must(identities.create_node_token(1, 600), "the node of all-in-one");
    node_key = must(identities.redeem_node_token(token.token, 0, "all-in-one"), "the node of all-in-one");
    write_secret_file(key_file, std::to_string(node_key) + "\n");
  }
  agent::Options& node = *options.node;
  node.data = directory;
  node.server = "127.0.0.1:" + std::to_string(private_port);
  node.server_name = "127.0.0.1";
  node.credentials = must(authority.node_credentials(node_key), "the node of all-in-one");
  node.node_key = node_key;
  node.registries = options.registries;
  node.metrics.observed = [this](const char* name, double s) { telemetry.observed(name, s); };
  node.metrics.now = [this](const char* name, double value) { telemetry.now(name, value); };
  node.metrics.counted = [this](const char* name) { telemetry.counted(name); };
  agent = std::make_unique<agent::Agent>(node);
  agent->start();
}

// The client of the env file, the same after each restart.
std::string Server::State::first_client() {
  const std::string path = options.data + "/first-client";
  if (std::filesystem::exists(path)) return read_file(path);
  if (!identities.environment(kDefaultEnvironment)) {
    must(identities.create_environment(kDefaultEnvironment, kDefaultEnvironment),
         "the first environment");
  }
  const auto client = must(identities.create_client(kDefaultEnvironment, identity::Role::admin),
                           "the first client");
  const std::string text = "export CHALK_CLIENT_ID=" + client.client_id +
                           "\nexport CHALK_CLIENT_SECRET=" + client.secret +
                           "\nexport CHALK_ENVIRONMENT=" + kDefaultEnvironment + "\n";
  write_secret_file(path, text);
  return text;
}

std::string Server::State::url() const {
  if (!options.public_url.empty()) return options.public_url;
  std::string host = listen.host == "0.0.0.0" || listen.host == "::" ? "127.0.0.1" : listen.host;
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return (options.certificate_file.empty() ? "http://" : "https://") + host + ":" +
         std::to_string(front->port());
}

void Server::State::write_env_file() {
  const std::string text = "export CHALK_API_SERVER=" + url() + "\n" + first_client();
  if (!options.env_file.empty()) write_secret_file(options.env_file, text);
}

Server::Server(ServerOptions options) : state_(std::make_unique<State>(std::move(options))) {
  state_->plane.start(state_->hub.sender());
  for (const auto& environment :
       must(state_->identities.list_environments(), "the environments")) {
    (void)state_->plane.add_tenant(TenantId{environment.tenant});  // else with its first sandbox
  }
  state_->start_private();
  state_->start_public();
  if (state_->options.all_in_one) state_->start_agent();
}

Server::~Server() {
  State& s = *state_;
  s.detail.stop();
  if (s.front) s.front->stop_accepting();
  s.images.stop();  // registries may take minutes
  if (s.agent) s.agent->stop();
  s.hub.stop();
  const auto deadline = std::chrono::system_clock::now() + std::chrono::seconds(5);
  if (s.public_server) s.public_server->Shutdown(deadline);
  if (s.front) s.front->stop();
  if (s.private_server) s.private_server->Shutdown(deadline);
  s.plane.stop();
}

std::string Server::url() const { return state_->url(); }
std::uint16_t Server::private_port() const {
  return static_cast<std::uint16_t>(state_->private_port);
}
bool Server::fenced() const { return state_->plane.fenced(); }

bool Server::wait_ready(int seconds) {
  State& s = *state_;
  for (int i = 0; s.options.all_in_one && i < seconds * 20; ++i) {
    const auto nodes = s.plane.nodes();
    for (const NodeView& node : nodes ? *nodes : std::vector<NodeView>{}) {
      if (node.key == s.node_key && s.hub.connected(s.node_key)) {
        s.write_env_file();
        return true;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (s.options.all_in_one) return false;
  s.write_env_file();
  return true;
}

}  // namespace chalk::server
