#include "adapters/records/records.h"

#include <sqlite3.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "adapters/records/words.h"
#include "model/core/codec.h"

namespace chalk::records {
namespace {

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;
using Statement = std::unique_ptr<sqlite3_stmt, CloseDatabase>;

// The order of lists: by creation, then by id.
using Place = std::pair<std::int64_t, std::uint64_t>;
Place place_of(const Sandbox& one) { return {one.created.nanos, one.sandbox.value}; }

constexpr std::size_t kCopiedMax = 256;             // in one hold of the lock
constexpr std::size_t kCopiedBytesMax = 4u << 20;

}  // namespace

struct Records::State {
  std::string path;
  ReadLabel label;
  Options options;

  mutable std::mutex mutex;
  mutable std::condition_variable changed;  // a sandbox
  std::map<SandboxId, Sandbox> sandboxes;
  std::map<std::string, SandboxId> by_id;
  std::set<Place> order;
  std::map<TenantId, std::set<Place>> order_of;  // the same, of one tenant
  std::deque<std::pair<Time, SandboxId>> ended;  // in order of their ends
  std::size_t live = 0;
  std::map<TenantId, std::size_t> live_bytes_of;  // of payloads, and of rooms
  std::size_t live_bytes = 0, ended_bytes = 0;    // the same of all; payloads of what has ended
  std::uint64_t observed = 1;  // the first record not seen yet
  std::set<SandboxId> dirty;   // not in the file as they are here
  bool stopping = false;
  std::condition_variable dirtied;

  std::uint64_t durable = 1;  // the first record that is not in the file
  bool hurry = false;         // somebody waits for it
  std::condition_variable written;
  Database database;
  std::thread writer;

  void open();
  void load();
  void write_loop();
  bool write(const std::vector<std::pair<SandboxId, std::string>>& rows, std::uint64_t index);
  void check(int code, const char* doing) const;
  void run(const char* sql) const { check(sqlite3_exec(database.get(), sql, nullptr, nullptr, nullptr), sql); }

  void add(Sandbox one);
  void remove(SandboxId id);
  void forget_old(Time now);
  Sandbox* change(SandboxId id);
  Sandbox* change_there(SandboxId id, NodeId node, Status status);  // only if it is so there
  void end(Sandbox& one, Time now, Status status);
  void take(TenantId tenant, std::size_t bytes);
  void give_back(TenantId tenant, std::size_t bytes);
};

Records::Records(const std::string& path, ReadLabel label, Options options)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->label = std::move(label);
  state_->options = options;
  state_->open();
  state_->load();
  state_->writer = std::thread([state = state_.get()] { state->write_loop(); });
}

Records::~Records() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->dirtied.notify_all();
  state_->writer.join();
}

// ---- the file

void Records::State::check(int code, const char* doing) const {
  if (code == SQLITE_OK || code == SQLITE_ROW || code == SQLITE_DONE) return;
  throw std::runtime_error(path + ": cannot " + doing + ": " +
                           (database ? sqlite3_errmsg(database.get()) : sqlite3_errstr(code)));
}

// It can be made again from the log as far as that has not been trimmed, so a batch need not be
// synced one by one; WAL keeps it whole whatever dies.
void Records::State::open() {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  database.reset(opened);
  check(code, "open");
  sqlite3_busy_timeout(opened, 5000);
  run("PRAGMA journal_mode=WAL");
  run("PRAGMA synchronous=FULL");
  run("CREATE TABLE IF NOT EXISTS sandboxes (sandbox INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
  run("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)");
}

void Records::State::load() {
  sqlite3_stmt* raw = nullptr;
  check(sqlite3_prepare_v2(database.get(), "SELECT bytes FROM sandboxes", -1, &raw, nullptr), "read");
  const Statement select(raw);
  while (true) {
    const int code = sqlite3_step(select.get());
    check(code, "read");
    if (code != SQLITE_ROW) break;
    Sandbox one;
    const std::string_view bytes(static_cast<const char*>(sqlite3_column_blob(select.get(), 0)),
                                 static_cast<std::size_t>(sqlite3_column_bytes(select.get(), 0)));
    if (!decode(bytes, one)) {
      throw std::runtime_error(path + ": found a row that is no sandbox of this version; move the "
                                      "file away to have it made again from the log");
    }
    add(std::move(one));
  }
  std::vector<std::pair<Time, SandboxId>> ends;
  for (const auto& [id, one] : sandboxes) {
    if (one.ended.nanos != 0) ends.emplace_back(one.ended, id);
  }
  std::sort(ends.begin(), ends.end());
  ended.assign(ends.begin(), ends.end());
  check(sqlite3_prepare_v2(database.get(), "SELECT value FROM meta WHERE name = 'observed'", -1,
                           &raw, nullptr),
        "read");
  const Statement seen(raw);
  if (sqlite3_step(seen.get()) == SQLITE_ROW) {
    observed = static_cast<std::uint64_t>(sqlite3_column_int64(seen.get(), 0));
  }
  durable = observed;
}

void Records::State::write_loop() {
  std::unique_lock lock(mutex);
  while (true) {
    dirtied.wait(lock, [&] { return stopping || observed != durable || !dirty.empty(); });
    if (observed == durable && dirty.empty()) return;  // stopping, and all is written
    std::vector<std::pair<SandboxId, std::string>> rows;
    for (const SandboxId id : dirty) {
      const auto found = sandboxes.find(id);
      rows.emplace_back(id, found == sandboxes.end() ? std::string() : encode(found->second));
    }
    dirty.clear();
    const std::uint64_t index = observed;
    const bool last = stopping;
    lock.unlock();
    const bool good = write(rows, index);
    lock.lock();
    if (good) {
      durable = index;
      hurry = false;
      written.notify_all();
    } else {
      for (const auto& [id, bytes] : rows) dirty.insert(id);
      if (last) return;  // the log has it all
    }
    // What changes often is written once.
    dirtied.wait_for(lock, std::chrono::milliseconds(good ? 200 : 2000),
                     [&] { return stopping || hurry; });
  }
}

bool Records::State::write(const std::vector<std::pair<SandboxId, std::string>>& rows,
                           std::uint64_t index) {
  try {
    run("BEGIN IMMEDIATE");
    sqlite3_stmt* raw = nullptr;
    check(sqlite3_prepare_v2(database.get(), "INSERT OR REPLACE INTO sandboxes VALUES (?1, ?2)", -1,
                             &raw, nullptr),
          "write");
    const Statement put(raw);
    check(sqlite3_prepare_v2(database.get(), "DELETE FROM sandboxes WHERE sandbox = ?1", -1, &raw,
                             nullptr),
          "write");
    const Statement drop(raw);
    for (const auto& [id, bytes] : rows) {
      sqlite3_stmt* one = bytes.empty() ? drop.get() : put.get();
      sqlite3_reset(one);
      sqlite3_bind_int64(one, 1, static_cast<std::int64_t>(id.value));
      if (!bytes.empty()) sqlite3_bind_blob64(one, 2, bytes.data(), bytes.size(), SQLITE_STATIC);
      check(sqlite3_step(one), "write");
      sqlite3_reset(one);
    }
    run(("INSERT OR REPLACE INTO meta VALUES ('observed', " + std::to_string(index) + ")").c_str());
    run("COMMIT");
    return true;
  } catch (const std::runtime_error&) {
    sqlite3_exec(database.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return false;
  }
}

// ---- what the log says

void Records::State::add(Sandbox one) {
  const SandboxId id = one.sandbox;
  remove(id);
  by_id[one.id] = id;
  order.insert(place_of(one));
  order_of[one.tenant].insert(place_of(one));
  if (one.ended.nanos == 0) {
    ++live;
    take(one.tenant, one.payload.size());
  } else {
    ended_bytes += one.payload.size();
  }
  sandboxes[id] = std::move(one);
}

void Records::State::remove(SandboxId id) {
  const auto found = sandboxes.find(id);
  if (found == sandboxes.end()) return;
  const Sandbox& one = found->second;
  const auto named = by_id.find(one.id);
  if (named != by_id.end() && named->second == id) by_id.erase(named);
  order.erase(place_of(one));
  order_of[one.tenant].erase(place_of(one));
  if (order_of[one.tenant].empty()) order_of.erase(one.tenant);
  if (one.ended.nanos == 0) {
    --live;
    give_back(one.tenant, one.payload.size());
  } else {
    ended_bytes -= one.payload.size();
  }
  sandboxes.erase(found);
  dirty.insert(id);
}

void Records::State::forget_old(Time now) {
  while (!ended.empty() && (ended.size() > options.keep_ended_max ||
                            ended_bytes > options.bytes_max ||
                            ended.front().first + options.keep_ended < now)) {
    remove(ended.front().second);
    ended.pop_front();
  }
}

Sandbox* Records::State::change(SandboxId id) {
  const auto found = sandboxes.find(id);
  if (found == sandboxes.end()) return nullptr;
  dirty.insert(id);
  return &found->second;
}

Sandbox* Records::State::change_there(SandboxId id, NodeId node, Status status) {
  const auto found = sandboxes.find(id);
  if (found == sandboxes.end()) return nullptr;
  return found->second.node == node && found->second.status == status ? change(id) : nullptr;
}

void Records::State::end(Sandbox& one, Time now, Status status) {
  if (one.ended.nanos != 0) return;
  one.status = status;
  one.ended = now;
  --live;
  give_back(one.tenant, one.payload.size());
  ended_bytes += one.payload.size();
  ended.emplace_back(now, one.sandbox);
}

void Records::State::take(TenantId tenant, std::size_t bytes) {
  if (bytes == 0) return;
  live_bytes_of[tenant] += bytes;
  live_bytes += bytes;
}

void Records::State::give_back(TenantId tenant, std::size_t bytes) {
  if (bytes == 0) return;  // it may have no entry
  live_bytes -= bytes;
  const auto of = live_bytes_of.find(tenant);
  if ((of->second -= bytes) == 0) live_bytes_of.erase(of);
}

Result<Records::Room> Records::take_room(TenantId tenant, std::size_t bytes) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  const auto of = s.live_bytes_of.find(tenant);
  const std::size_t mine = of == s.live_bytes_of.end() ? 0 : of->second;
  const bool own = mine + bytes > s.options.bytes_of_tenant_max;
  if (own || s.live_bytes + bytes > s.options.bytes_max) {
    return fail(Error::Kind::exhausted,
                "the specifications of the sandboxes that have not ended hold " +
                    std::to_string(own ? mine : s.live_bytes) + " bytes" +
                    (own ? " in this environment, " : " in all environments, ") +
                    std::to_string(bytes) + " more were asked for, and at most " +
                    std::to_string(own ? s.options.bytes_of_tenant_max : s.options.bytes_max) +
                    " are kept; end some, or pass fewer variables and arguments");
  }
  s.take(tenant, bytes);
  return Room(this, tenant, bytes);
}

Records::Room::~Room() {
  if (records_ == nullptr) return;
  const std::lock_guard lock(records_->state_->mutex);
  records_->state_->give_back(tenant_, bytes_);
}

void Records::observe(std::uint64_t index, Time now, const control::Event& event,
                      const std::vector<control::Effect>& effects) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (index < s.observed) return;  // in the file already
  s.observed = index + 1;
  const auto* asked = std::get_if<control::SandboxRequested>(&event);
  bool any = false;
  for (const control::Effect& effect : effects) {
    if (const auto* accepted = std::get_if<sandbox::Accepted>(&effect)) {
      if (asked == nullptr || accepted->repeated) continue;
      Sandbox one;
      one.sandbox = accepted->sandbox;
      one.tenant = asked->tenant;
      one.payload = asked->payload;
      const Label label = s.label(one.sandbox, one.payload);
      one.id = label.id;
      one.name = label.name;
      one.resources = asked->resources;
      one.lifetime = asked->lifetime;
      one.created = now;
      s.dirty.insert(one.sandbox);
      s.add(std::move(one));
      any = true;
    } else if (const auto* to = std::get_if<control::ToNode>(&effect)) {
      if (!to->envelope.message) continue;
      if (const auto* stop = std::get_if<StopOrder>(&*to->envelope.message)) {
        // It makes way, or is moved: it may run again, elsewhere and later.
        Sandbox* one = s.change_there(stop->sandbox, to->node, Status::running);
        if (one == nullptr) continue;
        one->status = Status::ending;
        any = true;
        continue;
      }
      const auto* start = std::get_if<StartOrder>(&*to->envelope.message);
      Sandbox* one = start != nullptr ? s.change(start->sandbox) : nullptr;
      if (one == nullptr) continue;
      one->node = to->node;
      one->placed = now;
      if (one->status == Status::ending && !one->stop_asked) one->status = Status::pending;
    } else if (const auto* running = std::get_if<sandbox::Running>(&effect)) {
      Sandbox* one = s.change(running->sandbox);
      if (one == nullptr) continue;
      one->status = one->stop_asked ? Status::ending : Status::running;
      one->running = now;
      one->ran = true;
      one->waits = false;  // also where it was being restarted on its last node
      one->restarts = 0;
      one->node = running->node;
      one->started_note = running->note;
      any = true;
    } else if (const auto* restarted = std::get_if<sandbox::Restarted>(&effect)) {
      Sandbox* one = s.change(restarted->sandbox);
      if (one == nullptr) continue;
      one->restarts = restarted->count;
      one->waits = !restarted->running;
      (restarted->running ? one->again_note : one->exit_note) = restarted->note;
      any = true;
    } else if (const auto* gone = std::get_if<sandbox::Gone>(&effect)) {
      Sandbox* one = s.change(gone->sandbox);
      if (one == nullptr) continue;
      one->reason = gone->reason;
      one->stop_asked = gone->stop_asked || one->stop_asked;
      one->ended_note = gone->note;
      s.end(*one, now, Status::ended);
      any = true;
    } else if (const auto* refused = std::get_if<sandbox::Refused>(&effect)) {
      Sandbox* one = s.change(refused->sandbox);
      if (one == nullptr) continue;
      one->refusal = refusal_text(*refused);
      s.end(*one, now, Status::refused);
      any = true;
    }
  }
  if (const auto* from = std::get_if<control::FromNode>(&event); from && from->envelope.message) {
    // What had to make way has left its node, and waits for another.
    const auto* left = std::get_if<EndedReport>(&*from->envelope.message);
    Sandbox* one = left == nullptr
                       ? nullptr
                       : s.change_there(left->sandbox, from->node, Status::ending);
    if (one != nullptr && !one->stop_asked) {
      one->status = Status::pending;
      any = true;
    }
  }
  if (const auto* asked_end = std::get_if<sandbox::TerminateRequested>(&event)) {
    Sandbox* one = s.change(asked_end->sandbox);
    if (one != nullptr && one->ended.nanos == 0) {
      one->stop_asked = true;
      one->status = Status::ending;
      any = true;
    }
  }
  s.forget_old(now);
  if (any) s.changed.notify_all();
  s.dirtied.notify_one();
}

bool Records::flush() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const std::uint64_t wanted = s.observed;
  s.hurry = true;
  s.dirtied.notify_all();
  return s.written.wait_for(lock, std::chrono::seconds(10), [&] { return s.durable >= wanted; });
}

void Records::settle(const control::Control& control) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  for (auto& [id, one] : s.sandboxes) {
    if (one.ended.nanos != 0 || control.sandboxes().find(id) != nullptr) continue;
    one.reason = EndReason::node_lost;
    s.dirty.insert(id);
    s.end(one, std::max({one.created, one.placed, one.running}), Status::ended);
  }
}

// ---- readers

std::optional<Sandbox> Records::find(SandboxId sandbox) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->sandboxes.find(sandbox);
  if (found == state_->sandboxes.end()) return std::nullopt;
  return found->second;
}

std::optional<Sandbox> Records::find(const std::string& id) const {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->by_id.find(id);
  if (found == state_->by_id.end()) return std::nullopt;
  return state_->sandboxes.at(found->second);
}

// Whoever observes waits for the lock, so it is held for some copies at a time, and never for `also`.
std::vector<Sandbox> Records::list(const Filter& filter,
                                   const std::function<bool(const Sandbox&)>& also) const {
  const State& s = *state_;
  std::vector<Sandbox> out;
  std::vector<Sandbox> some;
  std::optional<Place> before;  // the next one is older than this
  std::unique_lock lock(s.mutex);
  if (filter.before) {
    const auto found = s.by_id.find(*filter.before);
    if (found == s.by_id.end()) return out;
    before = place_of(s.sandboxes.at(found->second));
  }
  while (out.size() < filter.limit) {
    const std::set<Place>* places = &s.order;
    if (filter.tenant) {
      const auto own = s.order_of.find(*filter.tenant);
      if (own == s.order_of.end()) break;
      places = &own->second;
    }
    std::size_t bytes = 0, looked_at = 0;
    auto place = before ? std::make_reverse_iterator(places->lower_bound(*before))
                        : places->rbegin();
    for (; place != places->rend() && bytes < kCopiedBytesMax && looked_at < kCopiedMax &&
           (also || out.size() + some.size() < filter.limit);
         ++place, ++looked_at) {
      before = *place;
      const Sandbox& one = s.sandboxes.at(SandboxId{place->second});
      if (!filter.ended && one.ended.nanos != 0) continue;
      if (!filter.name.empty() && one.name != filter.name) continue;
      some.push_back(one);
      bytes += one.payload.size();
    }
    const bool last = place == places->rend();
    lock.unlock();
    for (Sandbox& one : some) {
      if (out.size() < filter.limit && (!also || also(one))) out.push_back(std::move(one));
    }
    if (last) break;
    some = {};  // before the lock, for which it may wait
    lock.lock();
  }
  return out;
}

std::optional<Sandbox> Records::wait(SandboxId sandbox, std::chrono::milliseconds timeout,
                                     const std::function<bool(const Sandbox&)>& done) const {
  const State& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto until = std::chrono::steady_clock::now() + timeout;
  while (true) {
    const auto found = s.sandboxes.find(sandbox);
    if (found == s.sandboxes.end()) return std::nullopt;
    if (done(found->second)) return found->second;
    if (s.changed.wait_until(lock, until) == std::cv_status::timeout) {
      const auto last = s.sandboxes.find(sandbox);
      if (last == s.sandboxes.end()) return std::nullopt;
      return last->second;
    }
  }
}

std::size_t Records::live() const {
  const std::lock_guard lock(state_->mutex);
  return state_->live;
}

}  // namespace chalk::records
