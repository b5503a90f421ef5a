// The operators' service: environments, clients, join tokens, nodes, all sandboxes. Every call
// needs the role admin, which is checked first and says nothing else to who lacks it.
#pragma once
#include <chrono>

#include "adapters/server/context.h"
#include "chalk/admin/v1/admin.grpc.pb.h"

namespace chalk::server {

struct NodeView;

class AdminService final : public admin::v1::AdminService::Service {
 public:
  explicit AdminService(const Services& services);

  grpc::Status CreateEnvironment(grpc::ServerContext*,
                                 const admin::v1::CreateEnvironmentRequest*,
                                 admin::v1::Environment*) override;
  grpc::Status ListEnvironments(grpc::ServerContext*, const admin::v1::ListEnvironmentsRequest*,
                                admin::v1::ListEnvironmentsResponse*) override;
  grpc::Status CreateClient(grpc::ServerContext*, const admin::v1::CreateClientRequest*,
                            admin::v1::CreateClientResponse*) override;
  grpc::Status ListClients(grpc::ServerContext*, const admin::v1::ListClientsRequest*,
                           admin::v1::ListClientsResponse*) override;
  grpc::Status RevokeClient(grpc::ServerContext*, const admin::v1::RevokeClientRequest*,
                            admin::v1::RevokeClientResponse*) override;
  grpc::Status CreateNodeToken(grpc::ServerContext*, const admin::v1::CreateNodeTokenRequest*,
                               admin::v1::CreateNodeTokenResponse*) override;
  grpc::Status ListNodes(grpc::ServerContext*, const admin::v1::ListNodesRequest*,
                         admin::v1::ListNodesResponse*) override;
  grpc::Status DrainNode(grpc::ServerContext*, const admin::v1::DrainNodeRequest*,
                         admin::v1::DrainNodeResponse*) override;
  grpc::Status UndrainNode(grpc::ServerContext*, const admin::v1::UndrainNodeRequest*,
                           admin::v1::UndrainNodeResponse*) override;
  grpc::Status ListAllSandboxes(grpc::ServerContext*, const admin::v1::ListAllSandboxesRequest*,
                                admin::v1::ListAllSandboxesResponse*) override;
  grpc::Status ServerStatus(grpc::ServerContext*, const admin::v1::ServerStatusRequest*,
                            admin::v1::ServerStatusResponse*) override;

 private:
  // The caller, an admin; else the status to answer with.
  grpc::Status admit(const grpc::ServerContext& context, identity::Caller& caller) const;
  void end_waiting(const std::string& client_id) const;
  std::string node_name(std::uint64_t key) const;
  grpc::Status find_node(const std::string& name, NodeView& found) const;

  Services services_;
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
};

}  // namespace chalk::server
