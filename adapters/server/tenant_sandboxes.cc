#include "adapters/server/tenant_sandboxes.h"

#include <algorithm>

#include "adapters/api/ids.h"
#include "adapters/api/shown.h"
#include "adapters/api/translate.h"
#include "adapters/server/describe.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kStartWait = 5s;
constexpr std::chrono::milliseconds kEndWait = 5s;
constexpr std::chrono::milliseconds kRunningWaitMax = 300s;
constexpr std::chrono::milliseconds kLookAtStart = 250ms;
constexpr std::chrono::milliseconds kLook = 1s;  // how often a waiting call's client is checked

bool settled(const records::Sandbox& one) { return one.status != records::Status::pending; }

grpc::Status objected(const api::Objection& objection) {
  return {objection.why == api::Objection::Why::invalid ? grpc::StatusCode::INVALID_ARGUMENT
                                                        : grpc::StatusCode::UNIMPLEMENTED,
          objection.message};
}

grpc::Status refused(const Error& error) { return to_status(error); }

}  // namespace

TenantSandboxes::TenantSandboxes(const Services& services, std::size_t resolving_max,
                                 std::size_t resolving_of_tenant_max)
    : services_(services),
      resolving_(resolving_max, resolving_of_tenant_max, "creations that wait for their images") {}

Answer<identity::Caller> TenantSandboxes::admit(const grpc::ServerContextBase& context) const {
  auto caller = authenticate(services_, context);
  if (!caller) return std::unexpected(unauthenticated(caller.error()));
  return std::move(*caller);
}

CallWatch::Watched TenantSandboxes::watch(grpc::ServerContextBase& context) {
  return {watch_, context, [this, &context] { return may_go_on(services_, context); }};
}

Answer<Result<KnownImage>> TenantSandboxes::resolve(const grpc::ServerContextBase& context,
                                                    const identity::Caller& caller,
                                                    const std::string& image) {
  const auto place = resolving_.take(caller.tenant);
  if (!place) {
    return std::unexpected(
        grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, resolving_.full()));
  }
  return services_.images.resolve(image, [&] { return context.IsCancelled(); });
}

// A pool of given nodes says of no request that it can never be met: more nodes may come. For people
// it is better to hear now that none of those that are there could ever do it.
grpc::Status TenantSandboxes::check_room(const std::string& gpu, const Resources& ask) {
  const auto has_room = [&](const NodeShape& shape) { return fits(shape, ask); };
  {
    const std::lock_guard lock(mutex_);
    if (std::ranges::any_of(shapes_, has_room)) return grpc::Status::OK;
  }
  const auto nodes = services_.plane.nodes();
  if (!nodes) return to_status(nodes.error());
  std::vector<NodeShape> shapes;
  for (const NodeView& node : *nodes) {
    if (node.shape.cpu_millicores > 0) shapes.push_back(node.shape);
  }
  const std::lock_guard lock(mutex_);
  shapes_ = std::move(shapes);
  if (std::ranges::any_of(shapes_, has_room)) return grpc::Status::OK;
  NodeShape most;
  for (const NodeShape& shape : shapes_) {
    most.cpu_millicores = std::max(most.cpu_millicores, shape.cpu_millicores);
    most.memory_bytes = std::max(most.memory_bytes, shape.memory_bytes);
    most.disk_bytes = std::max(most.disk_bytes, shape.disk_bytes);
    most.gpus = std::max(most.gpus, shape.gpus);
  }
  if (ask.gpus > most.gpus) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            (most.gpus == 0 ? "no node pool offers a GPU: asked "
                            : "no node has as many GPUs: asked ") +
                gpu + ", offered " + std::to_string(most.gpus)};
  }
  if (shapes_.empty()) return grpc::Status::OK;  // it waits for the first node
  return {grpc::StatusCode::INVALID_ARGUMENT,
          "no node is large enough: asked cpu " + std::to_string(ask.cpu_millicores) +
              "m, memory " + bytes_text(ask.memory_bytes) + ", disk " +
              bytes_text(ask.disk_bytes) + "; the most that a node has is cpu " +
              std::to_string(most.cpu_millicores) + "m, memory " + bytes_text(most.memory_bytes) +
              ", disk " + bytes_text(most.disk_bytes)};
}

Answer<records::Sandbox> TenantSandboxes::create(const grpc::ServerContextBase& context,
                                                 const identity::Caller& caller,
                                                 const container::v1::ChalkContainerSpec& spec,
                                                 bool container) {
  auto asked = api::translate(spec);
  if (!asked) return std::unexpected(objected(asked.error()));
  if (auto room = check_room(asked->gpu, asked->resources); !room.ok()) {
    return std::unexpected(room);
  }
  const auto resolved = resolve(context, caller, asked->image);
  if (!resolved) return std::unexpected(resolved.error());
  const Result<KnownImage>& image = *resolved;
  if (!image) {
    return std::unexpected(to_status(
        {image.error().kind, "image " + api::shown(asked->image, 200) + ": " + image.error().message}));
  }
  if (auto taken = api::take_image(image->image, *asked); !taken) {
    return std::unexpected(objected(taken.error()));
  }
  asked->payload.set_environment(caller.environment);
  asked->payload.set_created_by(caller.client_id);
  asked->payload.set_is_container(container);
  SandboxAsk ask;
  ask.tenant = TenantId{caller.tenant};
  ask.resources = asked->resources;
  ask.image = image->id;
  ask.pool = PoolId{};
  ask.lifetime = asked->lifetime;
  ask.restart = asked->restart;
  ask.priority = asked->priority;
  ask.gang = asked->gang;
  ask.payload = asked->payload.SerializeAsString();
  // The registry may have taken minutes.
  if (auto wanted = still_wanted(context); !wanted.ok()) return std::unexpected(wanted);
  if (const auto added = services_.plane.add_tenant(ask.tenant); !added) {
    return std::unexpected(to_status(added.error()));
  }
  const auto id = services_.plane.create(ask);
  if (!id) return std::unexpected(refused(id.error()));
  return begun(context, *id);
}

// Whether its client is there, and may go on.
grpc::Status TenantSandboxes::still_wanted(const grpc::ServerContextBase& context) const {
  if (context.IsCancelled()) return {grpc::StatusCode::CANCELLED, "the client has gone away"};
  return may_go_on(services_, context);
}

// How it is when it has started, or after a while. A client that is gone by then was told no id, so
// nobody else would ever end it.
Answer<records::Sandbox> TenantSandboxes::begun(const grpc::ServerContextBase& context,
                                                SandboxId id) const {
  const auto until = std::chrono::steady_clock::now() + kStartWait;
  while (true) {
    auto sandbox = services_.plane.records().wait(id, kLookAtStart, settled);
    if (auto wanted = still_wanted(context); !wanted.ok()) {
      (void)services_.plane.terminate(id, {});
      return std::unexpected(wanted);
    }
    if (!sandbox) {
      return std::unexpected(grpc::Status(
          grpc::StatusCode::INTERNAL,
          "sandbox " + api::sandbox_text_id(id) + " was accepted and is not on record"));
    }
    if (settled(*sandbox) || std::chrono::steady_clock::now() >= until) return std::move(*sandbox);
  }
}

Answer<records::Sandbox> TenantSandboxes::find(const identity::Caller& caller,
                                               const std::string& id) const {
  if (const auto sandbox = api::parse_sandbox_id(id)) {
    auto found = services_.plane.records().find(*sandbox);
    if (found && found->tenant == TenantId{caller.tenant}) return std::move(*found);
  }
  return std::unexpected(grpc::Status(
      grpc::StatusCode::NOT_FOUND, "sandbox " + api::shown(id) + " is not in the environment " +
                                       caller.environment));
}

Answer<records::Sandbox> TenantSandboxes::find_named(const identity::Caller& caller,
                                                     const std::string& name, bool ended) const {
  records::Records::Filter filter;
  filter.tenant = TenantId{caller.tenant};
  filter.name = name;
  filter.limit = 1;
  for (const bool also_ended : {false, true}) {
    if (name.empty() || (also_ended && !ended)) continue;
    filter.ended = also_ended;
    auto found = services_.plane.records().list(filter);
    if (!found.empty()) return std::move(found.front());
  }
  return std::unexpected(grpc::Status(
      grpc::StatusCode::NOT_FOUND, "no sandbox named " + api::shown(name) +
                                       (ended ? " is" : " lives") + " in the environment " +
                                       caller.environment));
}

grpc::Status TenantSandboxes::not_running(const records::Sandbox& sandbox) {
  const std::string why = status_sentence(sandbox, describe(sandbox));
  return {grpc::StatusCode::FAILED_PRECONDITION,
          "sandbox " + sandbox.id + " does not run" + (why.empty() ? " any more" : ": " + why)};
}

Answer<records::Sandbox> TenantSandboxes::running(const grpc::ServerContextBase& context,
                                                  const identity::Caller& caller,
                                                  const std::string& id) const {
  auto sandbox = find(caller, id);
  if (!sandbox) return sandbox;
  const auto until = std::min(std::chrono::system_clock::now() + kRunningWaitMax,
                              context.deadline());
  while (!settled(*sandbox)) {
    if (context.IsCancelled()) return std::unexpected(grpc::Status::CANCELLED);
    if (std::chrono::system_clock::now() >= until) {
      return std::unexpected(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED,
                                          "sandbox " + id + " has not started yet"));
    }
    auto later = services_.plane.records().wait(sandbox->sandbox, kLook, settled);
    if (!later) return find(caller, id);
    sandbox = std::move(*later);
  }
  if (sandbox->status != records::Status::running) return std::unexpected(not_running(*sandbox));
  return sandbox;
}

Answer<records::Sandbox> TenantSandboxes::end(const records::Sandbox& sandbox,
                                              Duration grace) const {
  if (sandbox.ended.nanos != 0) return sandbox;
  const auto done = services_.plane.terminate(sandbox.sandbox, grace);
  if (!done) return std::unexpected(to_status(done.error()));
  auto later = services_.plane.records().wait(
      sandbox.sandbox, kEndWait, [](const records::Sandbox& one) { return one.ended.nanos != 0; });
  return later ? std::move(*later) : sandbox;
}

grpc::Status TenantSandboxes::failed(const node::v1::Failure& failure) {
  using Kind = Error::Kind;
  static constexpr Kind kKinds[] = {Kind::failed,    Kind::invalid,     Kind::not_found,
                                    Kind::denied,    Kind::exhausted,   Kind::unavailable,
                                    Kind::timeout,   Kind::corrupt};
  const auto at = static_cast<std::size_t>(failure.kind());
  return to_status({at < std::size(kKinds) ? kKinds[at] : Kind::failed, failure.message()});
}

}  // namespace chalk::server
