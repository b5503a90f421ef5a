#include "adapters/server/sandbox_service.h"

#include <algorithm>

#include "adapters/api/translate.h"
#include "adapters/server/describe.h"
#include "adapters/server/listing.h"

namespace chalk::server {
namespace {

namespace wire = sandbox::v2;

constexpr std::int64_t kGraceSecondsMax = 3'600;
constexpr int kFilterEntriesMax = 1'000;

wire::SandboxStatus status_of(const records::Sandbox& sandbox, const node::v1::SandboxNote& note) {
  const std::string word = status_word(sandbox, note);
  if (word == "pending") return wire::SANDBOX_STATUS_PENDING;
  if (word == "running" || word == "stopping") return wire::SANDBOX_STATUS_RUNNING;
  if (word == "succeeded") return wire::SANDBOX_STATUS_SUCCEEDED;
  if (word == "failed") return wire::SANDBOX_STATUS_FAILED;
  if (word == "terminated") return wire::SANDBOX_STATUS_TERMINATED;
  return wire::SANDBOX_STATUS_ERROR;
}

void write(const records::Sandbox& from, bool listed, const Waits& waits, wire::SandboxInfo* to) {
  const Described about = describe(from);
  write_common(from, about, listed, to);
  to->set_status(status_of(from, about.note));
  const std::string why = from.status == records::Status::ending
                              ? "it is being stopped"
                              : status_sentence(from, about, waits);
  if (!why.empty()) to->set_status_message(why);
  if (from.ended.nanos != 0) set_time(from.ended.nanos, to->mutable_finished_at());
}

bool contains(const auto& list, const auto& value) {
  return list.empty() || std::ranges::find(list, value) != list.end();
}

bool matches(const wire::ListSandboxesFilters& filters, const records::Sandbox& one) {
  if (!contains(filters.names(), one.name)) return false;
  if (filters.statuses().empty() && filters.images().empty() && filters.created_by().empty() &&
      filters.tags().empty()) {
    return true;
  }
  const Described about = describe(one);
  if (!contains(filters.statuses(), static_cast<int>(status_of(one, about.note)))) return false;
  if (!contains(filters.created_by(), about.payload.created_by())) return false;
  const auto spec = api::public_spec(about.payload);
  if (!contains(filters.images(), spec.image())) return false;
  for (const auto& [name, value] : filters.tags()) {
    const auto found = spec.tags().find(name);
    if (found == spec.tags().end() || found->second != value) return false;
  }
  return true;
}

}  // namespace

grpc::Status SandboxService::CreateSandbox(grpc::ServerContext* context,
                                           const wire::CreateSandboxRequest* request,
                                           wire::CreateSandboxResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  if (!request->snapshot_id().empty()) {
    return {grpc::StatusCode::UNIMPLEMENTED,
            "snapshot_id is not supported by this server: snapshots come in a later release"};
  }
  if (!request->has_spec()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "spec: found none, expected what to run"};
  }
  const auto made = sandboxes_.create(*context, *caller, request->spec(), false);
  if (!made) return made.error();
  write(*made, false, waits_of(sandboxes_.services().plane, {&*made, 1}),
        response->mutable_sandbox());
  return grpc::Status::OK;
}

grpc::Status SandboxService::GetSandbox(grpc::ServerContext* context,
                                        const wire::GetSandboxRequest* request,
                                        wire::GetSandboxResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto found = sandboxes_.find(*caller, request->id());
  if (!found) return found.error();
  write(*found, false, waits_of(sandboxes_.services().plane, {&*found, 1}),
        response->mutable_sandbox());
  return grpc::Status::OK;
}

grpc::Status SandboxService::ListSandboxes(grpc::ServerContext* context,
                                           const wire::ListSandboxesRequest* request,
                                           wire::ListSandboxesResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto& filters = request->filters();
  const int entries = filters.names_size() + filters.statuses_size() + filters.images_size() +
                      filters.created_by_size() + static_cast<int>(filters.tags().size());
  if (entries > kFilterEntriesMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "filters: found " + std::to_string(entries) + " entries, expected at most " +
                std::to_string(kFilterEntriesMax)};
  }
  ListAsk ask;
  ask.ascending = request->sort_order() == wire::SANDBOX_SORT_ORDER_ASC;
  ask.limit = request->limit();
  ask.cursor = request->cursor();
  ask.search = request->search();
  if (request->has_filters()) {
    ask.also = [&](const records::Sandbox& one) { return matches(filters, one); };
  }
  const auto page = list_page(sandboxes_.services(), *caller, ask);
  if (!page) return page.error();
  const Waits waits = waits_of(sandboxes_.services().plane, page->sandboxes);
  for (const auto& one : page->sandboxes) write(one, true, waits, response->add_sandboxes());
  if (!page->next_cursor.empty()) response->set_next_cursor(page->next_cursor);
  return grpc::Status::OK;
}

// Without a grace period nothing is waited for: the usual main process, sleep, heeds no signal.
grpc::Status SandboxService::TerminateSandbox(grpc::ServerContext* context,
                                              const wire::TerminateSandboxRequest* request,
                                              wire::TerminateSandboxResponse*) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto& grace = request->grace_period();
  if (grace.seconds() < 0 || grace.nanos() < 0 || grace.nanos() >= 1'000'000'000 ||
      grace.seconds() > kGraceSecondsMax) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "grace_period: found " + std::to_string(grace.seconds()) +
                " s, expected from 0 to " + std::to_string(kGraceSecondsMax) + " s"};
  }
  const auto found = sandboxes_.find(*caller, request->id());
  if (!found) return found.error();
  const auto ended =
      sandboxes_.end(*found, Duration{grace.seconds() * 1'000'000'000 + grace.nanos()});
  return ended ? grpc::Status::OK : ended.error();
}

grpc::Status SandboxService::SuspendSandbox(grpc::ServerContext* context,
                                            const wire::SuspendSandboxRequest*,
                                            wire::SuspendSandboxResponse*) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  return {grpc::StatusCode::UNIMPLEMENTED,
          "sandboxes cannot be suspended by this server yet; terminate it and create it anew"};
}

grpc::Status SandboxService::ResumeSandbox(grpc::ServerContext* context,
                                           const wire::ResumeSandboxRequest*,
                                           wire::ResumeSandboxResponse*) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  return {grpc::StatusCode::UNIMPLEMENTED,
          "sandboxes cannot be suspended by this server yet, so there is nothing to resume"};
}

}  // namespace chalk::server
