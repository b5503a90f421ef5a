#include "adapters/server/process_service.h"

#include "adapters/api/shown.h"
#include "adapters/server/command.h"
#include "adapters/server/node_hub.h"

namespace chalk::server {
namespace {

namespace wire = sandbox::v2;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kListWait = 20s;
constexpr std::size_t kSessionBytesMax = 256;

}  // namespace

grpc::Status ProcessService::ExecCommand(grpc::ServerContext* context,
                                         const wire::ExecCommandRequest* request,
                                         wire::ExecCommandResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  CommandAsk ask;
  *ask.words.Add() = request->command();
  ask.words.MergeFrom(request->args());
  ask.variables = request->env_vars();
  ask.workdir = request->workdir();
  if (request->has_timeout()) ask.timeout = request->timeout();
  ask.input = request->stdin();
  auto done = run_command(sandboxes_, places_, *context, *caller, request->sandbox_id(), ask);
  if (!done) return done.error();
  response->set_stdout(std::move(done->output));
  response->set_stderr(std::move(done->error_output));
  response->set_exit_code(done->exit_code);
  return grpc::Status::OK;
}

Answer<node::v1::SessionList> ProcessService::sessions(const grpc::ServerContextBase& context,
                                                       const std::string& sandbox,
                                                       const std::string& session) {
  const auto caller = sandboxes_.admit(context);
  if (!caller) return std::unexpected(caller.error());
  const auto found = sandboxes_.find(*caller, sandbox);
  if (!found) return std::unexpected(found.error());
  if (!found->node) return node::v1::SessionList();  // it has never been anywhere
  const auto place = places_.take(caller->tenant);
  if (!place) {
    return std::unexpected(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()));
  }
  node::v1::Open open;
  open.set_sandbox(found->sandbox.value);
  open.mutable_list_sessions()->set_session(session);
  const auto channel = sandboxes_.services().nodes.open(found->node, open);
  if (!channel) return std::unexpected(to_status(channel.error()));
  auto message = (*channel)->receive(kListWait);
  (*channel)->close();
  if (!message) return std::unexpected(to_status(message.error()));
  if (!*message) {
    return std::unexpected(
        grpc::Status(grpc::StatusCode::UNAVAILABLE, "the sandbox's node went away; try again"));
  }
  if ((*message)->has_failure()) {
    return std::unexpected(TenantSandboxes::failed((*message)->failure()));
  }
  return std::move(*(*message)->mutable_sessions());
}

grpc::Status ProcessService::GetSession(grpc::ServerContext* context,
                                        const wire::GetSessionRequest* request,
                                        wire::GetSessionResponse* response) {
  if (request->session_id().empty() || request->session_id().size() > kSessionBytesMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "session_id: found " + api::shown(request->session_id()) +
                ", expected the id of a session"};
  }
  auto found = sessions(*context, request->sandbox_id(), request->session_id());
  if (!found) return found.error();
  if (found->sessions().empty()) {
    return {grpc::StatusCode::NOT_FOUND, "sandbox " + api::shown(request->sandbox_id()) +
                                             " has no session " +
                                             api::shown(request->session_id())};
  }
  *response->mutable_session() = std::move(*found->mutable_sessions(0));
  response->mutable_session()->mutable_new_process()->set_sandbox_id(request->sandbox_id());
  return grpc::Status::OK;
}

grpc::Status ProcessService::ListSessions(grpc::ServerContext* context,
                                          const wire::ListSessionsRequest* request,
                                          wire::ListSessionsResponse* response) {
  auto found = sessions(*context, request->sandbox_id(), "");
  if (!found) return found.error();
  for (auto& session : *found->mutable_sessions()) {
    session.mutable_new_process()->set_sandbox_id(request->sandbox_id());
    *response->add_sessions() = std::move(session);
  }
  return grpc::Status::OK;
}

}  // namespace chalk::server
