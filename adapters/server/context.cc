#include "adapters/server/context.h"

namespace chalk::server {
namespace {

constexpr std::size_t kMessageBytesMax = 4'000;  // a status travels in headers, which are bounded

std::string metadata(const grpc::ServerContextBase& context, const char* name) {
  const auto& all = context.client_metadata();
  const auto found = all.find(name);
  return found == all.end() ? std::string()
                            : std::string(found->second.data(), found->second.size());
}

std::string bounded(const std::string& message) {
  return message.size() <= kMessageBytesMax ? message : message.substr(0, kMessageBytesMax) + "...";
}

}  // namespace

Result<identity::Caller> authenticate(const Services& services,
                                      const grpc::ServerContextBase& context) {
  const std::string authorization = metadata(context, "authorization");
  if (authorization.empty()) {
    return fail(Error::Kind::denied,
                "no bearer token: ask AuthService.GetToken with a client's id and secret");
  }
  auto caller = services.tokens.verify_header(authorization);
  if (!caller) return caller;
  const std::string environment = metadata(context, "x-chalk-env-id");
  if (!environment.empty() && environment != caller->environment) {
    // Not denied: who calls is known, and may not do this.
    return fail(Error::Kind::not_found, "x-chalk-env-id names another environment than the token, "
                                        "which is for " + caller->environment);
  }
  return caller;
}

grpc::Status to_status(const Error& error) {
  using Code = grpc::StatusCode;
  const auto code = [&] {
    switch (error.kind) {
      case Error::Kind::invalid: return Code::INVALID_ARGUMENT;
      case Error::Kind::not_found: return Code::NOT_FOUND;
      case Error::Kind::denied: return Code::PERMISSION_DENIED;
      case Error::Kind::exhausted: return Code::RESOURCE_EXHAUSTED;
      case Error::Kind::unavailable: return Code::UNAVAILABLE;
      case Error::Kind::timeout: return Code::DEADLINE_EXCEEDED;
      case Error::Kind::corrupt: return Code::DATA_LOSS;
      case Error::Kind::failed: return Code::INTERNAL;
    }
    return Code::INTERNAL;
  }();
  return {code, bounded(error.message)};
}

grpc::Status unauthenticated(const Error& error) {
  if (error.kind == Error::Kind::denied) {
    return {grpc::StatusCode::UNAUTHENTICATED, bounded(error.message)};
  }
  if (error.kind == Error::Kind::not_found) {
    return {grpc::StatusCode::PERMISSION_DENIED, bounded(error.message)};
  }
  return to_status(error);
}

grpc::Status may_go_on(const Services& services, const grpc::ServerContextBase& context) {
  const auto caller = authenticate(services, context);
  if (caller) return grpc::Status::OK;
  const auto kind = caller.error().kind;
  const bool refused = kind == Error::Kind::denied || kind == Error::Kind::not_found;
  return refused ? unauthenticated(caller.error()) : grpc::Status::OK;
}

}  // namespace chalk::server
