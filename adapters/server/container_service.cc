#include "adapters/server/container_service.h"

#include <algorithm>

#include "adapters/api/translate.h"
#include "adapters/server/describe.h"
#include "adapters/server/listing.h"

namespace chalk::server {
namespace {

namespace wire = container::v1;

constexpr int kGraceSecondsMax = 3'600;
constexpr int kFilterEntriesMax = 1'000;

// The client waits for "Running" and takes "Failed" and "Succeeded" for an end; with a lifetime it
// reads "Succeeded" as the lifetime's end.
std::string status_text(const records::Sandbox& sandbox, const node::v1::SandboxNote& note) {
  const std::string word = status_word(sandbox, note);
  if (word == "pending") return "Pending";
  if (word == "running") return "Running";
  if (word == "stopping") return "Stopping";
  if (word == "succeeded") return "Succeeded";
  if (word != "terminated" || !sandbox.ran) return "Failed";
  return sandbox.reason == EndReason::lifetime_reached ? "Succeeded" : "Stopped";
}

void write(const records::Sandbox& from, bool listed, const Waits& waits,
           wire::ContainerResponse* to) {
  const Described about = describe(from);
  write_common(from, about, listed, to);
  to->set_status(status_text(from, about.note));
  const std::string why = status_sentence(from, about, waits);
  if (!why.empty()) to->set_status_message(why);
  if (from.ended.nanos != 0) set_time(from.ended.nanos, to->mutable_stopped_at());
  to->set_pod_name(from.id);
}

bool contains(const auto& list, const std::string& value) {
  return list.empty() || std::ranges::find(list, value) != list.end();
}

}  // namespace

// The client reads no reason for a failure from a container, but shows that of a failed call.
grpc::Status ContainerService::RunContainer(grpc::ServerContext* context,
                                            const wire::RunContainerRequest* request,
                                            wire::RunContainerResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  if (!request->container().has_spec()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "container.spec: found none, expected what to run"};
  }
  const auto made = sandboxes_.create(*context, *caller, request->container().spec(), true);
  if (!made) return made.error();
  if (made->ended.nanos != 0 && !made->ran) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "container " + made->id + " did not start: " +
                status_sentence(*made, describe(*made))};
  }
  write(*made, false, waits_of(sandboxes_.services().plane, {&*made, 1}),
        response->mutable_container());
  return grpc::Status::OK;
}

grpc::Status ContainerService::GetContainer(grpc::ServerContext* context,
                                            const wire::GetContainerRequest* request,
                                            wire::GetContainerResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto found = named(*caller, *request, request->include_stopped());
  if (!found) return found.error();
  write(*found, false, waits_of(sandboxes_.services().plane, {&*found, 1}),
        response->mutable_container());
  return grpc::Status::OK;
}

grpc::Status ContainerService::ListContainers(grpc::ServerContext* context,
                                              const wire::ListContainersRequest* request,
                                              wire::ListContainersResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  if (request->statuses_size() + request->images_size() > kFilterEntriesMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "found " + std::to_string(request->statuses_size() + request->images_size()) +
                " statuses and images, expected at most " + std::to_string(kFilterEntriesMax)};
  }
  ListAsk ask;
  ask.ended = request->include_stopped() || !request->statuses().empty();
  ask.ascending = request->sort_ascending();
  ask.limit = request->limit();
  ask.cursor = request->cursor();
  ask.search = request->search();
  if (!request->statuses().empty() || !request->images().empty()) {
    ask.also = [&](const records::Sandbox& one) {
      const Described about = describe(one);
      return contains(request->statuses(), status_text(one, about.note)) &&
             contains(request->images(), api::public_spec(about.payload).image());
    };
  }
  const auto page = list_page(sandboxes_.services(), *caller, ask);
  if (!page) return page.error();
  const Waits waits = waits_of(sandboxes_.services().plane, page->sandboxes);
  for (const auto& one : page->sandboxes) write(one, true, waits, response->add_containers());
  if (!page->next_cursor.empty()) response->set_next_cursor(page->next_cursor);
  return grpc::Status::OK;
}

grpc::Status ContainerService::StopContainer(grpc::ServerContext* context,
                                             const wire::StopContainerRequest* request,
                                             wire::StopContainerResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  if (request->grace_period_seconds() < 0 || request->grace_period_seconds() > kGraceSecondsMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "grace_period_seconds: found " + std::to_string(request->grace_period_seconds()) +
                ", expected from 0 to " + std::to_string(kGraceSecondsMax)};
  }
  const auto found = named(*caller, *request, true);
  if (!found) return found.error();
  const auto ended = sandboxes_.end(*found, seconds(request->grace_period_seconds()));
  if (!ended) return ended.error();
  write(*ended, false, {}, response->mutable_container());
  return grpc::Status::OK;
}

grpc::Status ContainerService::ExecCommand(grpc::ServerContext* context,
                                           const wire::ExecCommandRequest* request,
                                           wire::ExecCommandResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto found = named(*caller, *request, false);
  if (!found) return found.error();
  CommandAsk ask;
  ask.words = request->command();
  if (request->has_timeout()) ask.timeout = request->timeout();
  ask.input = request->stdin();
  auto done = run_command(sandboxes_, places_, *context, *caller, found->id, ask);
  if (!done) return done.error();
  response->set_stdout(std::move(done->output));
  response->set_stderr(std::move(done->error_output));
  response->set_exit_code(done->exit_code);
  return grpc::Status::OK;
}

}  // namespace chalk::server
