#include "adapters/records/words.h"

#include "model/core/resources.h"
#include "model/tenancy/tenancy.h"

namespace chalk::records {
namespace {

std::string numbers(const sandbox::Refused& refused, const char* unit) {
  return std::to_string(refused.needed) + unit + " asked, " + std::to_string(refused.in_use) +
         unit + " in use, " + std::to_string(refused.limit) + unit + " allowed";
}

std::string admission_text(const sandbox::Refused& refused) {
  using tenancy::Rule;
  switch (static_cast<Rule>(refused.admission_rule)) {
    case Rule::unknown_tenant: return "this environment is not known to the scheduler";
    case Rule::quota_cpu: return "quota of cpu: " + numbers(refused, " millicores");
    case Rule::quota_memory:
      return "quota of memory: " + bytes_text(refused.needed) + " asked, " +
             bytes_text(refused.in_use) + " in use, " + bytes_text(refused.limit) + " allowed";
    case Rule::quota_gpu: return "quota of GPUs, in thousandths: " + numbers(refused, "");
    case Rule::quota_sandboxes: return "quota of sandboxes: " + numbers(refused, "");
    case Rule::pending_limit: return "too many sandboxes wait for room: " + numbers(refused, "");
    case Rule::pending_limit_of_tenant:
      return "too many sandboxes of this environment wait for room: " + numbers(refused, "");
    case Rule::gang_never_fits:
      return "all nodes together never hold the gang at once: " + numbers(refused, " sandboxes");
  }
  return "refused by admission rule " + std::to_string(refused.admission_rule);
}

}  // namespace

std::string refusal_text(const sandbox::Refused& refused) {
  using sandbox::Refusal;
  switch (refused.rule) {
    case Refusal::unknown_image: return "the image is not known to the scheduler";
    case Refusal::sandboxes_limit: return "too many sandboxes live: " + numbers(refused, "");
    case Refusal::keys_limit: return "too many idempotency keys: " + numbers(refused, "");
    case Refusal::lifetime_too_long:
      return "the lifetime is " + duration_text({refused.needed}) + ", at most " +
             duration_text({refused.limit}) + " is allowed";
    case Refusal::no_resources: return "the resources asked for mean nothing, such as 1.5 GPUs";
    case Refusal::never_fits: return "no node of any pool is large enough";
    case Refusal::gang_size:
      return "the gang has another size or all of its sandboxes: " + numbers(refused, "");
    case Refusal::admission: return admission_text(refused);
  }
  return "refused";
}

std::string end_reason_text(EndReason reason) {
  switch (reason) {
    case EndReason::exited: return "its main process ended";
    case EndReason::terminated: return "it was terminated";
    case EndReason::lifetime_reached: return "its lifetime was reached";
    case EndReason::start_failed: return "it could not be started";
    case EndReason::pull_failed: return "its image could not be pulled";
    case EndReason::out_of_memory: return "it ran out of memory";
    case EndReason::node_lost: return "its node was lost";
    case EndReason::agent_restarted: return "its node was restarted";
    case EndReason::bad_image: return "its image cannot be pulled";
    case EndReason::gang_ended: return "another sandbox of its gang ended";
    case EndReason::preempted: return "it made way for a more important sandbox of its tenant";
  }
  return "it ended";
}

}  // namespace chalk::records
