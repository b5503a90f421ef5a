// chalk.server.v1.AuthService: a client's id and secret for a token, and the same over HTTP for older
// clients. The only calls of the public port that need no token.
#pragma once
#include "adapters/front/front.h"
#include "adapters/server/context.h"
#include "chalk/server/v1/auth.grpc.pb.h"

namespace chalk::server {

class AuthService final : public ::chalk::server::v1::AuthService::Service {
 public:
  explicit AuthService(const Services& services) : services_(services) {}

  grpc::Status GetToken(grpc::ServerContext* context, const v1::GetTokenRequest* request,
                        v1::GetTokenResponse* response) override;
  grpc::Status GetWorkloadIdentityToken(grpc::ServerContext* context,
                                        const v1::GetWorkloadIdentityTokenRequest* request,
                                        v1::GetWorkloadIdentityTokenResponse* response) override;

  // POST /v1/oauth/token: the same as GetToken in JSON.
  front::Response oauth_token(const front::Request& request) const;
  // GET /v1/who-am-i with a bearer token.
  front::Response who_am_i(const front::Request& request) const;
  // GET /.well-known/jwks.json: the keys that sign tokens.
  front::Response key_set() const;

 private:
  grpc::Status issue(const v1::GetTokenRequest& request, v1::GetTokenResponse& response) const;

  const Services services_;
};

}  // namespace chalk::server
