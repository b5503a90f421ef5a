// chalk compute run and exec: a command in a new or a running sandbox.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>

#include "adapters/api/guest.h"
#include "adapters/api/tags.h"
#include "adapters/cli/client.h"
#include "adapters/cli/command.h"
#include "adapters/cli/logs.h"
#include "adapters/cli/output.h"
#include "adapters/cli/session.h"
#include "adapters/cli/signals.h"
#include "adapters/cli/stop.h"
#include "adapters/cli/terminal.h"
#include "adapters/cli/text.h"

namespace chalk::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr const char* kAloneMs = "60000";
constexpr auto kPauseMin = 10ms, kPauseMax = 500ms;  // before a start is asked after again
constexpr auto kAwayMax = 60s;  // what a server's restart may take while a start is waited for
constexpr auto kAwayTold = 2s;  // shorter, nobody needs to know

struct ProcessFlags {
  bool input = false, terminal = false;
  std::vector<std::string> env, command;
  std::string workdir, timeout;
};

struct RunFlags : ProcessFlags {
  std::string image, cpu, memory, disk, gpu, name, lifetime, gang;
  std::vector<std::string> tags;
  int port = 0, priority = 0;
  bool detach = false, remove = false, keep = false, restart = false;
};

void add_process_options(CLI::App& app, ProcessFlags& flags) {
  app.add_flag("-i,--interactive", flags.input, "standard input goes to the command");
  app.add_flag("-t,--tty", flags.terminal, "give the command a terminal; with -i for shells");
  app.add_option("-e,--env", flags.env,
                 "NAME=VALUE, or NAME for the value it has here; may be given again")
      ->allow_extra_args(false);
  app.add_option("-w,--workdir", flags.workdir, "directory in which the command begins");
  app.add_option("--timeout", flags.timeout,
                 "end the command after this time, such as 90s; exit status 124");
  app.add_option("command", flags.command, "the command; from its first word on all is its own");
}

std::map<std::string, std::string> environment_of(const std::vector<std::string>& words) {
  std::map<std::string, std::string> out;
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    const std::string name = word.substr(0, equals);
    if (name.empty()) throw Stop("--env: found \"" + harmless(word) + "\", expected NAME=VALUE");
    const char* here = equals == std::string::npos ? std::getenv(name.c_str()) : nullptr;
    if (equals == std::string::npos && here == nullptr) {
      throw Stop("--env " + name + ": it has no value here; give NAME=VALUE");
    }
    if (here != nullptr && !is_utf8(here)) throw Stop("--env " + name + ": its value is no UTF-8");
    out[name] = here != nullptr ? here : word.substr(equals + 1);
  }
  return out;
}

void check_workdir(const std::string& path) {
  if (path.empty() || path.starts_with('/')) return;
  throw Stop("--workdir: found \"" + harmless(path) + "\", expected a path that begins with /");
}

void check_terminal(const ProcessFlags& flags, bool json) {
  if (flags.terminal && json) throw Stop("-t and --json do not go together");
  if (flags.terminal && flags.input && !is_terminal(STDIN_FILENO)) {
    throw Stop("-t needs a terminal as standard input; leave -t out in scripts");
  }
}

int report(const SessionEnd& end, const std::string& sandbox, bool as_json) {
  if (as_json) {
    print(json{{"id", sandbox},
               {"exit_code", end.code},
               {"signal", end.signal},
               {"timed_out", end.timed_out},
               {"stdout", utf8(end.output)},
               {"stderr", utf8(end.error)},
               {"truncated", end.truncated}}
              .dump() +
          "\n");
  } else if (end.timed_out) {
    note("chalk: the command ran longer than --timeout and was ended");
  }
  return end.code;
}

// ---- run

// What it waits for, and again when that is something else; numbers alone are nothing new.
class Reasons {
 public:
  void say(const std::string& id, const std::string& why, Progress& progress) {
    std::string rule = why;
    std::erase_if(rule, [](char c) { return c >= '0' && c <= '9'; });
    if (why.empty() || rule == said_) return;
    said_ = rule;
    progress.clear();
    note("chalk: sandbox " + id + ": " + harmless(why));
  }

 private:
  std::string said_;
};

sandbox::v2::CreateSandboxRequest request_of(const RunFlags& flags,
                                             const std::vector<std::string>& command) {
  sandbox::v2::CreateSandboxRequest request;
  auto& spec = *request.mutable_spec();
  spec.set_image(flags.image);
  if (!flags.name.empty()) spec.set_name(flags.name);
  for (const auto& [name, value] : environment_of(flags.env)) {
    (*spec.mutable_env_vars())[name] = value;
  }
  const auto set_tag = [&](std::string_view name, const std::string& value) {
    (*spec.mutable_tags())[std::string(name)] = value;
  };
  for (const std::string& tag : flags.tags) {
    const auto equals = tag.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw Stop("--tag: found \"" + harmless(tag) + "\", expected NAME=VALUE");
    }
    set_tag(tag.substr(0, equals), tag.substr(equals + 1));
  }
  if (flags.priority != 0) set_tag(api::kPriorityTag, std::to_string(flags.priority));
  if (!flags.gang.empty()) {
    if (flags.gang.find('/') == std::string::npos) {
      throw Stop("--gang: found \"" + harmless(flags.gang) + "\", expected NAME/SIZE, such as train/8");
    }
    set_tag(api::kGangTag, flags.gang);
  }
  if (!flags.cpu.empty()) spec.mutable_resources()->set_cpu(checked_cpu(flags.cpu));
  if (!flags.memory.empty()) {
    spec.mutable_resources()->set_memory(checked_bytes("--memory", flags.memory));
  }
  if (!flags.gpu.empty()) spec.mutable_resources()->set_gpu(flags.gpu);
  if (!flags.disk.empty()) {
    spec.mutable_resources()->set_disk(checked_bytes("--disk", flags.disk));
  }
  if (!flags.lifetime.empty()) {
    const auto lifetime = checked_duration("--lifetime", flags.lifetime);
    spec.mutable_lifetime()->set_seconds(lifetime.count() / 1000);
    spec.mutable_lifetime()->set_nanos(static_cast<std::int32_t>(lifetime.count() % 1000) *
                                       1'000'000);
  }
  if (flags.port != 0) spec.set_port(flags.port);
  if (flags.restart) spec.set_restart_policy(container::v1::RESTART_POLICY_ALWAYS);
  std::vector<std::string> entrypoint;
  if (flags.detach) {
    entrypoint = command;
    if (!flags.workdir.empty()) set_tag(api::kWorkdirTag, flags.workdir);
  } else if (!command.empty()) {
    // The command is a session beside it. No image needs to have a sleep of its own; and where
    // nobody is left to end the sandbox, it ends a while after its last command.
    entrypoint = {api::kGuestPath, "sleep"};
    if (!flags.keep) entrypoint.insert(entrypoint.end(), {"--alone-ms", kAloneMs});
  }
  for (const std::string& word : entrypoint) spec.add_entrypoint(word);
  return request;
}

std::string random_name() {
  std::random_device device;
  std::string name;
  for (int i = 0; i < 4; ++i) name += std::to_string(device()) + (i < 3 ? "-" : "");
  return name;
}

// Whether a call that failed so was given no answer; it may have been heard.
bool unanswered(const grpc::Status& status) {
  return of_transport(status) || status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
}

class Run {
 public:
  Run(const RunFlags& flags, const Invocation& invocation)
      : flags_(flags), json_(invocation.json), command_(invocation.command) {}

  int run() {
    check();
    if (!flags_.timeout.empty()) timeout_ = checked_duration("--timeout", flags_.timeout);
    auto request = request_of(flags_, command_);
    (*request.mutable_spec()->mutable_tags())[std::string(api::kCreationTag)] = creation_;
    Signals signals;  // before gRPC's threads begin
    const Client client = Client::from_environment();
    client_ = &client;
    create(request, signals);
    try {
      const int code = go_on(signals);
      if (!flags_.keep && !flags_.detach) end();
      return code;
    } catch (...) {
      if (!flags_.keep) end();
      throw;
    }
  }

 private:
  void check() const;
  void create(const sandbox::v2::CreateSandboxRequest& request, Signals& signals);
  void heed(Signals& signals, grpc::ClientContext* call);
  int go_on(Signals& signals);
  bool await(Signals& signals, Progress& progress, Reasons& reasons);
  void show(bool placed, const std::string& why, Progress& progress, Reasons& reasons) const;
  int follow(Signals& signals);
  bool wait_started(Signals& signals);
  std::optional<admin::v1::InspectResponse> look(Signals& signals, Progress& progress);
  void end_lost() noexcept;
  void end() noexcept;

  const RunFlags& flags_;
  const bool json_;
  const std::vector<std::string> command_;
  std::chrono::milliseconds timeout_{};
  const Client* client_ = nullptr;
  std::string id_;
  const std::string creation_ = random_name();
  std::atomic<int> interrupted_ = 0;
};

void Run::check() const {
  check_terminal(flags_, json_);
  check_workdir(flags_.workdir);
  if (flags_.detach && (flags_.input || flags_.terminal || flags_.keep)) {
    throw Stop("--detach does not go with -i, -t or --keep: nobody is attached");
  }
  if (flags_.remove && flags_.keep) throw Stop("--rm and --keep contradict each other");
  if (flags_.detach && !flags_.timeout.empty()) {
    throw Stop("--timeout is for a command that is waited for; use --lifetime with --detach");
  }
  if (flags_.restart && !flags_.detach) {
    throw Stop("--restart goes with --detach: a command that is waited for runs once");
  }
  if (command_.empty() && (flags_.input || flags_.terminal)) {
    throw Stop("-i and -t need a command, such as: chalk compute run -it " +
               harmless(flags_.image) + " -- sh");
  }
  if (command_.empty() && !flags_.workdir.empty()) throw Stop("--workdir needs a command");
  if (flags_.port < 0 || flags_.port > 65535) {
    throw Stop("--port: found " + std::to_string(flags_.port) + ", expected 1 to 65535");
  }
}

// A signal that ends us ends the call that goes on, too.
void Run::heed(Signals& signals, grpc::ClientContext* call) {
  signals.handle([this, call](int signal) {
    if (!ends_us(signal)) return;
    interrupted_ = signal;
    if (call != nullptr) call->TryCancel();
  });
}

void Run::create(const sandbox::v2::CreateSandboxRequest& request, Signals& signals) {
  Progress progress;
  std::atomic<bool> done = false;
  // An answer may take long, because the image's registry is asked.
  std::thread shows([&] {
    for (int i = 0; !done; ++i) {
      if (i % 10 == 9) progress.show("starting " + flags_.image);
      std::this_thread::sleep_for(50ms);
    }
  });
  sandbox::v2::CreateSandboxResponse response;
  grpc::ClientContext context;
  client_->prepare(context, 180s);
  heed(signals, &context);
  const grpc::Status status = client_->sandboxes().CreateSandbox(&context, request, &response);
  heed(signals, nullptr);
  done = true;
  shows.join();
  progress.clear();
  if (unanswered(status)) end_lost();
  if (!status.ok() && interrupted_ != 0) throw Stop("interrupted", kSignalled + interrupted_);
  client_->check(status);
  id_ = response.sandbox().id();
}

void Run::show(bool placed, const std::string& why, Progress& progress, Reasons& reasons) const {
  progress.show(placed ? "pulling image and starting " + flags_.image
                       : "waiting for a node with room");
  reasons.say(id_, why, progress);
}

// While the server tells the news it knows that somebody waits: where we are gone before the start, it
// ends the sandbox. Whatever becomes of this, whoever asks next sees how it stands.
bool Run::await(Signals& signals, Progress& progress, Reasons& reasons) {
  grpc::ClientContext context;
  client_->prepare(context, 0s);
  admin::v1::AwaitRequest request;
  request.set_id(id_);
  const auto stream = client_->details().Await(&context, request);
  heed(signals, &context);
  admin::v1::AwaitNews news;
  bool heard = false;
  while (interrupted_ == 0 && stream->Read(&news)) {
    heard = true;
    if (news.status() == "pending") show(news.placed(), news.status_message(), progress, reasons);
  }
  heed(signals, nullptr);
  context.TryCancel();
  (void)stream->Finish();
  return heard;
}

// How it stands; none where we were interrupted. A server that is away is waited for, which is said.
std::optional<admin::v1::InspectResponse> Run::look(Signals& signals, Progress& progress) {
  const auto began = std::chrono::steady_clock::now();
  admin::v1::InspectRequest request;
  request.set_id(id_);
  for (bool told = false; interrupted_ == 0;) {
    admin::v1::InspectResponse about;
    grpc::ClientContext context;
    client_->prepare(context, 20s);
    heed(signals, &context);
    const grpc::Status status = client_->details().Inspect(&context, request, &about);
    heed(signals, nullptr);
    if (status.ok()) return about;
    if (!unanswered(status)) client_->check(status);
    const auto away = std::chrono::steady_clock::now() - began;
    if (away >= kAwayMax) {
      throw Stop("the server at " + client_->server() + " has not answered for " +
                 std::to_string(kAwayMax / 1s) + " s: " + harmless(status.error_message()));
    }
    if (!told && away >= kAwayTold) {
      told = true;
      progress.clear();
      note("chalk: the server at " + client_->server() + " is away; sandbox " + id_ +
           " waits for it, for " + std::to_string(kAwayMax / 1s) + " s at most");
    }
    client_->wait(300ms);
  }
  return {};
}

// True when it runs or has run; false when it was interrupted. Throws where it cannot start.
bool Run::wait_started(Signals& signals) {
  Progress progress;
  Reasons reasons;
  // A server that restarts ends the news: they are asked for again, and it knows again that we wait.
  for (auto pause = kPauseMin; interrupted_ == 0; pause = std::min(pause * 2, kPauseMax)) {
    if (await(signals, progress, reasons)) pause = kPauseMin;
    if (interrupted_ != 0) break;
    const auto about = look(signals, progress);
    if (!about) break;
    const std::string& status = about->status();
    if (status == "running" || status == "succeeded" || status == "failed") return true;
    if (status != "pending") {
      throw Stop("sandbox " + id_ + " did not start: " + harmless(about->status_message()));
    }
    bool placed = false;
    for (const auto& entry : about->timeline()) placed = placed || entry.phase() == "placed";
    show(placed, about->status_message(), progress, reasons);
    std::this_thread::sleep_for(pause);
  }
  return false;
}

int Run::go_on(Signals& signals) {
  if (!wait_started(signals)) throw Stop("interrupted", kSignalled + interrupted_);
  if (flags_.detach) {
    if (json_) {
      const auto about = client_->inspect(id_);
      print(json{{"id", id_},
                 {"name", about.name()},
                 {"status", about.status()},
                 {"web_url", about.web_url()}}
                .dump() +
            "\n");
    } else {
      print(id_ + "\n");
    }
    return 0;
  }
  if (command_.empty()) return follow(signals);
  SessionAsk ask;
  ask.sandbox = id_;
  ask.argv = command_;
  ask.workdir = flags_.workdir;
  ask.input = flags_.input;
  ask.terminal = flags_.terminal;
  ask.capture = json_;
  ask.timeout = timeout_;
  return report(run_session(*client_, signals, ask), id_, json_);
}

// The image's own command: its output until it ends.
int Run::follow(Signals& signals) {
  SessionEnd end;
  LogsAsk ask;
  ask.id = id_;
  ask.follow = true;
  if (json_) ask.capture = &end;
  ask.timeout = timeout_;
  const LogsOutcome outcome = stream_logs(*client_, signals, ask);
  if (outcome.signal != 0) throw Stop("", kSignalled + outcome.signal);
  if (outcome.timed_out) {
    end.timed_out = true;
    end.code = kTimedOut;
    return report(end, id_, json_);
  }
  admin::v1::InspectResponse about;
  for (int i = 0; i < 300; ++i) {  // the node's word of its end is on its way
    about = client_->inspect(id_);
    if (about.ended()) break;
    std::this_thread::sleep_for(100ms);
  }
  if (about.status() != "succeeded" && about.status() != "failed") {
    throw Stop("sandbox " + id_ + " is " + about.status() + ": " +
               harmless(about.status_message()));
  }
  end.signal = about.signal();
  end.code = about.signal() != 0 ? kSignalled + about.signal() : about.exit_code();
  if (end.signal == SIGKILL) {
    note("chalk: sandbox " + id_ + " has ended: " + harmless(about.status_message()));
  }
  return report(end, id_, json_);
}

// The sandbox whose id we were not told. A server that cannot be asked now is not waited for.
void Run::end_lost() noexcept {
  try {
    sandbox::v2::ListSandboxesRequest request;
    (*request.mutable_filters()->mutable_tags())[std::string(api::kCreationTag)] = creation_;
    const auto found = client_->call<sandbox::v2::ListSandboxesRequest,
                                     sandbox::v2::ListSandboxesResponse>(
        [this](auto... a) { return client_->sandboxes().ListSandboxes(a...); }, request, false, 5s);
    for (const auto& one : found.sandboxes()) client_->terminate(one.id(), 0s);
  } catch (const Stop&) {  // what went wrong before is what is told
  }
}

// Nobody needs it any more; what is wrong with that is said and does not change how we end.
void Run::end() noexcept {
  try {
    client_->terminate(id_, 0s);
  } catch (const Stop& stop) {
    note("chalk: sandbox " + id_ + " may still run: " + stop.what());
  }
}

// ---- exec

struct ExecFlags : ProcessFlags {
  std::string sandbox;
};

int exec(const ExecFlags& flags, const Invocation& invocation) {
  const auto& command = invocation.command;
  if (command.empty()) {
    throw Stop("no command: give one after --, such as: chalk compute exec " +
               harmless(flags.sandbox) + " -- ls /");
  }
  check_terminal(flags, invocation.json);
  check_workdir(flags.workdir);
  SessionAsk ask;
  ask.env = environment_of(flags.env);
  if (!flags.timeout.empty()) ask.timeout = checked_duration("--timeout", flags.timeout);
  Signals signals;
  const Client client = Client::from_environment();
  const auto about = client.inspect(flags.sandbox);
  if (about.status() != "running") {
    throw Stop("sandbox " + about.id() + " is " + about.status() + ", not running" +
               (about.status_message().empty() ? "" : ": " + harmless(about.status_message())));
  }
  ask.sandbox = about.id();
  ask.argv = command;
  ask.workdir = flags.workdir;
  ask.input = flags.input;
  ask.terminal = flags.terminal;
  ask.capture = invocation.json;
  return report(run_session(client, signals, ask), about.id(), invocation.json);
}

constexpr const char* kStatuses =
    "Exit status: that of the command (128 + N when signal N ended it); 124 after --timeout,\n"
    "125 when chalk itself failed, 126 when the command cannot be executed, 127 when it is not "
    "there.\n";

}  // namespace

void add_run(CLI::App& compute, Invocation& invocation) {
  const auto run = std::make_shared<RunFlags>();
  CLI::App& app = leaf(
      compute, invocation, "run", "run a command in a new sandbox",
      std::string("Without a command the image's own runs. The sandbox ends with its command, "
                  "unless --keep.\n") +
          kStatuses +
          "\nExamples:\n"
          "  chalk compute run busybox -- uname -a\n"
          "  chalk compute run -it --rm debian -- bash\n"
          "  tar c . | chalk compute run -i python:3.12 --memory 2Gi -- tar t\n"
          "  chalk compute run --detach --name web --port 8000 --lifetime 1h python:3.12 -- \\\n"
          "      python -m http.server 8000\n"
          "\nJSON: id, exit_code, signal, timed_out, stdout, stderr, truncated (16 MiB of each are "
          "kept);\nwith --detach: id, name, status, web_url.\n");
  app.add_option("image", run->image, "the image, as docker names it")->required();
  app.add_option("--cpu", run->cpu, "CPUs, such as 1, 0.5 or 500m");
  app.add_option("--memory", run->memory, "memory, such as 512Mi or 2Gi");
  app.add_option("--disk", run->disk, "disk for what the sandbox writes, such as 10Gi");
  app.add_option("--gpu", run->gpu, "GPUs, such as nvidia-l4 or 2:nvidia-a100");
  app.add_option("--name", run->name, "a name, which commands take in place of the id");
  app.add_option("--lifetime", run->lifetime, "end the sandbox after this time, such as 1h or 90s");
  app.add_option("--port", run->port, "publish this port of the sandbox; inspect says the address");
  app.add_option("--tag", run->tags, "NAME=VALUE kept with the sandbox; may be given again")
      ->allow_extra_args(false);
  app.add_option("--priority", run->priority,
                 "0 to 1000: where there is no room, less important ones of yours make way")
      ->check(CLI::Range(0, 1000));
  app.add_option("--gang", run->gang,
                 "NAME/SIZE: starts when so many of this name have room at once, and ends with them");
  app.add_flag("-d,--detach", run->detach, "print the sandbox's id once it runs, and leave it");
  app.add_flag("--restart", run->restart,
               "with --detach: begin the command again whenever it ends, after a pause that doubles");
  app.add_flag("--rm", run->remove, "end the sandbox with its command; this is the default");
  app.add_flag("--keep", run->keep, "leave the sandbox running when the command has ended");
  add_process_options(app, *run);
  app.callback([run, &invocation] {
    invocation.chosen = [run, &invocation] { return Run(*run, invocation).run(); };
  });

  const auto flags = std::make_shared<ExecFlags>();
  CLI::App& exec_app = leaf(
      compute, invocation, "exec", "run a command in a running sandbox",
      std::string(kStatuses) +
          "\nExamples:\n"
          "  chalk compute exec web -- ps aux\n"
          "  chalk compute exec -it web -- sh\n"
          "  echo 'print(6 * 7)' | chalk compute exec -i web -- python -\n"
          "\nJSON: id, exit_code, signal, timed_out, stdout, stderr, truncated.\n");
  exec_app.add_option("sandbox", flags->sandbox, "its id or name")->required();
  add_process_options(exec_app, *flags);
  exec_app.callback([flags, &invocation] {
    invocation.chosen = [flags, &invocation] { return exec(*flags, invocation); };
  });
}

}  // namespace chalk::cli
