#include "adapters/server/admin_service.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "adapters/api/shown.h"
#include "adapters/server/describe.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"

#ifndef CHALK_COMMIT
#define CHALK_COMMIT "unknown"
#endif

namespace chalk::server {
namespace {

constexpr std::uint32_t kRowsMax = 10'000;
constexpr std::uint32_t kRowsUsual = 1'000;
constexpr std::uint64_t kNodeTokenSeconds = 3'600;
constexpr std::uint64_t kNodeTokenSecondsMax = 30 * 86'400;

void set_seconds(identity::UnixSeconds seconds, google::protobuf::Timestamp* out) {
  out->set_seconds(seconds);
}

void write(const identity::Environment& from, admin::v1::Environment* to) {
  to->set_id(from.id);
  to->set_name(from.name);
  to->set_tenant(from.tenant);
  set_seconds(from.created, to->mutable_created_at());
}

}  // namespace

AdminService::AdminService(const Services& services) : services_(services) {}

grpc::Status AdminService::admit(const grpc::ServerContext& context,
                                 identity::Caller& caller) const {
  auto known = authenticate(services_, context);
  if (!known) return unauthenticated(known.error());
  if (known->role != identity::Role::admin) {
    return {grpc::StatusCode::PERMISSION_DENIED,
            "this call needs the role admin; client " + known->client_id + " has the role user"};
  }
  caller = std::move(*known);
  return grpc::Status::OK;
}

std::string AdminService::node_name(std::uint64_t key) const {
  const auto node = services_.nodes.connected(key);
  return node && !node->name.empty() ? node->name : "node-" + std::to_string(key);
}

grpc::Status AdminService::CreateEnvironment(grpc::ServerContext* context,
                                             const admin::v1::CreateEnvironmentRequest* request,
                                             admin::v1::Environment* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const std::string& name = request->name().empty() ? request->id() : request->name();
  const auto made = services_.identities.create_environment(name, request->id());
  if (!made) return to_status(made.error());
  // Where the log cannot take it now, the environment's first sandbox adds it.
  (void)services_.plane.add_tenant(TenantId{made->tenant});
  write(*made, response);
  return grpc::Status::OK;
}

grpc::Status AdminService::ListEnvironments(grpc::ServerContext* context,
                                            const admin::v1::ListEnvironmentsRequest*,
                                            admin::v1::ListEnvironmentsResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const auto all = services_.identities.list_environments();
  if (!all) return to_status(all.error());
  for (const auto& one : *all) write(one, response->add_environments());
  return grpc::Status::OK;
}

grpc::Status AdminService::CreateClient(grpc::ServerContext* context,
                                        const admin::v1::CreateClientRequest* request,
                                        admin::v1::CreateClientResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const auto role = identity::role_from_name(request->role().empty() ? "user" : request->role());
  if (!role) return to_status(role.error());
  const std::string& environment =
      request->environment().empty() ? caller.environment : request->environment();
  const auto made = services_.identities.create_client(environment, *role);
  if (!made) return to_status(made.error());
  response->set_client_id(made->client_id);
  response->set_client_secret(made->secret);
  return grpc::Status::OK;
}

grpc::Status AdminService::ListClients(grpc::ServerContext* context,
                                       const admin::v1::ListClientsRequest* request,
                                       admin::v1::ListClientsResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  if (!request->environment().empty()) {
    const auto known = services_.identities.environment(request->environment());
    if (!known) return to_status(known.error());
  }
  const auto all = services_.identities.list_clients(request->environment());
  if (!all) return to_status(all.error());
  for (const auto& one : *all) {
    auto* client = response->add_clients();
    client->set_client_id(one.client_id);
    client->set_environment(one.environment);
    client->set_role(std::string(identity::role_name(one.role)));
    set_seconds(one.created, client->mutable_created_at());
    if (one.revoked != 0) set_seconds(one.revoked, client->mutable_revoked_at());
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::RevokeClient(grpc::ServerContext* context,
                                        const admin::v1::RevokeClientRequest* request,
                                        admin::v1::RevokeClientResponse*) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  if (request->client_id() == caller.client_id) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "a client cannot revoke itself: nobody might be left to undo it; use another admin"};
  }
  const auto done = services_.identities.revoke_client(request->client_id());
  if (!done && done.error().kind == Error::Kind::not_found) {
    return {grpc::StatusCode::NOT_FOUND,
            "no client has the id " + api::shown(request->client_id()) + "; see the list of clients"};
  }
  if (!done) return to_status(done.error());
  end_waiting(request->client_id());
  return grpc::Status::OK;
}

// What the client asked for and nobody has got yet. What has run is its environment's, and stays.
void AdminService::end_waiting(const std::string& client_id) const {
  records::Records::Filter filter;
  filter.ended = false;
  filter.limit = std::numeric_limits<std::size_t>::max();
  const auto waits = [&](const records::Sandbox& one) {
    node::v1::SandboxPayload payload;
    return one.status == records::Status::pending && !one.ran &&
           payload.ParseFromString(one.payload) && payload.created_by() == client_id;
  };
  for (const records::Sandbox& one : services_.plane.records().list(filter, waits)) {
    (void)services_.plane.terminate(one.sandbox, {});
  }
}

grpc::Status AdminService::CreateNodeToken(grpc::ServerContext* context,
                                           const admin::v1::CreateNodeTokenRequest* request,
                                           admin::v1::CreateNodeTokenResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const std::uint64_t life =
      request->valid_seconds() == 0 ? kNodeTokenSeconds : request->valid_seconds();
  if (life > kNodeTokenSecondsMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "valid_seconds: found " + std::to_string(life) + ", expected at most " +
                std::to_string(kNodeTokenSecondsMax) + " (30 days)"};
  }
  const auto made = services_.identities.create_node_token(
      request->uses() == 0 ? 1 : request->uses(), static_cast<identity::UnixSeconds>(life));
  if (!made) return to_status(made.error());
  response->set_join_token(made->token);
  return grpc::Status::OK;
}

grpc::Status AdminService::ListNodes(grpc::ServerContext* context,
                                     const admin::v1::ListNodesRequest*,
                                     admin::v1::ListNodesResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const auto nodes = services_.plane.nodes(true);
  if (!nodes) return to_status(nodes.error());
  for (const NodeView& view : *nodes) {
    auto* node = response->add_nodes();
    node->set_name(node_name(view.key));
    node->set_draining(view.draining);
    if (!view.node) continue;  // it is away
    const auto link = services_.nodes.connected(view.key);
    node->set_node(view.node.value);
    node->set_connected(link.has_value());
    node->set_pool(std::to_string(view.pool.value));
    node->set_zone(std::to_string(view.zone.value));
    node->set_cpu_millicores(view.shape.cpu_millicores);
    node->set_memory_bytes(view.shape.memory_bytes);
    node->set_disk_bytes(view.shape.disk_bytes);
    node->set_cpu_millicores_used(view.cpu_millicores_used);
    node->set_memory_bytes_used(view.memory_bytes_used);
    node->set_disk_bytes_used(view.disk_bytes_used);
    node->set_sandboxes(view.sandboxes);
    node->set_gpus(view.shape.gpus);
    if (link) {
      node->set_runtime(link->runtime);
      node->set_agent_version(link->agent_version);
    }
    if (view.owner) {
      const auto owner = services_.identities.environment_of_tenant(
          static_cast<std::uint32_t>(view.owner.value));
      node->set_owner(owner ? owner->id : "tenant-" + std::to_string(view.owner.value));
    }
  }
  return grpc::Status::OK;
}

// By its number from the list of nodes, by node-KEY, or by its name. One that is drained and away has
// no number. A node names itself: another's number or key as a name takes nothing from that one.
grpc::Status AdminService::find_node(const std::string& asked, NodeView& found) const {
  const auto nodes = services_.plane.nodes(true);
  if (!nodes) return to_status(nodes.error());
  int named = 0;
  std::string known;
  for (const NodeView& view : *nodes) {
    if ("node-" + std::to_string(view.key) == asked ||
        (view.node && std::to_string(view.node.value) == asked)) {
      found = view;
      return grpc::Status::OK;
    }
    const std::string name = node_name(view.key);
    if (name == asked) {
      found = view;
      ++named;
    }
    if (known.size() < 500) known += (known.empty() ? "" : ", ") + name;
  }
  if (named == 0) {
    return {grpc::StatusCode::NOT_FOUND,
            "no node is called " + api::shown(asked) +
                (known.empty() ? "; no node has joined" : "; there are " + known)};
  }
  if (named > 1) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            std::to_string(named) + " nodes are called " + api::shown(asked) +
                "; name one by its number from the list of nodes"};
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::DrainNode(grpc::ServerContext* context,
                                     const admin::v1::DrainNodeRequest* request,
                                     admin::v1::DrainNodeResponse*) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  NodeView node;
  if (auto status = find_node(request->name(), node); !status.ok()) return status;
  if (!node.node) return grpc::Status::OK;  // it is drained, and away
  const auto done = services_.plane.drain(node.node);
  return done ? grpc::Status::OK : to_status(done.error());
}

grpc::Status AdminService::UndrainNode(grpc::ServerContext* context,
                                       const admin::v1::UndrainNodeRequest* request,
                                       admin::v1::UndrainNodeResponse*) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  NodeView node;
  if (auto status = find_node(request->name(), node); !status.ok()) return status;
  const auto done = services_.plane.undrain(node.key);
  return done ? grpc::Status::OK : to_status(done.error());
}

grpc::Status AdminService::ListAllSandboxes(grpc::ServerContext* context,
                                            const admin::v1::ListAllSandboxesRequest* request,
                                            admin::v1::ListAllSandboxesResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  records::Records::Filter filter;
  filter.ended = request->include_ended();
  filter.limit = std::min(request->limit() == 0 ? kRowsUsual : request->limit(), kRowsMax);
  std::map<NodeId, std::string> names;
  const auto nodes = services_.plane.nodes();
  if (!nodes) return to_status(nodes.error());
  for (const NodeView& view : *nodes) names[view.node] = node_name(view.key);
  const std::vector<records::Sandbox> found = services_.plane.records().list(filter);
  const Waits waits = waits_of(services_.plane, found);
  for (const records::Sandbox& one : found) {
    const Described about = describe(one);
    auto* row = response->add_sandboxes();
    row->set_id(one.id);
    row->set_name(one.name);
    row->set_environment(about.payload.environment());
    row->set_status(status_word(one, about.note));
    row->set_status_message(status_sentence(one, about, waits));
    const auto name = names.find(one.node);
    row->set_node(!about.note.node_name().empty() ? about.note.node_name()
                  : name != names.end()           ? name->second
                                                  : "");
    row->set_image(about.image);
    row->set_restarts(one.restarts);
    set_time(one.created.nanos, row->mutable_created_at());
  }
  return grpc::Status::OK;
}

grpc::Status AdminService::ServerStatus(grpc::ServerContext* context,
                                        const admin::v1::ServerStatusRequest*,
                                        admin::v1::ServerStatusResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  response->set_version(CHALK_COMMIT);
  response->set_fenced(services_.plane.fenced());
  response->set_sandboxes(services_.plane.records().live());
  response->set_nodes_connected(services_.nodes.connected().size());
  // A server that has lost its log says so; it has no machine to be asked any more.
  if (!services_.plane.fenced()) {
    const auto log = services_.plane.log_state();
    if (!log) return to_status(log.error());
    const auto nodes = services_.plane.nodes();
    if (!nodes) return to_status(nodes.error());
    const auto pending = services_.plane.pending();
    if (!pending) return to_status(pending.error());
    response->set_log_first(log->first);
    response->set_log_next(log->next);
    response->set_nodes(nodes->size());
    response->set_pending(*pending);
  }
  set_time(std::chrono::duration_cast<std::chrono::nanoseconds>(started_.time_since_epoch()).count(),
           response->mutable_started_at());
  return grpc::Status::OK;
}

}  // namespace chalk::server
