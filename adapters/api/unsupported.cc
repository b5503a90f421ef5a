#include "adapters/api/unsupported.h"

#include <google/protobuf/unknown_field_set.h>

#include "adapters/api/shown.h"

namespace chalk::api {
namespace {

namespace wire = container::v1;

std::unexpected<Objection> not_yet(const std::string& field, const std::string& why) {
  return std::unexpected(
      Objection{Objection::Why::unimplemented, field + " is not supported by this server: " + why});
}

template <class Enum>
std::unexpected<Objection> strange(const char* field, Enum found) {
  return std::unexpected(Objection{Objection::Why::invalid,
                                   std::string(field) + ": found " +
                                       std::to_string(static_cast<int>(found)) +
                                       ", expected a value that the protocol knows"});
}

// What must hold for each enumeration: only values that are known, and of these those that are done or
// mean what happens anyway.
std::expected<void, Objection> check_choices(const wire::ChalkContainerSpec& spec) {
  switch (spec.restart_policy()) {
    case wire::RESTART_POLICY_UNSPECIFIED:
    case wire::RESTART_POLICY_NEVER:
    case wire::RESTART_POLICY_ALWAYS: break;
    default: return strange("restart_policy", spec.restart_policy());
  }
  switch (spec.security_policy().kernel_policy()) {
    case wire::KERNEL_POLICY_UNSPECIFIED:
    case wire::KERNEL_POLICY_RESTRICTED: break;
    case wire::KERNEL_POLICY_OPEN:
      return not_yet("security_policy.kernel_policy OPEN", "every sandbox has gVisor's kernel");
    default: return strange("kernel_policy", spec.security_policy().kernel_policy());
  }
  switch (spec.execution_target().backend()) {
    case wire::EXECUTION_BACKEND_UNSPECIFIED:
    case wire::EXECUTION_BACKEND_ENVIRONMENT: break;
    case wire::EXECUTION_BACKEND_SERVERLESS:
      return not_yet("execution_target SERVERLESS", "there are only this server's own nodes");
    default: return strange("execution_target", spec.execution_target().backend());
  }
  switch (spec.compute_class()) {  // all nodes are hosts that run gVisor
    case wire::COMPUTE_CLASS_UNSPECIFIED:
    case wire::COMPUTE_CLASS_K8S:
    case wire::COMPUTE_CLASS_HOST: break;
    default: return strange("compute_class", spec.compute_class());
  }
  const std::string& protocol = spec.protocol();
  if (!protocol.empty() && protocol != "http" && protocol != "grpc" && protocol != "tcp") {
    return std::unexpected(
        Objection{Objection::Why::invalid, "protocol: found " + shown(protocol) +
                                               ", expected \"http\", \"grpc\" or \"tcp\""});
  }
  return {};
}

}  // namespace

std::expected<void, Objection> check_supported(const wire::ChalkContainerSpec& spec) {
  const auto& unknown = spec.GetReflection()->GetUnknownFields(spec);
  if (!unknown.empty()) {
    return not_yet("field " + std::to_string(unknown.field(0).number()) + " of the specification",
                   "it is not known here; the client may be newer");
  }
  if (!spec.volumes().empty()) {
    return not_yet("volumes", "they come in a later release; use the files API for small files");
  }
  if (!spec.secret_refs().empty()) {
    return not_yet("secret_refs", "secrets come in a later release; use env for now");
  }
  if (spec.has_network_policy()) {
    return not_yet("network_policy", "rules of single sandboxes come in a later release");
  }
  if (spec.has_chalk_workload_identity()) {
    return not_yet("chalk_workload_identity", "identities of sandboxes come in a later release");
  }
  if (spec.enable_ssh()) return not_yet("enable_ssh", "use exec or a session instead");
  if (!spec.managed_ssh().empty()) return not_yet("managed_ssh", "it comes in a later release");
  if (!spec.restore_from_snapshot_id().empty()) {
    return not_yet("restore_from_snapshot_id", "snapshots come in a later release");
  }
  if (!spec.host_placement().host_pool_id().empty()) {
    return not_yet("host_placement.host_pool_id", "the server picks the node");
  }
  if (!spec.resource_detection().detectors().empty()) {
    return not_yet("resource_detection", "traffic is not inspected");
  }
  if (!spec.routing().empty()) return not_yet("routing", "a port is published on its node");
  if (!spec.authentication().empty()) {
    return not_yet("authentication", "who can reach a published port can use it");
  }
  return check_choices(spec);
}

}  // namespace chalk::api
