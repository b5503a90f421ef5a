// A reliable, ordered channel over a network that loses, delays, repeats and reorders: sequence
// numbers, cumulative acknowledgement and go-back-N. Both ends are plain State.
#pragma once
#include <cstdint>

#include "model/core/codec.h"
#include "model/core/digest.h"

namespace chalk {

// Messages on their way out, kept until acknowledged. Sequence numbers start at 1.
template <class Message>
class Outbox {
 public:
  // Keeps the message and returns its sequence number; the caller sends it now.
  std::uint64_t push(Message message) {
    unacknowledged_.push_back(std::move(message));
    return first_ + unacknowledged_.size() - 1;
  }
  // The peer has everything up to and including `sequence`.
  void acknowledge(std::uint64_t sequence) {
    while (!unacknowledged_.empty() && first_ <= sequence) {
      unacknowledged_.pop_front();
      ++first_;
    }
  }
  // Called once per heartbeat: when the first was already out at the last call it may be lost, and
  // the peer has dropped all that came after it: visit(sequence, message) for everything. Sending
  // only the old ones again would leave a steady stream one heartbeat behind for ever.
  template <class Visit>
  void resend(Visit&& visit) {
    const std::uint64_t end = first_ + unacknowledged_.size();
    if (first_ < resend_below_) {
      for (std::uint64_t s = first_; s < end; ++s) visit(s, unacknowledged_[s - first_]);
    }
    resend_below_ = end;
  }
  std::size_t size() const { return unacknowledged_.size(); }
  bool empty() const { return unacknowledged_.empty(); }

 private:
  Fifo<Message> unacknowledged_;
  std::uint64_t first_ = 1;
  std::uint64_t resend_below_ = 1;

 public:
  CHALK_FIELDS(Outbox, unacknowledged_, first_, resend_below_)
};

// What has come in: accepts each sequence number once and in order; a gap waits for the resend.
struct Inbox {
  std::uint64_t received = 0;
  CHALK_FIELDS(Inbox, received)
  bool accept(std::uint64_t sequence) {
    if (sequence != received + 1) return false;
    ++received;
    return true;
  }
};

}  // namespace chalk
