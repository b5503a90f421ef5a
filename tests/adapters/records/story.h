// A random story of what a control plane is told and says, record by record, and what a reader who
// looks at all of it from the start would keep: the dumb version of adapters/records.
#pragma once
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "adapters/records/records.h"
#include "adapters/records/words.h"

namespace chalk::records {

struct Told {
  std::uint64_t index = 0;
  Time now;
  control::Event event;
  std::vector<control::Effect> effects;
};

inline Label label_of(SandboxId sandbox, const std::string& payload) {
  return {"sbx-" + std::to_string(sandbox.value), payload.substr(0, payload.find('/'))};
}

class Story {
 public:
  explicit Story(std::uint64_t seed) : random_(seed) {}

  // The next record; a story with the same seed tells the same.
  Told next() {
    now_ = now_ + Duration{1 + static_cast<std::int64_t>(random_() % 2'000'000'000)};
    Told told{++index_, now_, Woken{}, {}};
    const std::uint64_t kind = random_() % 10;
    if (kind < 3 || live_.empty()) {
      ask(told);
    } else {
      auto place = live_.begin();
      std::advance(place, random_() % live_.size());
      go_on(told, place->first, place->second, kind);
    }
    return told;
  }

 private:
  struct Life {
    bool placed = false, running = false;
    NodeId node;
    std::uint32_t restarts = 0;
  };

  void ask(Told& told) {
    control::SandboxRequested asked;
    asked.reply_to = told.index;
    asked.tenant = {1 + random_() % 3};
    asked.payload = "name" + std::to_string(random_() % 4) + "/" + std::to_string(told.index);
    asked.resources.cpu_millicores = static_cast<std::int64_t>(random_() % 1000);
    asked.lifetime = Duration{static_cast<std::int64_t>(random_() % 1000)};
    told.event = asked;
    if (random_() % 8 == 0 && next_ > 1) {  // the key had been seen
      told.effects.push_back(sandbox::Accepted{told.index, {1 + random_() % (next_ - 1)}, true});
      return;
    }
    const SandboxId made{next_++};
    told.effects.push_back(sandbox::Accepted{told.index, made, false});
    if (random_() % 8 == 0) {  // admission says no within the same step
      refuse(told, made);
    } else {
      live_[made] = {};
      if (random_() % 2 == 0) place(told, made, live_[made]);
    }
  }
  void place(Told& told, SandboxId id, Life& life) {
    StartOrder start;
    start.sandbox = id;
    control::ToNode to;
    to.node = {1 + random_() % 5};
    to.envelope.message = start;
    told.effects.push_back(to);
    life.placed = true;
  }
  void refuse(Told& told, SandboxId id) {
    sandbox::Refused refused;
    refused.sandbox = id;
    refused.rule = sandbox::Refusal::never_fits;
    told.effects.push_back(refused);
  }
  void go_on(Told& told, SandboxId id, Life& life, std::uint64_t kind) {
    if (kind == 3) {
      told.event = sandbox::TerminateRequested{id, {}};
    } else if (kind < 6 && !life.placed) {
      place(told, id, life);
    } else if (kind < 8 && life.placed && !life.running) {
      sandbox::Running running;
      running.sandbox = id;
      running.node = life.node = {1 + random_() % 5};
      running.note = "started " + std::to_string(told.index);
      told.effects.push_back(running);
      life.running = true;
    } else if (kind < 8 && life.running) {
      sandbox::Restarted restarted;
      restarted.sandbox = id;
      restarted.count = life.restarts += random_() % 2 == 0 ? 1 : 0;
      restarted.running = random_() % 2 == 0;
      restarted.note = "restarted " + std::to_string(told.index);
      told.effects.push_back(restarted);
    } else if (kind == 8 && life.running && random_() % 2 == 0) {  // moved: or an order come late
      control::ToNode to;
      to.node = random_() % 4 == 0 ? NodeId{9} : life.node;
      to.envelope.message = StopOrder{id, {}};
      told.effects.push_back(to);
      if (to.node == life.node) {
        life = {};
        if (random_() % 2 == 0) {  // it leaves at once
          control::FromNode from;
          from.node = to.node;
          from.envelope.message = EndedReport{id, EndReason::terminated, {}};
          told.event = from;
        }
      }
    } else if (kind == 8) {
      sandbox::Gone gone;
      gone.sandbox = id;
      gone.reason = static_cast<EndReason>(random_() % 7);
      gone.stop_asked = random_() % 2 == 0;
      gone.note = "ended " + std::to_string(told.index);
      told.effects.push_back(gone);
      live_.erase(id);
    } else if (kind == 9) {
      told.event = sandbox::TerminateRequested{{1 + random_() % next_}, {}};  // of anybody
    }
  }

  std::mt19937_64 random_;
  std::map<SandboxId, Life> live_;
  std::uint64_t index_ = 0, next_ = 1;
  Time now_ = Time{} + seconds(1'000'000);
};

// Keeps everything in a list in the order of creation and searches it from end to end.
class Naive {
 public:
  explicit Naive(Options options) : options_(options) {}

  void observe(const Told& told) {
    const auto* asked = std::get_if<control::SandboxRequested>(&told.event);
    for (const control::Effect& effect : told.effects) {
      if (const auto* accepted = std::get_if<sandbox::Accepted>(&effect)) {
        if (!accepted->repeated) all_.push_back(created(*accepted, *asked, told.now));
      } else if (const auto* to = std::get_if<control::ToNode>(&effect)) {
        if (const auto* start = std::get_if<StartOrder>(&*to->envelope.message)) {
          if (Sandbox* one = find(start->sandbox)) {
            one->node = to->node;
            one->placed = told.now;
            if (one->status == Status::ending && !one->stop_asked) one->status = Status::pending;
          }
        } else if (Sandbox* one = find(std::get<StopOrder>(*to->envelope.message).sandbox)) {
          if (one->node == to->node && one->status == Status::running) one->status = Status::ending;
        }
      } else if (const auto* running = std::get_if<sandbox::Running>(&effect)) {
        Sandbox* one = find(running->sandbox);
        one->status = one->stop_asked ? Status::ending : Status::running;
        one->running = told.now;
        one->ran = true;
        one->waits = false;
        one->restarts = 0;
        one->node = running->node;
        one->started_note = running->note;
      } else if (const auto* restarted = std::get_if<sandbox::Restarted>(&effect)) {
        Sandbox* one = find(restarted->sandbox);
        one->restarts = restarted->count;
        one->waits = !restarted->running;
        if (restarted->running) one->again_note = restarted->note;
        if (!restarted->running) one->exit_note = restarted->note;
      } else if (const auto* gone = std::get_if<sandbox::Gone>(&effect)) {
        Sandbox* one = find(gone->sandbox);
        one->reason = gone->reason;
        one->stop_asked = one->stop_asked || gone->stop_asked;
        one->ended_note = gone->note;
        end(*one, told.now, Status::ended);
      } else if (const auto* refused = std::get_if<sandbox::Refused>(&effect)) {
        Sandbox* one = find(refused->sandbox);
        one->refusal = refusal_text(*refused);
        end(*one, told.now, Status::refused);
      }
    }
    if (const auto* from = std::get_if<control::FromNode>(&told.event)) {
      Sandbox* one = find(std::get<EndedReport>(*from->envelope.message).sandbox);
      if (one->status == Status::ending && !one->stop_asked) one->status = Status::pending;
    }
    if (const auto* stop = std::get_if<sandbox::TerminateRequested>(&told.event)) {
      Sandbox* one = find(stop->sandbox);
      if (one != nullptr && one->ended.nanos == 0) {
        one->stop_asked = true;
        one->status = Status::ending;
      }
    }
    forget(told.now);
  }

  std::vector<Sandbox> list(const Records::Filter& filter) const {
    std::vector<Sandbox> out;
    bool open = !filter.before;
    for (auto one = all_.rbegin(); one != all_.rend(); ++one) {
      const bool fits = open && (!filter.tenant || one->tenant == *filter.tenant) &&
                        (filter.ended || one->ended.nanos == 0) &&
                        (filter.name.empty() || one->name == filter.name);
      if (fits && out.size() < filter.limit) out.push_back(*one);
      if (filter.before && one->id == *filter.before) open = true;
    }
    return out;
  }
  const std::vector<Sandbox>& all() const { return all_; }

 private:
  static Sandbox created(const sandbox::Accepted& accepted,
                         const control::SandboxRequested& asked, Time now) {
    Sandbox one;
    one.sandbox = accepted.sandbox;
    one.tenant = asked.tenant;
    one.payload = asked.payload;
    one.id = label_of(one.sandbox, one.payload).id;
    one.name = label_of(one.sandbox, one.payload).name;
    one.resources = asked.resources;
    one.lifetime = asked.lifetime;
    one.created = now;
    return one;
  }
  static void end(Sandbox& one, Time now, Status status) {
    one.status = status;
    one.ended = now;
  }
  Sandbox* find(SandboxId id) {
    for (Sandbox& one : all_) {
      if (one.sandbox == id) return &one;
    }
    return nullptr;
  }
  // The oldest end goes, as long as there are too many or it is too long ago.
  void forget(Time now) {
    while (true) {
      std::size_t oldest = all_.size(), ended = 0;
      for (std::size_t i = 0; i < all_.size(); ++i) {
        if (all_[i].ended.nanos == 0) continue;
        ++ended;
        if (oldest == all_.size() || all_[i].ended < all_[oldest].ended) oldest = i;
      }
      if (ended == 0) return;
      const bool old = all_[oldest].ended + options_.keep_ended < now;
      if (ended <= options_.keep_ended_max && !old) return;
      all_.erase(all_.begin() + static_cast<std::ptrdiff_t>(oldest));
    }
  }

  const Options options_;
  std::vector<Sandbox> all_;
};

}  // namespace chalk::records
