#include "adapters/agent/sessions.h"

#include <signal.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace chalk::agent {
namespace {

// Nobody guesses it: who knows a session's name may attach to it.
std::string fresh_id() {
  std::array<unsigned char, 16> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("sessions: the kernel gives no random bytes");
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string id = "ses-";
  for (const unsigned char byte : bytes) {
    id.push_back(kDigits[byte >> 4]);
    id.push_back(kDigits[byte & 15]);
  }
  return id;
}

}  // namespace

Sessions::Sessions(StartProcess start, Options options)
    : start_(std::move(start)),
      options_(options),
      pump_(std::make_unique<Pump>(
          [this](std::function<void()> work) { killers_.run(std::move(work)); })) {}

Sessions::~Sessions() {
  pump_.reset();
  killers_.stop();
}

Result<std::shared_ptr<Session>> Sessions::open(SandboxId sandbox, Command command, bool listed) {
  if (command.argv.empty() || command.argv.front().empty()) {
    return fail(Error::Kind::invalid, "a session needs a command");
  }
  auto session = std::make_shared<Session>(fresh_id(), sandbox, std::move(command),
                                           options_.record_bytes_max);
  {
    const std::lock_guard lock(session->mutex_);
    session->record({});  // attached, number 1
  }
  const std::lock_guard lock(mutex_);
  purge();
  std::size_t running = 0, of_sandbox = 0;
  for (const auto& [id, one] : sessions_) {
    if (one->status().state != SessionState::running) continue;
    ++running;
    if (one->sandbox() == sandbox) ++of_sandbox;
  }
  const auto full = [](const char* where, std::size_t found, std::size_t most) {
    return fail(Error::Kind::exhausted, std::string("commands and sessions ") + where + ": " +
                                            std::to_string(found) + " run, " +
                                            std::to_string(most) +
                                            " allowed; end some, or wait for their end");
  };
  if (of_sandbox >= options_.of_sandbox_max) {
    return full("in this sandbox", of_sandbox, options_.of_sandbox_max);
  }
  if (running >= options_.running_max) return full("on this node", running, options_.running_max);
  sessions_[session->id()] = session;
  listed_[session->id()] = listed;
  return session;
}

void Sessions::start(const std::shared_ptr<Session>& session, std::chrono::milliseconds timeout) {
  auto process = start_(session->sandbox(), session->command(),
                        [this, session](ProcessEnd end) { pump_->ended(session, end); });
  if (!process) return give_up(session, process.error());
  pump_->add(session, std::move(*process), timeout);
}

void Sessions::give_up(const std::shared_ptr<Session>& session, Error why) {
  session->finish(SessionState::failed, {}, std::move(why));
}

Result<std::shared_ptr<Session>> Sessions::find(SandboxId sandbox, const std::string& id) {
  const std::lock_guard lock(mutex_);
  purge();
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second->sandbox() != sandbox || !listed_.at(id)) {
    return fail(Error::Kind::not_found,
                "session " + id + ": is not known; ended sessions are kept for " +
                    std::to_string(options_.keep_ended.count()) +
                    " s, and a restart of the node's agent ends those that go on");
  }
  return found->second;
}

std::vector<std::shared_ptr<Session>> Sessions::list(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  purge();
  std::vector<std::shared_ptr<Session>> found;
  for (const auto& [id, session] : sessions_) {
    if (session->sandbox() == sandbox && listed_.at(id)) found.push_back(session);
  }
  return found;
}

void Sessions::kill(const std::shared_ptr<Session>& session) {
  killers_.run([session] { (void)session->signal(SIGKILL); });
}

void Sessions::sandbox_ended(SandboxId sandbox) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, session] : sessions_) {
    if (session->sandbox() == sandbox && session->status().state == SessionState::running) {
      pump_->doom(session, "the sandbox ended", options_.end_patience);
    }
  }
}

std::size_t Sessions::running() {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count_if(sessions_, [](const auto& one) {
    return one.second->status().state == SessionState::running;
  }));
}

// Hidden sessions go with their end, the others when they are old or too many.
void Sessions::purge() {
  const auto old = Session::Clock::now() - options_.keep_ended;
  std::vector<std::pair<Session::Clock::time_point, std::string>> ended;
  for (auto place = sessions_.begin(); place != sessions_.end();) {
    const auto session = place->second;  // held until its mutex is free
    const std::lock_guard lock(session->mutex_);
    const bool gone = session->over_ && (session->ended_at_ < old || !listed_.at(place->first));
    if (!gone) {
      if (session->over_) ended.emplace_back(session->ended_at_, place->first);
      ++place;
      continue;
    }
    listed_.erase(place->first);
    place = sessions_.erase(place);
  }
  if (ended.size() <= options_.ended_max) return;
  std::ranges::sort(ended);
  for (std::size_t i = 0; i < ended.size() - options_.ended_max; ++i) {
    sessions_.erase(ended[i].second);
    listed_.erase(ended[i].second);
  }
}

}  // namespace chalk::agent
