#include "adapters/server/command.h"

#include <chrono>
#include <system_error>
#include <thread>

#include "adapters/server/node_hub.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLook = 500ms;  // how often a quiet command's caller is checked
constexpr std::int64_t kTimeoutSecondsMax = 30 * 86'400;

grpc::Status invalid(std::string message) {
  return {grpc::StatusCode::INVALID_ARGUMENT, std::move(message)};
}

std::uint64_t milliseconds_of(const google::protobuf::Duration& timeout) {
  const auto all = static_cast<std::uint64_t>(timeout.seconds()) * 1'000 +
                   static_cast<std::uint64_t>(timeout.nanos()) / 1'000'000;
  return std::max<std::uint64_t>(all, 1);
}

bool send_input(Channel& channel, const std::string& input) {
  node::v1::ChannelDown down;
  for (std::size_t at = 0; at < input.size(); at += kPieceBytes) {
    down.set_input(input.substr(at, kPieceBytes));
    if (!channel.send(down)) return false;
  }
  down.set_input_end(true);
  return channel.send(down);
}

std::string timed_out(const CommandAsk& ask) {
  return "the command ran longer than its timeout of " +
         std::to_string(milliseconds_of(*ask.timeout)) + " ms and was ended";
}

// A program that is not there, or may not be run, ends as in every shell. As NOT_FOUND it would read
// as if there were no sandbox.
Answer<CommandDone> not_run(const node::v1::Failure& failure) {
  CommandDone done;
  done.error_output = failure.message() + "\n";
  if (failure.kind() == node::v1::Failure::NOT_FOUND) {
    done.exit_code = 127;
  } else if (failure.kind() == node::v1::Failure::DENIED) {
    done.exit_code = 126;
  } else {
    return std::unexpected(TenantSandboxes::failed(failure));
  }
  return done;
}

// Until the command has ended.
Answer<CommandDone> gather(Channel& channel, const grpc::ServerContextBase& context,
                           const CommandAsk& ask) {
  CommandDone done;
  while (true) {
    auto message = channel.receive(kLook);
    if (!message && message.error().kind != Error::Kind::timeout) {
      return std::unexpected(to_status(message.error()));
    }
    if (context.IsCancelled()) return std::unexpected(grpc::Status::CANCELLED);
    if (!message) continue;
    if (!*message) {
      // Not UNAVAILABLE, which clients repeat: the command may have done its work.
      return std::unexpected(grpc::Status(
          grpc::StatusCode::ABORTED, "the sandbox's node went away while the command ran"));
    }
    node::v1::ChannelUp& said = **message;
    if (said.has_failure()) return not_run(said.failure());
    if (said.has_output()) {
      std::string& into = said.output().stream() == 2 ? done.error_output : done.output;
      into += said.output().data();
      if (done.output.size() + done.error_output.size() > kCommandOutputBytesMax) {
        return std::unexpected(grpc::Status(
            grpc::StatusCode::RESOURCE_EXHAUSTED,
            "the command wrote more than " + std::to_string(kCommandOutputBytesMax) +
                " bytes; use a session, which streams"));
      }
    } else if (said.has_exit()) {
      if (said.exit().timed_out() && ask.timeout) {
        return std::unexpected(
            grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, timed_out(ask)));
      }
      done.exit_code =
          said.exit().signal() != 0 ? 128 + said.exit().signal() : said.exit().exit_code();
      return done;
    }
  }
}

}  // namespace

grpc::Status check_command(const CommandAsk& ask) {
  if (ask.words.empty() || ask.words[0].empty()) {
    return invalid("command: found none, expected a program to run");
  }
  if (auto good = api::check_words("command", ask.words); !good) {
    return invalid(good.error().message);
  }
  if (auto good = api::check_variables("env_vars", ask.variables); !good) {
    return invalid(good.error().message);
  }
  if (!ask.workdir.empty()) {
    if (auto good = api::check_path("workdir", ask.workdir); !good) {
      return invalid(good.error().message);
    }
  }
  if (ask.input.size() > kCommandInputBytesMax) {
    return invalid("stdin: found " + std::to_string(ask.input.size()) +
                   " bytes, expected at most " + std::to_string(kCommandInputBytesMax));
  }
  if (ask.timeout) {
    const auto& timeout = *ask.timeout;
    const bool some = timeout.seconds() > 0 || timeout.nanos() > 0;
    if (!some || timeout.seconds() < 0 || timeout.nanos() < 0 || timeout.nanos() > 999'999'999 ||
        timeout.seconds() > kTimeoutSecondsMax) {
      return invalid("timeout: found " + std::to_string(timeout.seconds()) + " s and " +
                     std::to_string(timeout.nanos()) + " ns, expected more than nothing and at "
                     "most " + std::to_string(kTimeoutSecondsMax) + " s");
    }
  }
  return grpc::Status::OK;
}

// A command that does not read its input may end first; what it said then says why. One that writes
// while it reads waits until somebody takes what it wrote, so both go on at the same time.
Answer<CommandDone> converse(Channel& channel, const grpc::ServerContextBase& context,
                             const CommandAsk& ask) {
  std::thread sender;
  try {
    sender = std::thread([&] { send_input(channel, ask.input); });
  } catch (const std::system_error&) {
    channel.close();
    return std::unexpected(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                        "the server has no thread for one more command; try later"));
  }
  auto done = gather(channel, context, ask);
  channel.close();  // ends the sender, wherever it waits
  sender.join();
  return done;
}

Answer<CommandDone> run_command(TenantSandboxes& sandboxes, Places& places,
                                grpc::ServerContextBase& context,
                                const identity::Caller& caller, const std::string& id,
                                const CommandAsk& ask) {
  if (auto good = check_command(ask); !good.ok()) return std::unexpected(good);
  const auto place = places.take(caller.tenant);
  if (!place) {
    return std::unexpected(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, places.full()));
  }
  auto watched = sandboxes.watch(context);
  const auto sandbox = sandboxes.running(context, caller, id);
  if (!sandbox) return std::unexpected(sandbox.error());
  node::v1::Open open;
  open.set_sandbox(sandbox->sandbox.value);
  node::v1::Run& run = *open.mutable_run();
  *run.mutable_argv() = ask.words;
  *run.mutable_env() = ask.variables;
  run.set_workdir(ask.workdir);
  if (ask.timeout) run.set_timeout_ms(milliseconds_of(*ask.timeout));
  run.set_output_bytes_max(kCommandOutputBytesMax);
  const auto channel = sandboxes.services().nodes.open(sandbox->node, open);
  if (!channel) return std::unexpected(to_status(channel.error()));
  watched.closes(*channel);
  return converse(**channel, context, ask);
}

}  // namespace chalk::server
