// chalk.sandbox.v2.SandboxProcessService: commands with gathered output, and sessions.
#pragma once
#include "adapters/server/session_bridge.h"

namespace chalk::server {

// The sessions' streams are served by callbacks, the rest by threads.
using ProcessServiceBase = sandbox::v2::SandboxProcessService::WithCallbackMethod_OpenSession<
    sandbox::v2::SandboxProcessService::Service>;

class ProcessService final : public ProcessServiceBase {
 public:
  ProcessService(TenantSandboxes& sandboxes, Places& places)
      : sandboxes_(sandboxes), places_(places) {}

  grpc::Status ExecCommand(grpc::ServerContext* context,
                           const sandbox::v2::ExecCommandRequest* request,
                           sandbox::v2::ExecCommandResponse* response) override;
  SessionReactor* OpenSession(grpc::CallbackServerContext* context) override {
    return begin_session(sandboxes_, places_, *context);
  }
  grpc::Status GetSession(grpc::ServerContext* context,
                          const sandbox::v2::GetSessionRequest* request,
                          sandbox::v2::GetSessionResponse* response) override;
  grpc::Status ListSessions(grpc::ServerContext* context,
                            const sandbox::v2::ListSessionsRequest* request,
                            sandbox::v2::ListSessionsResponse* response) override;

 private:
  Answer<node::v1::SessionList> sessions(const grpc::ServerContextBase& context,
                                         const std::string& sandbox, const std::string& session);

  TenantSandboxes& sandboxes_;
  Places& places_;
};

}  // namespace chalk::server
