#include "adapters/server/detail_service.h"

#include <algorithm>
#include <array>
#include <memory>

#include "adapters/api/shown.h"
#include "adapters/server/describe.h"
#include "adapters/server/node_hub.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
using admin::v1::FileChunk;
using admin::v1::FileRequest;
using node::v1::ChannelUp;

constexpr std::size_t kArgumentsMax = 16;
constexpr std::size_t kArgumentBytesMax = 8 * 1024;
constexpr std::size_t kInputBytesMax = 4u << 20;  // of one message
constexpr std::size_t kNameBytesMax = 256;
constexpr std::size_t kNamesakesTold = 8;
constexpr std::chrono::milliseconds kReadinessWait = 2s;
constexpr std::chrono::milliseconds kNews = 500ms;
constexpr std::chrono::milliseconds kLook = 1s;  // how often a quiet stream sees that it has ended
constexpr std::array<std::string_view, 8> kGuestCommands = {
    "read", "write", "list", "stat", "remove", "mkdir", "rename", "watch"};

// What an agent said went wrong, as an error of ours. A number that we do not know is "failed".
Error error_of(const node::v1::Failure& failure) {
  using Kind = Error::Kind;
  static constexpr Kind kKinds[] = {Kind::failed,    Kind::invalid,     Kind::not_found,
                                    Kind::denied,    Kind::exhausted,   Kind::unavailable,
                                    Kind::timeout,   Kind::corrupt};
  const auto at = static_cast<std::size_t>(failure.kind());
  return {at < std::size(kKinds) ? kKinds[at] : Kind::failed, failure.message()};
}

Result<void> check(const admin::v1::FileOpen& open) {
  const auto invalid = [](std::string text) { return fail(Error::Kind::invalid, std::move(text)); };
  std::string known;
  for (const std::string_view command : kGuestCommands) {
    known += (known.empty() ? "" : ", ") + std::string(command);
  }
  if (open.arguments().empty()) return invalid("arguments: none found, expected one of " + known);
  if (std::ranges::find(kGuestCommands, open.arguments(0)) == kGuestCommands.end()) {
    return invalid("arguments: found the command " + api::shown(open.arguments(0)) +
                   ", expected one of " + known);
  }
  if (static_cast<std::size_t>(open.arguments_size()) > kArgumentsMax) {
    return invalid("arguments: found " + std::to_string(open.arguments_size()) +
                   ", expected at most " + std::to_string(kArgumentsMax));
  }
  for (const std::string& argument : open.arguments()) {
    if (argument.size() > kArgumentBytesMax || argument.find('\0') != std::string::npos) {
      return invalid("arguments: found one of " + std::to_string(argument.size()) +
                     " bytes, expected at most " + std::to_string(kArgumentBytesMax) +
                     " bytes without a zero byte");
    }
  }
  return {};
}

// Names are not unique. Of those that live the newest may not be the one that was meant.
std::unexpected<Error> ambiguous(const std::string& name,
                                 const std::vector<records::Sandbox>& named) {
  std::string ids;
  for (std::size_t i = 0; i < named.size() && i < kNamesakesTold; ++i) {
    ids += (ids.empty() ? "" : ", ") + named[i].id;
  }
  return fail(Error::Kind::invalid, "several sandboxes that live have the name " + api::shown(name) +
                                        ": " + ids +
                                        (named.size() > kNamesakesTold ? " and more" : "") +
                                        "; name one by its id");
}

}  // namespace

// ---- who may

DetailService::DetailService(const Services& services, std::size_t streams_max,
                             std::size_t streams_of_tenant_max)
    : services_(services),
      places_(streams_max, streams_of_tenant_max, "streams of logs and files") {}

grpc::Status DetailService::admit(const grpc::ServerContext& context,
                                  identity::Caller& caller) const {
  auto known = authenticate(services_, context);
  if (!known) return unauthenticated(known.error());
  caller = std::move(*known);
  return grpc::Status::OK;
}

CallWatch::Watched DetailService::watch(grpc::ServerContext& context) {
  return {watch_, context, [this, &context] { return may_go_on(services_, context); }};
}

Result<records::Sandbox> DetailService::own(const identity::Caller& caller,
                                            const std::string& name) const {
  if (name.empty() || name.size() > kNameBytesMax) {
    return fail(Error::Kind::invalid, "id: found " + std::to_string(name.size()) +
                                          " bytes, expected a sandbox's id or name");
  }
  records::Records& records = services_.plane.records();
  if (auto found = records.find(name); found && found->tenant.value == caller.tenant) {
    return std::move(*found);
  }
  records::Records::Filter filter;
  filter.tenant = TenantId{caller.tenant};
  filter.name = name;
  for (const bool ended : {false, true}) {
    filter.ended = ended;
    filter.limit = ended ? 1 : kNamesakesTold + 1;
    auto named = records.list(filter);
    if (named.size() > 1) return ambiguous(name, named);
    if (!named.empty()) return std::move(named.front());
  }
  return fail(Error::Kind::not_found, "no sandbox has the id or name " + api::shown(name) +
                                          " in the environment " + caller.environment);
}

Result<records::Sandbox> DetailService::started(const grpc::ServerContext& context,
                                                const records::Sandbox& sandbox,
                                                bool wait) const {
  records::Sandbox now = sandbox;
  while (wait && now.status == records::Status::pending && !context.IsCancelled()) {
    auto later = services_.plane.records().wait(
        sandbox.sandbox, kLook,
        [](const records::Sandbox& one) { return one.status != records::Status::pending; });
    if (!later) return fail(Error::Kind::not_found, "sandbox " + sandbox.id + " is forgotten");
    now = std::move(*later);
  }
  if (now.status == records::Status::pending) {
    return fail(Error::Kind::unavailable, "sandbox " + now.id + " has not started yet");
  }
  if (!now.node) {
    const Described about = describe(now);
    return fail(Error::Kind::invalid,
                "sandbox " + now.id + " never started: " + status_sentence(now, about));
  }
  return now;
}

void DetailService::ask_readiness(const records::Sandbox& sandbox, const Described& about,
                                  admin::v1::InspectResponse& response) const {
  if (!about.payload.has_readiness_probe() || sandbox.waits ||
      sandbox.status != records::Status::running) {
    return;
  }
  node::v1::Open work;
  work.set_sandbox(sandbox.sandbox.value);
  work.mutable_ask_readiness();
  const auto channel = services_.nodes.open(sandbox.node, work);
  if (!channel) return;
  const auto message = (*channel)->receive(kReadinessWait);
  if (!message || !*message || !(*message)->has_readiness()) return;
  const node::v1::Readiness& said = (*message)->readiness();
  response.mutable_readiness()->set_ready(said.ready());
  response.mutable_readiness()->set_words(said.words());
  set_time(said.since(), response.mutable_readiness()->mutable_since());
}

// ---- the calls

grpc::Status DetailService::Inspect(grpc::ServerContext* context,
                                    const admin::v1::InspectRequest* request,
                                    admin::v1::InspectResponse* response) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const auto sandbox = own(caller, request->id());
  if (!sandbox) return to_status(sandbox.error());
  const Described about = describe(*sandbox);
  response->set_id(sandbox->id);
  response->set_name(sandbox->name);
  response->set_status(status_word(*sandbox, about.note));
  response->set_status_message(
      status_sentence(*sandbox, about, waits_of(services_.plane, {&*sandbox, 1})));
  response->set_node(about.note.node_name());
  response->set_image(about.image);
  response->set_image_digest(about.image_digest);
  response->set_cpu_millicores(sandbox->resources.cpu_millicores);
  response->set_memory_bytes(sandbox->resources.memory_bytes);
  response->set_disk_bytes(sandbox->resources.disk_bytes);
  response->set_gpus(sandbox->resources.gpus);
  response->set_lifetime_seconds(sandbox->lifetime.nanos / 1'000'000'000);
  response->set_address(about.note.address());
  response->set_web_url(about.note.web_url());
  response->set_exit_code(about.note.exit_code());
  response->set_signal(about.note.signal());
  response->set_ended(sandbox->ended.nanos != 0);
  response->set_ran(sandbox->ran);
  response->set_restarts(sandbox->restarts);
  response->set_last_exit(exit_text(about.last_exit));
  if (about.last_exit.ended_at() != 0) {
    set_time(about.last_exit.ended_at(), response->mutable_last_exit_at());
  }
  for (const std::string& word : about.payload.argv()) response->add_argv(word);
  response->set_created_by(about.payload.created_by());
  response->set_environment(caller.environment);
  ask_readiness(*sandbox, about, *response);
  for (const Phase& phase : timeline(*sandbox, about.note)) {
    auto* entry = response->add_timeline();
    entry->set_phase(phase.name);
    entry->set_of_node(phase.of_node);
    set_time(phase.at, entry->mutable_at());
  }
  return grpc::Status::OK;
}

grpc::Status DetailService::Await(grpc::ServerContext* context,
                                  const admin::v1::AwaitRequest* request,
                                  grpc::ServerWriter<admin::v1::AwaitNews>* writer) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  auto sandbox = own(caller, request->id());
  if (!sandbox) return to_status(sandbox.error());
  const auto place = awaits_.take(caller.tenant);
  if (!place) return {grpc::StatusCode::RESOURCE_EXHAUSTED, awaits_.full()};
  const Newest::Held mine(waiting_, sandbox->sandbox);
  const auto watched = watch(*context);  // one that reads no news would hold its place for ever
  const auto started = [](const records::Sandbox& one) {
    return one.status != records::Status::pending;
  };
  while (true) {
    const Described about = describe(*sandbox);
    admin::v1::AwaitNews news;
    news.set_status(status_word(*sandbox, about.note));
    news.set_status_message(
        status_sentence(*sandbox, about, waits_of(services_.plane, {&*sandbox, 1})));
    news.set_placed(sandbox->placed.nanos != 0);
    const bool wrote = writer->Write(news);
    if (started(*sandbox)) return grpc::Status::OK;
    auto later = services_.plane.records().wait(sandbox->sandbox, kNews, started);
    if (!later) return {grpc::StatusCode::NOT_FOUND, "sandbox " + sandbox->id + " is forgotten"};
    sandbox = std::move(*later);
    if (wrote && !context->IsCancelled()) continue;
    if (stopping_) return {grpc::StatusCode::UNAVAILABLE, "the server is stopping"};
    if (!started(*sandbox) && !sandbox->ran && mine.is_newest()) {
      (void)services_.plane.terminate(sandbox->sandbox, {});
    }
    return grpc::Status::CANCELLED;
  }
}

grpc::Status DetailService::Logs(grpc::ServerContext* context,
                                 const admin::v1::LogsRequest* request,
                                 grpc::ServerWriter<admin::v1::LogsChunk>* writer) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  auto sandbox = own(caller, request->id());
  if (!sandbox) return to_status(sandbox.error());
  const auto place = places_.take(caller.tenant);
  if (!place) return {grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()};
  auto watched = watch(*context);
  sandbox = started(*context, *sandbox, request->follow());
  if (!sandbox) return to_status(sandbox.error());

  node::v1::Open work;
  work.set_sandbox(sandbox->sandbox.value);
  work.mutable_logs()->set_follow(request->follow());
  work.mutable_logs()->set_tail_bytes(request->tail_bytes());
  const auto channel = services_.nodes.open(sandbox->node, work);
  if (!channel) return to_status(channel.error());
  watched.closes(*channel);
  admin::v1::LogsChunk chunk;
  while (true) {
    const auto message = (*channel)->receive(kLook);
    if (!message && message.error().kind != Error::Kind::timeout) {
      return to_status(message.error());
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    if (!message) continue;
    if (!*message || (*message)->has_exit()) return grpc::Status::OK;
    const ChannelUp& said = **message;
    if (said.has_failure()) return to_status(error_of(said.failure()));
    if (!said.has_output()) continue;
    chunk.set_stream(said.output().stream());
    chunk.set_data(said.output().data());
    chunk.set_dropped_bytes(said.output().dropped_bytes());
    if (!writer->Write(chunk)) return grpc::Status::CANCELLED;
  }
}

namespace {

using FileStream = grpc::ServerReaderWriter<FileChunk, FileRequest>;

// All that the client sends, on to the guest. A client that goes away before it said the end is not
// an end: the guest must not take half a file for the whole.
grpc::Status forward_input(FileStream& stream, Channel& channel) {
  FileRequest request;
  node::v1::ChannelDown down;
  while (stream.Read(&request)) {
    if (request.has_input() && request.input().size() > kInputBytesMax) {
      return {grpc::StatusCode::INVALID_ARGUMENT,
              "input: found " + std::to_string(request.input().size()) +
                  " bytes in one message, expected at most " + std::to_string(kInputBytesMax)};
    }
    if (request.has_input()) {
      down.set_input(std::move(*request.mutable_input()));
    } else {
      down.set_input_end(true);
    }
    // Where the guest has ended already, its own words say why.
    if (!channel.send(down) || down.has_input_end()) return grpc::Status::OK;
  }
  return {grpc::StatusCode::CANCELLED, "the client left before the end of its input"};
}

}  // namespace

grpc::Status DetailService::File(grpc::ServerContext* context, FileStream* stream) {
  identity::Caller caller;
  if (auto status = admit(*context, caller); !status.ok()) return status;
  const auto place = places_.take(caller.tenant);
  if (!place) return {grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()};
  auto watched = watch(*context);
  watched.expect_first(kFirstMessageMax);
  FileRequest request;
  if (!stream->Read(&request) || !request.has_open()) {
    return {grpc::StatusCode::INVALID_ARGUMENT, "expected open as the first message"};
  }
  watched.first_came();
  const admin::v1::FileOpen open = request.open();
  if (const auto good = check(open); !good) return to_status(good.error());
  auto sandbox = own(caller, open.id());
  if (!sandbox) return to_status(sandbox.error());
  sandbox = started(*context, *sandbox, false);
  if (!sandbox) return to_status(sandbox.error());
  if (sandbox->ended.nanos != 0) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            "sandbox " + sandbox->id + " has ended; its files are gone"};
  }

  node::v1::Open work;
  work.set_sandbox(sandbox->sandbox.value);
  *work.mutable_guest()->mutable_arguments() = open.arguments();
  const auto channel = services_.nodes.open(sandbox->node, work);
  if (!channel) return to_status(channel.error());
  watched.closes(*channel);
  const std::string& command = open.arguments(0);
  if (command == "write") {
    if (auto status = forward_input(*stream, **channel); !status.ok()) return status;
  } else if (command != "watch") {  // which runs until its input ends
    node::v1::ChannelDown end;
    end.set_input_end(true);
    (*channel)->send(end);
  }
  FileChunk chunk;
  while (true) {
    const auto message = (*channel)->receive(kLook);
    if (!message && message.error().kind != Error::Kind::timeout) {
      return to_status(message.error());
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    if (!message) continue;
    if (!*message) {
      return {grpc::StatusCode::UNAVAILABLE, "the sandbox's node went away; try again"};
    }
    const ChannelUp& said = **message;
    if (said.has_failure()) return to_status(error_of(said.failure()));
    if (said.has_exit()) {
      chunk.set_exit_code(said.exit().signal() != 0 ? 128 + said.exit().signal()
                                                    : said.exit().exit_code());
      stream->Write(chunk);
      return grpc::Status::OK;
    }
    if (!said.has_output()) continue;
    if (said.output().stream() == 2) {
      chunk.set_error(said.output().data());
    } else {
      chunk.set_output(said.output().data());
    }
    if (!stream->Write(chunk)) return grpc::Status::CANCELLED;
  }
}

}  // namespace chalk::server
