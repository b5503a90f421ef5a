#include "adapters/server/auth_service.h"

#include <nlohmann/json.hpp>

#include "adapters/api/shown.h"

namespace chalk::server {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kFieldBytesMax = 1'024;
constexpr std::size_t kAudienceBytesMax = 512;

front::Response answer(int status, const Json& body) {
  return {status, "application/json", body.dump(-1, ' ', false, Json::error_handler_t::replace),
          {{"cache-control", "no-store"}}};
}

front::Response refuse(const grpc::Status& status) {
  using Code = grpc::StatusCode;
  const auto code = [&] {
    switch (status.error_code()) {
      case Code::INVALID_ARGUMENT: return std::pair(400, "invalid_argument");
      case Code::UNAUTHENTICATED: return std::pair(401, "unauthenticated");
      case Code::PERMISSION_DENIED: return std::pair(403, "permission_denied");
      case Code::NOT_FOUND: return std::pair(404, "not_found");
      case Code::RESOURCE_EXHAUSTED: return std::pair(429, "resource_exhausted");
      case Code::UNAVAILABLE: return std::pair(503, "unavailable");
      default: return std::pair(500, "internal");
    }
  }();
  return answer(code.first, {{"code", code.second}, {"message", status.error_message()}});
}

std::string text(const Json& body, const char* name) {
  const auto found = body.find(name);
  return found != body.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

grpc::Status AuthService::issue(const v1::GetTokenRequest& request,
                                v1::GetTokenResponse& response) const {
  if (request.client_id().size() > kFieldBytesMax ||
      request.client_secret().size() > kFieldBytesMax ||
      request.scope().size() > kFieldBytesMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "client_id, client_secret, scope: expected at most " + std::to_string(kFieldBytesMax) +
                " bytes each"};
  }
  if (!request.grant_type().empty() && request.grant_type() != "client_credentials") {
    return {grpc::StatusCode::INVALID_ARGUMENT, "grant_type: found " +
                                                    api::shown(request.grant_type()) +
                                                    ", expected \"client_credentials\""};
  }
  const auto grant = services_.tokens.issue(request.client_id(), request.client_secret(),
                                            request.scope());
  if (!grant) {
    return grant.error().kind == Error::Kind::denied ? unauthenticated(grant.error())
                                                     : to_status(grant.error());
  }
  const std::string& environment = grant->caller.environment;
  const auto known = services_.identities.environment(environment);
  response.set_access_token(grant->token);
  response.set_token_type("Bearer");
  const auto life = grant->expires - identity::system_seconds();
  response.set_expires_in(static_cast<std::int32_t>(std::clamp<std::int64_t>(life, 0, 1 << 30)));
  response.mutable_expires_at()->set_seconds(grant->expires);
  response.set_primary_environment(environment);
  (*response.mutable_environment_id_to_name())[environment] = known ? known->name : environment;
  return grpc::Status::OK;
}

grpc::Status AuthService::GetToken(grpc::ServerContext*, const v1::GetTokenRequest* request,
                                   v1::GetTokenResponse* response) {
  return issue(*request, *response);
}

grpc::Status AuthService::GetWorkloadIdentityToken(
    grpc::ServerContext* context, const v1::GetWorkloadIdentityTokenRequest* request,
    v1::GetWorkloadIdentityTokenResponse* response) {
  const auto caller = authenticate(services_, *context);
  if (!caller) return unauthenticated(caller.error());
  if (request->audience().empty() || request->audience().size() > kAudienceBytesMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "audience: found " + api::shown(request->audience()) + ", expected 1 to " +
                std::to_string(kAudienceBytesMax) + " bytes"};
  }
  const auto token = services_.tokens.issue_workload(
      *caller, "environment:" + caller->environment + ":client:" + caller->client_id,
      request->audience());
  if (!token) return to_status(token.error());
  response->set_token(token->token);
  response->mutable_expires_at()->set_seconds(token->expires);
  response->set_issuer(token->issuer);
  response->set_subject(token->subject);
  return grpc::Status::OK;
}

front::Response AuthService::oauth_token(const front::Request& request) const {
  const Json body = Json::parse(request.body, nullptr, false);
  if (!body.is_object()) {
    return refuse({grpc::StatusCode::INVALID_ARGUMENT,
                   "expected a JSON object with client_id, client_secret and grant_type"});
  }
  v1::GetTokenRequest asked;
  asked.set_client_id(text(body, "client_id"));
  asked.set_client_secret(text(body, "client_secret"));
  asked.set_grant_type(text(body, "grant_type"));
  if (const std::string scope = text(body, "scope"); !scope.empty()) asked.set_scope(scope);
  v1::GetTokenResponse given;
  if (const auto status = issue(asked, given); !status.ok()) return refuse(status);
  Json names = Json::object();
  for (const auto& [id, name] : given.environment_id_to_name()) names[id] = name;
  return answer(200, {{"access_token", given.access_token()},
                      {"token_type", given.token_type()},
                      {"expires_in", given.expires_in()},
                      {"primary_environment", given.primary_environment()},
                      {"engines", Json::object()},
                      {"grpc_engines", Json::object()},
                      {"environment_id_to_name", names}});
}

front::Response AuthService::who_am_i(const front::Request& request) const {
  const auto caller = services_.tokens.verify_header(std::string(request.header("authorization")));
  if (!caller) return refuse(unauthenticated(caller.error()));
  return answer(200, {{"client_id", caller->client_id},
                      {"environment_id", caller->environment},
                      {"role", identity::role_name(caller->role)}});
}

front::Response AuthService::key_set() const {
  const auto keys = services_.tokens.jwks();
  if (!keys) return refuse(to_status(keys.error()));
  return {200, "application/json", *keys, {}};
}

}  // namespace chalk::server
