// chalk.sandbox.v2.SandboxService: sandboxes are created, looked at, listed and ended.
#pragma once
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"

namespace chalk::server {

class SandboxService final : public sandbox::v2::SandboxService::Service {
 public:
  explicit SandboxService(TenantSandboxes& sandboxes) : sandboxes_(sandboxes) {}

  grpc::Status CreateSandbox(grpc::ServerContext* context,
                             const sandbox::v2::CreateSandboxRequest* request,
                             sandbox::v2::CreateSandboxResponse* response) override;
  grpc::Status GetSandbox(grpc::ServerContext* context,
                          const sandbox::v2::GetSandboxRequest* request,
                          sandbox::v2::GetSandboxResponse* response) override;
  grpc::Status ListSandboxes(grpc::ServerContext* context,
                             const sandbox::v2::ListSandboxesRequest* request,
                             sandbox::v2::ListSandboxesResponse* response) override;
  grpc::Status TerminateSandbox(grpc::ServerContext* context,
                                const sandbox::v2::TerminateSandboxRequest* request,
                                sandbox::v2::TerminateSandboxResponse* response) override;
  grpc::Status SuspendSandbox(grpc::ServerContext* context,
                              const sandbox::v2::SuspendSandboxRequest* request,
                              sandbox::v2::SuspendSandboxResponse* response) override;
  grpc::Status ResumeSandbox(grpc::ServerContext* context,
                             const sandbox::v2::ResumeSandboxRequest* request,
                             sandbox::v2::ResumeSandboxResponse* response) override;

 private:
  TenantSandboxes& sandboxes_;
};

}  // namespace chalk::server
