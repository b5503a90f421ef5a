#include "adapters/server/plane.h"

#include <filesystem>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <utility>

#include "adapters/log/event_log.h"
#include "adapters/runtime/driver.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::server {
namespace {

using control::Control;
using Answer = Result<SandboxId>;

constexpr std::chrono::milliseconds kWaitsMax{500};
constexpr std::chrono::seconds kStandsStill{3};  // a write that takes longer is not usual

std::string made(const std::string& directory) {
  std::filesystem::create_directories(directory);
  std::filesystem::permissions(directory, std::filesystem::perms::owner_all);
  return directory;
}

Error::Kind kind_of(sandbox::Refusal rule) {
  switch (rule) {
    case sandbox::Refusal::sandboxes_limit:
    case sandbox::Refusal::keys_limit:
    case sandbox::Refusal::admission: return Error::Kind::exhausted;
    default: return Error::Kind::invalid;
  }
}

// Whose a node is was decided by whether tenants share nodes: nodes and sandboxes that are there do
// not go with the other answer.
void refuse_other_sharing(const PlaneOptions& options, const control::Config& was,
                          const Control& control) {
  const bool shared = !was.tenancy.separate_tenants;
  const bool share = !options.config.tenancy.separate_tenants;
  const std::size_t nodes = control.fleet().state().nodes.size();
  const std::size_t sandboxes = control.sandboxes().state().sandboxes.size();
  if (shared == share || (nodes == 0 && sandboxes == 0)) return;
  const std::string before = shared ? "with" : "without", now = share ? "with" : "without";
  throw std::runtime_error(
      "--data " + options.data + ": what it holds (nodes: " + std::to_string(nodes) +
      ", sandboxes: " + std::to_string(sandboxes) + ") is of a server " + before +
      " --share-nodes: start " + before + " it again. To change that, end all sandboxes there, let "
      "no node be connected (nor that of --all-in-one) until none is listed, and then start " +
      now + " --share-nodes");
}

// What a node need not know stays here.
std::string payload_for_node(const records::Sandbox& sandbox) {
  node::v1::SandboxPayload payload;
  if (!payload.ParseFromString(sandbox.payload)) return sandbox.payload;
  payload.set_id(sandbox.id);
  payload.clear_public_spec();
  payload.clear_environment();
  payload.clear_created_by();
  return payload.SerializeAsString();
}

}  // namespace

struct Plane::State {
  PlaneOptions options;
  log::EventLog log;
  records::Records records;
  NodeSender sender;

  std::mutex mutex;
  std::map<std::uint64_t, std::promise<Answer>> asked;  // by reply_to
  std::uint64_t next_reply = 0;
  bool started = false;
  std::set<TenantId> tenants;
  std::set<ImageId> images;
  // The last: from its constructor on, which replays the log, it uses what stands above.
  runtime::Driver<Control> driver;

  explicit State(PlaneOptions given)
      : options(std::move(given)),
        log(made(options.data) + "/control.db", static_cast<std::int64_t>(kLogicVersion)),
        records(options.data + "/records.db", options.label, options.records),
        driver(
            options.config, log,
            [this](std::uint64_t, Time, const control::Effect& effect) { obey(effect); },
            [this](std::uint64_t index, Time now, const control::Event& event,
                   const std::vector<control::Effect>& effects) {
              records.observe(index, now, event, effects);
              answer(event, effects);
              if (started && options.seen) options.seen(now, effects);
            },
            driver_options(),
            [this](const control::Config& was, const Control& control) {
              refuse_other_sharing(options, was, control);
            }) {
    const auto boot = std::chrono::system_clock::now().time_since_epoch();
    next_reply = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(boot).count());
  }

  runtime::DriverOptions driver_options() {
    runtime::DriverOptions driver;
    driver.root = Root::control;
    driver.failed = options.log_failed;
    driver.measured = options.measured;
    driver.flush_view = [this] { return records.flush(); };
    return driver;
  }

  void obey(const control::Effect& effect);
  void answer(const control::Event& event, const std::vector<control::Effect>& effects);
  Result<void> told(control::Event event);
  Result<void> look(const std::function<void(const Control&)>& look);
  // What `f` says of the machine.
  auto read(const auto& f) -> Result<decltype(f(std::declval<const Control&>()))> {
    decltype(f(std::declval<const Control&>())) out{};
    if (auto seen = look([&](const Control& control) { out = f(control); }); !seen) {
      return std::unexpected(seen.error());
    }
    return out;
  }
  std::chrono::nanoseconds stands_still_for() const;
  std::string log_text() const;
  Error unseen() const;
};

// ---- effects

void Plane::State::obey(const control::Effect& effect) {
  if (const auto* to = std::get_if<control::ToNode>(&effect)) {
    Envelope<NodeOrder> envelope = to->envelope;
    if (envelope.message) {
      if (auto* start = std::get_if<StartOrder>(&*envelope.message)) {
        const auto known = records.find(start->sandbox);
        if (known) start->payload = payload_for_node(*known);
      }
    }
    sender.order(to->node, std::move(envelope));
  } else if (const auto* welcome = std::get_if<fleet::WelcomeNode>(&effect)) {
    sender.welcome(welcome->key, welcome->incarnation, welcome->node);
  } else if (const auto* unknown = std::get_if<control::UnknownNode>(&effect)) {
    sender.unknown(unknown->node, unknown->incarnation);
  }
  // Accepted, Refused, Running and Gone reach clients through the records. Purchases of nodes are
  // for a cloud's adapter: a pool here is static.
}

// The request is on disk by now. A refusal may follow its acceptance within the same step.
void Plane::State::answer(const control::Event& event,
                          const std::vector<control::Effect>& effects) {
  const auto* request = std::get_if<control::SandboxRequested>(&event);
  if (request == nullptr) return;
  Answer said = fail(Error::Kind::failed, "the control plane did not answer");
  for (const control::Effect& effect : effects) {
    if (const auto* accepted = std::get_if<sandbox::Accepted>(&effect)) {
      if (accepted->reply_to == request->reply_to) said = accepted->sandbox;
    } else if (const auto* refused = std::get_if<sandbox::Refused>(&effect)) {
      if (refused->reply_to != request->reply_to) continue;
      said = fail(kind_of(refused->rule), refusal_text(*refused));
      break;
    }
  }
  const std::lock_guard lock(mutex);
  const auto waiting = asked.find(request->reply_to);
  if (waiting == asked.end()) {
    // Its client was told no id, so nobody else would ever end it. Who gave a key asks again by it.
    if (started && said && request->key.empty()) {
      driver.follow(sandbox::TerminateRequested{*said, {}});
    }
    return;
  }
  waiting->second.set_value(std::move(said));
  asked.erase(waiting);
}

// Posts it and waits until it is on disk and stepped.
Result<void> Plane::State::told(control::Event event) {
  if (!driver.post(std::move(event))) {
    return std::unexpected(unseen());
  }
  // A look is taken between two batches. One that was asked for while nothing waited comes after the
  // batch that has the event, also where that is still being written.
  bool taken;
  do {
    taken = driver.waiting() == 0;
    if (auto seen = look([](const Control&) {}); !seen) return seen;
  } while (!taken);
  return {};
}

Result<void> Plane::State::look(const std::function<void(const Control&)>& look) {
  if (driver.look(look)) return {};
  return std::unexpected(unseen());
}

// Zero: the log takes its writes.
std::chrono::nanoseconds Plane::State::stands_still_for() const {
  const auto writing = driver.writing_for();
  return writing < kStandsStill ? std::chrono::nanoseconds{} : writing;
}

// Empty: the log takes its writes.
std::string Plane::State::log_text() const {
  const auto stands = std::chrono::floor<std::chrono::seconds>(stands_still_for());
  if (stands.count() == 0) return {};
  return "the control plane's log has not taken a write for " + std::to_string(stands.count()) +
         " s: look at the disk of " + options.data;
}

// Why the machine could not be asked.
Error Plane::State::unseen() const {
  std::string why = log_text();
  if (why.empty()) {
    why = driver.fenced() ? "another server has taken over the log"
                          : "the server is busy or stopping; try again";
  }
  return {Error::Kind::unavailable, std::move(why)};
}

// ---- the plane

Plane::Plane(PlaneOptions options) : state_(std::make_unique<State>(std::move(options))) {
  state_->records.settle(state_->driver.machine());
}

Plane::~Plane() { stop(); }

void Plane::start(NodeSender sender) {
  state_->sender = std::move(sender);
  state_->started = true;
  // Before it starts, hence before the timers that came due meanwhile: by them every node is lost.
  if (state_->driver.recovered()) state_->driver.post(fleet::Resumed{});
  state_->driver.start();
  for (const fleet::PoolAdded& pool : state_->options.pools) state_->driver.post(pool);
}

void Plane::stop() { state_->driver.stop(); }

Result<SandboxId> Plane::create(const SandboxAsk& ask) {
  State& s = *state_;
  const auto room = s.records.take_room(ask.tenant, ask.payload.size());
  if (!room) return std::unexpected(room.error());
  control::SandboxRequested request;
  request.key = ask.key;
  request.tenant = ask.tenant;
  request.resources = ask.resources;
  request.image = ask.image;
  request.pool = ask.pool;
  request.lifetime = ask.lifetime;
  request.payload = ask.payload;
  request.restart = ask.restart;
  request.priority = ask.priority;
  request.gang = ask.gang;
  std::future<Answer> answer;
  {
    const std::lock_guard lock(s.mutex);
    request.reply_to = s.next_reply++;
    answer = s.asked[request.reply_to].get_future();
  }
  const std::uint64_t reply_to = request.reply_to;
  const bool taken = s.driver.post(std::move(request));
  if (taken && answer.wait_for(s.options.answer_max) == std::future_status::ready) {
    return answer.get();
  }
  const std::lock_guard lock(s.mutex);
  if (!taken) {
    s.asked.erase(reply_to);
    return std::unexpected(s.unseen());
  }
  if (s.asked.erase(reply_to) == 0) return answer.get();  // it came at the last moment
  // Not unavailable, which clients take for an invitation to ask once more.
  const std::string why = s.log_text();
  return fail(Error::Kind::timeout,
              (why.empty() ? "the server did not carry it out in time" : why) +
                  (ask.key.empty()
                       ? "; should the sandbox still be created, the server ends it (where it is "
                         "killed before, the list of sandboxes has it)"
                       : "; ask again by the same key, which makes no second sandbox"));
}

Result<void> Plane::terminate(SandboxId sandbox, Duration grace) {
  return state_->told(sandbox::TerminateRequested{sandbox, grace});
}

Result<void> Plane::add_tenant(TenantId tenant) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->tenants.contains(tenant)) return {};
  }
  tenancy::TenantAdded added;
  added.tenant = tenant;
  if (auto told = state_->told(added); !told) return told;
  const std::lock_guard lock(state_->mutex);
  state_->tenants.insert(tenant);
  return {};
}

Result<void> Plane::add_image(const ImageSpec& image) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->images.contains(image.image)) return {};
  }
  if (auto told = state_->told(image); !told) return told;
  const std::lock_guard lock(state_->mutex);
  state_->images.insert(image.image);
  return {};
}

Result<void> Plane::drain(NodeId node) { return state_->told(fleet::DrainAsked{node, true}); }
Result<void> Plane::undrain(std::uint64_t key) { return state_->told(fleet::UndrainAsked{key}); }

void Plane::registered(const NodeRegistration& registration) {
  state_->driver.post(registration);
}

void Plane::reported(NodeId node, Envelope<NodeReport> envelope) {
  state_->driver.post(control::FromNode{node, std::move(envelope)});
}

Result<std::vector<NodeView>> Plane::nodes(bool drained_away) {
  return state_->read([&](const Control& control) {
    std::vector<NodeView> out;
    const auto& infos = control.scheduler().state().infos;
    const auto& free = control.scheduler().state().nodes;
    control.fleet().state().nodes.for_each([&](NodeId id, const fleet::Node& node) {
      NodeView view;
      view.node = id;
      view.key = node.key;
      view.pool = PoolId{node.pool + 1ULL};
      view.zone = node.zone;
      view.draining = node.draining;
      const std::uint32_t slot = SlotTable<NodeId, int>::slot_of(id);
      if (slot < infos.size() && infos[slot].id == id) {
        view.shape = infos[slot].shape;
        view.cpu_millicores_used = view.shape.cpu_millicores - free[slot].cpu;
        view.memory_bytes_used = view.shape.memory_bytes - free[slot].memory;
        view.disk_bytes_used = view.shape.disk_bytes - free[slot].disk;
        view.sandboxes =
            static_cast<std::uint32_t>(view.shape.sandboxes_max - infos[slot].sandboxes_free);
        view.owner = infos[slot].owner;
      }
      out.push_back(view);
    });
    const fleet::State& fleet = control.fleet().state();
    for (const std::uint64_t key : fleet.drained) {
      if (!drained_away || fleet.by_key.contains(key)) continue;
      NodeView& view = out.emplace_back();
      view.key = key;
      view.draining = true;
    }
    return out;
  });
}

Result<std::size_t> Plane::pending() {
  return state_->read([](const Control& control) -> std::size_t {
    return control.tenancy().pending_count();
  });
}

Waits Plane::waits(std::vector<SandboxId> sandboxes, Time now) {
  Waits out;
  state_->driver.look(
      [&](const Control& control) { out = why_wait(control, now, sandboxes); }, kWaitsMax);
  return out;
}

records::Records& Plane::records() { return state_->records; }

Result<Plane::LogState> Plane::log_state() {
  return state_->read(
      [&](const Control&) { return LogState{state_->log.first(), state_->log.next()}; });
}

bool Plane::fenced() const { return state_->driver.fenced(); }

std::chrono::nanoseconds Plane::log_stands_still_for() const { return state_->stands_still_for(); }

}  // namespace chalk::server
