// A view of the control plane's log for people and APIs: every sandbox, also after its end, with
// what was asked for and what became of it. It decides nothing and can be made again from the log.
//
// observe() is called by the driver for every record, at recovery and live; it changes memory only.
// A thread of its own writes to SQLite; flush() waits until all that was observed is on disk, which
// the driver asks for before a snapshot. Readers get copies. Ended sandboxes are kept for a while, and no more
// than a number, the oldest go first.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "adapters/error.h"
#include "model/control/control.h"

struct sqlite3;

namespace chalk::records {

enum class Status : std::uint8_t { pending, running, ending, ended, refused };

struct Sandbox {
  SandboxId sandbox;
  TenantId tenant;
  std::string id;           // as clients see it
  std::string name;         // may be empty; not unique
  std::string payload;      // node.v1.SandboxPayload
  Resources resources;
  Duration lifetime;
  Status status = Status::pending;
  EndReason reason{};       // ended
  bool stop_asked = false;  // somebody had asked for its end
  bool ran = false;
  NodeId node;              // where it is or was last
  Time created, placed, running, ended;  // 0: not yet
  std::string started_note, ended_note;  // node.v1.SandboxNote
  std::string refusal;                   // refused: the rule and the numbers, in words
  std::uint32_t restarts = 0;  // by its node, with the one that it waits for
  bool waits = false;          // for its next start
  std::string exit_note, again_note;  // of its last end by itself, and of its last start after one
  CHALK_FIELDS(Sandbox, sandbox, tenant, id, name, payload, resources, lifetime, status, reason,
               stop_asked, ran, node, created, placed, running, ended, started_note, ended_note,
               refusal, restarts, waits, exit_note, again_note)
};

struct Options {
  Duration keep_ended = seconds(24 * 3600);
  std::size_t keep_ended_max = 100'000;
  // Of payloads. What is asked for beyond them is refused (take_room); of what has ended the oldest go
  // where all of it together is more than bytes_max.
  std::size_t bytes_max = std::size_t{2} << 30;
  std::size_t bytes_of_tenant_max = std::size_t{512} << 20;
};

// How a payload says id and name; given by who knows what payloads are.
struct Label {
  std::string id;
  std::string name;
};
using ReadLabel = std::function<Label(SandboxId sandbox, const std::string& payload)>;

class Records {
 public:
  // Throws std::runtime_error where the file cannot be opened.
  Records(const std::string& path, ReadLabel label, Options options = {});
  ~Records();
  Records(const Records&) = delete;
  Records& operator=(const Records&) = delete;

  void observe(std::uint64_t index, Time now, const control::Event& event,
               const std::vector<control::Effect>& effects);
  // Waits until what has been observed so far is in the file; false when that takes over 10 s.
  bool flush();
  // Keeps room for what a tenant is about to ask for, until the room dies; by then it is observed and
  // counts for itself. exhausted: the tenant, or all, have too much that lives.
  class Room {
   public:
    Room(Records* records, TenantId tenant, std::size_t bytes)
        : records_(records), tenant_(tenant), bytes_(bytes) {}
    Room(Room&& other) noexcept
        : records_(std::exchange(other.records_, nullptr)),
          tenant_(other.tenant_),
          bytes_(other.bytes_) {}
    Room& operator=(Room&&) = delete;
    ~Room();

   private:
    Records* records_;
    TenantId tenant_;
    std::size_t bytes_;
  };
  Result<Room> take_room(TenantId tenant, std::size_t bytes);

  // After the driver's recovery: what the log does not know as live any more is marked as ended.
  void settle(const control::Control& control);

  std::optional<Sandbox> find(SandboxId sandbox) const;
  std::optional<Sandbox> find(const std::string& id) const;
  // Newest first; `before`: only those older than this sandbox's place in that order.
  struct Filter {
    std::optional<TenantId> tenant;  // none: all (for operators)
    bool ended = true;               // also those
    std::string name;                // exact; empty: any
    std::optional<std::string> before;
    std::size_t limit = 100;
  };
  // `also` is asked without a lock, of copies.
  std::vector<Sandbox> list(const Filter& filter,
                            const std::function<bool(const Sandbox&)>& also = {}) const;
  // Waits until `done(sandbox)` or the timeout; answers what it is then. None: no such sandbox.
  std::optional<Sandbox> wait(SandboxId sandbox, std::chrono::milliseconds timeout,
                              const std::function<bool(const Sandbox&)>& done) const;
  std::size_t live() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::records
