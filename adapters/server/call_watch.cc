#include "adapters/server/call_watch.h"

#include <grpc/grpc.h>

#include <vector>

#include "adapters/server/node_hub.h"

namespace chalk::server {

CallWatch::~CallWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
}

void CallWatch::run() {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, every_, [&] { return stopping_; })) {
    const std::vector<std::shared_ptr<Entry>> all(entries_.begin(), entries_.end());
    lock.unlock();
    for (const auto& entry : all) look(*entry);
    lock.lock();
  }
}

// TryCancel would say no more than "cancelled": this is what it does itself, with the reason.
void CallWatch::look(Entry& entry) {
  const std::lock_guard lock(entry.mutex);
  if (entry.context == nullptr) return;
  grpc::Status status = entry.may_go_on();
  if (status.ok() && entry.first_until && Clock::now() > *entry.first_until) {
    status = {grpc::StatusCode::DEADLINE_EXCEEDED,
              "the first message did not come in time; send it right after the call's beginning"};
  }
  if (status.ok()) return;
  grpc_call_cancel_with_status(entry.context->c_call(),
                               static_cast<grpc_status_code>(status.error_code()),
                               status.error_message().c_str(), nullptr);
  if (entry.channel) entry.channel->close();
  entry.context = nullptr;
}

CallWatch::Watched::Watched(CallWatch& watch, grpc::ServerContextBase& context, MayGoOn may_go_on)
    : watch_(watch) {
  auto entry = std::make_shared<Entry>();
  entry->context = &context;
  entry->may_go_on = std::move(may_go_on);
  const std::lock_guard lock(watch_.mutex_);
  entry_ = watch_.entries_.insert(watch_.entries_.end(), std::move(entry));
}

CallWatch::Watched::~Watched() {
  {
    const std::lock_guard lock((*entry_)->mutex);
    (*entry_)->context = nullptr;
    (*entry_)->may_go_on = nullptr;
  }
  const std::lock_guard lock(watch_.mutex_);
  watch_.entries_.erase(entry_);
}

void CallWatch::Watched::expect_first(std::chrono::milliseconds patience) {
  const std::lock_guard lock((*entry_)->mutex);
  (*entry_)->first_until = Clock::now() + patience;
}

void CallWatch::Watched::first_came() {
  const std::lock_guard lock((*entry_)->mutex);
  (*entry_)->first_until.reset();
}

void CallWatch::Watched::closes(std::shared_ptr<Channel> channel) {
  const std::lock_guard lock((*entry_)->mutex);
  (*entry_)->channel = std::move(channel);
  if ((*entry_)->context == nullptr && (*entry_)->channel) (*entry_)->channel->close();
}

}  // namespace chalk::server
