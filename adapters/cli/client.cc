#include "adapters/cli/client.h"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <thread>

#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"
#include "chalk/server/v1/auth.grpc.pb.h"

namespace chalk::cli {
namespace {

constexpr int kMessageBytesMax = 100 << 20;
constexpr const char* kSystemRoots = "/etc/ssl/certs/ca-certificates.crt";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Url {
  bool tls = false;
  std::string target;  // host:port
  bool loopback = false;
};

Url parse_url(std::string text) {
  const std::string found = text;
  const auto wrong = [&](const std::string& expected) {
    return Stop("CHALK_API_SERVER: found \"" + harmless(found) + "\", expected " + expected);
  };
  Url url;
  if (text.starts_with("https://")) {
    url.tls = true;
    text = text.substr(8);
  } else if (text.starts_with("http://")) {
    text = text.substr(7);
  } else {
    throw wrong("http://HOST:PORT or https://HOST:PORT");
  }
  while (text.ends_with('/')) text.pop_back();
  if (text.empty() || text.find_first_of("/?#@ \t") != std::string::npos) {
    throw wrong("http://HOST:PORT or https://HOST:PORT without a path");
  }
  const auto colon = text.rfind(':');
  const auto bracket = text.rfind(']');
  const bool has_port =
      colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
  if (has_port) {
    int port = 0;
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + colon + 1, end, port);
    if (read.ec != std::errc() || read.ptr != end || port < 1 || port > 65535) {
      throw wrong("a port from 1 to 65535");
    }
  }
  url.target = has_port ? text : text + (url.tls ? ":443" : ":80");
  url.loopback = text.starts_with("127.") || text.starts_with("localhost") ||
                 text.starts_with("[::1]");
  return url;
}

std::shared_ptr<grpc::ChannelCredentials> credentials(bool tls) {
  if (!tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  const std::string named = variable("SSL_CERT_FILE");
  std::ifstream file(named.empty() ? kSystemRoots : named, std::ios::binary);
  if (file) {
    options.pem_root_certs = {std::istreambuf_iterator<char>(file), {}};
  } else if (!named.empty()) {
    throw Stop("SSL_CERT_FILE: cannot read " + named);
  }
  return grpc::SslCredentials(options);
}

}  // namespace

bool of_transport(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN: return true;
    default: return false;
  }
}

Client Client::from_environment() {
  const std::string server = variable("CHALK_API_SERVER");
  const std::string id = variable("CHALK_CLIENT_ID");
  const std::string secret = variable("CHALK_CLIENT_SECRET");
  if (server.empty() || id.empty() || secret.empty()) {
    std::string missing;
    for (const auto& [name, value] : {std::pair{"CHALK_API_SERVER", &server},
                                      {"CHALK_CLIENT_ID", &id},
                                      {"CHALK_CLIENT_SECRET", &secret}}) {
      if (value->empty()) missing += (missing.empty() ? "" : ", ") + std::string(name);
    }
    throw Stop("not logged in: set " + missing +
               ", or source the server's env file (chalk-server --env-file)");
  }
  const Url url = parse_url(server);
  for (const char* name : {"CHALK_CLIENT_ID", "CHALK_CLIENT_SECRET", "CHALK_ENVIRONMENT"}) {
    if (!is_utf8(variable(name))) throw Stop(std::string(name) + ": it is no UTF-8");
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  arguments.SetMaxSendMessageSize(kMessageBytesMax);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);  // how long one attempt may take
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  if (url.loopback) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  Client client;
  client.server_ = server;
  client.channel_ = grpc::CreateCustomChannel(url.target, credentials(url.tls), arguments);
  client.sandboxes_ = sandbox::v2::SandboxService::NewStub(client.channel_);
  client.processes_ = sandbox::v2::SandboxProcessService::NewStub(client.channel_);
  client.details_ = admin::v1::SandboxDetailService::NewStub(client.channel_);
  client.admin_ = admin::v1::AdminService::NewStub(client.channel_);
  client.log_in(id, secret, variable("CHALK_ENVIRONMENT"));
  return client;
}

void Client::log_in(const std::string& id, const std::string& secret, const std::string& wanted) {
  const auto stub = server::v1::AuthService::NewStub(channel_);
  const auto token = [&](const std::string& environment) {
    server::v1::GetTokenRequest request;
    request.set_client_id(id);
    request.set_client_secret(secret);
    request.set_grant_type("client_credentials");
    if (!environment.empty()) request.set_scope("env:" + environment);
    server::v1::GetTokenResponse response;
    check(attempt(true, [&] {
      grpc::ClientContext context;
      prepare(context, std::chrono::seconds(30));
      return stub->GetToken(&context, request, &response);
    }));
    return response;
  };
  auto granted = token("");
  environment_ = granted.primary_environment();
  if (!wanted.empty() && wanted != environment_) {
    std::string chosen = wanted;
    for (const auto& [key, name] : granted.environment_id_to_name()) {
      if (name == wanted) chosen = key;
    }
    if (!granted.environment_id_to_name().empty() &&
        !granted.environment_id_to_name().contains(chosen)) {
      std::string known;
      for (const auto& [key, name] : granted.environment_id_to_name()) {
        known += (known.empty() ? "" : ", ") + key;
      }
      throw Stop("CHALK_ENVIRONMENT: found \"" + harmless(wanted) + "\", this client has " +
                 harmless(known));
    }
    if (chosen != environment_) granted = token(chosen);
    environment_ = chosen;
  }
  token_ = granted.access_token();
}

void Client::prepare(grpc::ClientContext& context, std::chrono::seconds patience) const {
  if (!token_.empty()) context.AddMetadata("authorization", "Bearer " + token_);
  if (!environment_.empty()) context.AddMetadata("x-chalk-env-id", environment_);
  context.AddMetadata("x-chalk-server", "go-api");
  if (patience.count() > 0) context.set_deadline(std::chrono::system_clock::now() + patience);
}

void Client::check(const grpc::Status& status) const {
  if (status.ok()) return;
  const std::string said = harmless(status.error_message());
  switch (status.error_code()) {
    case grpc::StatusCode::UNAUTHENTICATED:
      throw Stop("the server does not accept this client: " + said +
                 "\ncheck CHALK_CLIENT_ID and CHALK_CLIENT_SECRET, or ask an admin for a new "
                 "client (chalk admin client create)");
    case grpc::StatusCode::PERMISSION_DENIED: throw Stop("not allowed: " + said);
    case grpc::StatusCode::UNAVAILABLE:
      // Who has a token was answered before: what it says now is the server's own.
      throw Stop("the server at " + server_ + " cannot do this now: " + said +
                 (!token_.empty()
                      ? ""
                      : "\nis chalk-server running, and is CHALK_API_SERVER right?") +
                 // gRPC does not say that it was the certificate.
                 (token_.empty() && server_.starts_with("https://")
                      ? " SSL_CERT_FILE names the root of a certificate that is not a public one"
                      : ""));
    case grpc::StatusCode::CANCELLED:
      throw Stop("the server at " + server_ + " ended the call; was it stopped? try again");
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      // Where the deadline was ours, gRPC has only these words for it.
      if (said.empty() || said == "Deadline Exceeded") {
        throw Stop("the server at " + server_ + " did not answer in time; try again");
      }
      throw Stop("the server at " + server_ + " could not do this in time: " + said);
    case grpc::StatusCode::UNIMPLEMENTED:
      throw Stop("the server at " + server_ + " does not know this call (" + said +
                 "): chalk and chalk-server are of different versions");
    default: throw Stop(said.empty() ? "the server failed without saying why" : said);
  }
}

bool Client::wait(std::chrono::milliseconds pause) const {
  const auto until = std::chrono::system_clock::now() + pause;
  const bool connected = channel_->WaitForConnected(until);
  std::this_thread::sleep_until(until);
  return connected;
}

grpc::Status Client::attempt(bool again, const std::function<grpc::Status()>& once) const {
  grpc::Status status;
  for (int tries = 0; tries < (again ? 4 : 1); ++tries) {
    if (tries > 0) wait(std::chrono::milliseconds(150) * (1 << tries));
    status = once();
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
  }
  return status;
}

admin::v1::InspectResponse Client::inspect(const std::string& id_or_name) const {
  admin::v1::InspectRequest request;
  request.set_id(id_or_name);
  return call<admin::v1::InspectRequest, admin::v1::InspectResponse>(
      [this](auto... a) { return details_->Inspect(a...); }, request);
}

void Client::terminate(const std::string& id, std::chrono::seconds grace) const {
  sandbox::v2::TerminateSandboxRequest request;
  request.set_id(id);
  request.mutable_grace_period()->set_seconds(grace.count());
  call<sandbox::v2::TerminateSandboxRequest, sandbox::v2::TerminateSandboxResponse>(
      [this](auto... a) { return sandboxes_->TerminateSandbox(a...); }, request);
}

}  // namespace chalk::cli
