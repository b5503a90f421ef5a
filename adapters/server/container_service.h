// chalk.container.v1.ContainerService: the older way to the same sandboxes, with states in words and
// names instead of ids where the caller likes.
#pragma once
#include "adapters/server/command.h"
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/container/v1/service.grpc.pb.h"

namespace chalk::server {

class ContainerService final : public container::v1::ContainerService::Service {
 public:
  ContainerService(TenantSandboxes& sandboxes, Places& places)
      : sandboxes_(sandboxes), places_(places) {}

  grpc::Status RunContainer(grpc::ServerContext* context,
                            const container::v1::RunContainerRequest* request,
                            container::v1::RunContainerResponse* response) override;
  grpc::Status GetContainer(grpc::ServerContext* context,
                            const container::v1::GetContainerRequest* request,
                            container::v1::GetContainerResponse* response) override;
  grpc::Status ListContainers(grpc::ServerContext* context,
                              const container::v1::ListContainersRequest* request,
                              container::v1::ListContainersResponse* response) override;
  grpc::Status StopContainer(grpc::ServerContext* context,
                             const container::v1::StopContainerRequest* request,
                             container::v1::StopContainerResponse* response) override;
  grpc::Status ExecCommand(grpc::ServerContext* context,
                           const container::v1::ExecCommandRequest* request,
                           container::v1::ExecCommandResponse* response) override;

 private:
  // By id, else by name.
  Answer<records::Sandbox> named(const identity::Caller& caller, const auto& request,
                                 bool ended) const {
    if (!request.id().empty()) return sandboxes_.find(caller, request.id());
    return sandboxes_.find_named(caller, request.name(), ended);
  }

  TenantSandboxes& sandboxes_;
  Places& places_;
};

}  // namespace chalk::server
