// One client's session stream joined with the channel to the sandbox's node: what either side says
// goes to the other as it is, no faster than the other takes it. A client that vanishes only leaves:
// the node keeps the process and what it writes, and the client may attach again.
#pragma once
#include <grpcpp/grpcpp.h>

#include "adapters/server/places.h"
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"

namespace chalk::server {

// For SandboxProcessService.OpenSession; deletes itself when the call is over.
using SessionReactor = grpc::ServerBidiReactor<sandbox::v2::OpenSessionRequest,
                                               sandbox::v2::OpenSessionResponse>;
SessionReactor* begin_session(TenantSandboxes& sandboxes, Places& places,
                              grpc::CallbackServerContext& context);

}  // namespace chalk::server
