// Which layer goes when a node's image cache is full: five policies behind one interface.
//
// Each costs O(log n) for a use and, over many, for a layer that goes. A layer in use is never
// offered: it leaves the order while it is held and comes back to its old place.
//   lru      least recently let go first
//   sieve    a hand over insertion order that spares what was used since it last passed (Zhang et
//            al., NSDI'24); one count per layer, sizes are not looked at
//   s3_fifo  a small and a main FIFO queue and the names of what left the small one unused (Yang
//            et al., SOSP'23); queues are measured in bytes
//   gdsf     clock + uses / bytes, the clock being the priority of the last that went (Cherkasova,
//            HPL-98-69)
//   seconds  ours: seconds of pulling per byte kept, times uses that fade: half their weight goes
//            each time that the cache has been filled anew `fade` times. Counts outlive the layer,
//            so what was pulled once for one sandbox does not displace what comes back.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "model/core/ids.h"
#include "model/core/time.h"
#include "model/images/weight.h"

namespace chalk::images {

enum class CachePolicy : std::uint8_t { lru, sieve, s3_fifo, gdsf, seconds };

struct EvictionRule {
  CachePolicy policy = CachePolicy::seconds;
  // seconds: what a layer that is not there costs a start, besides its bytes, and the bytes.
  Duration layer_cost = milliseconds(100);
  std::int64_t bytes_per_second = 100'000'000;
  std::uint32_t fade = 4;
  CHALK_FIELDS(EvictionRule, policy, layer_cost, bytes_per_second, fade)
};

class Eviction {
 public:
  // A sandbox takes the layer, whether it is here or on its way. It is busy until released().
  void used(const EvictionRule& rule, std::int64_t capacity, LayerId layer, std::int64_t bytes);
  void let_go(const EvictionRule& rule, LayerId layer);  // by the last that held it
  void released(LayerId layer);                          // here and unused: it may go
  void drop(LayerId layer);                              // it never came
  void resized(const EvictionRule& rule, LayerId layer, std::int64_t bytes);
  // Takes the layer that goes out of the order. Some layer has been released.
  LayerId victim(const EvictionRule& rule, std::int64_t capacity);
  std::int64_t idle_bytes() const { return idle_bytes_; }
  std::size_t known() const { return entries_.size() + ghosts_.size(); }

 private:
  struct Entry {
    std::uint64_t key = 0;  // its place in the order; least goes first
    std::int64_t bytes = 0;
    std::uint32_t uses = 0;  // what the policy counts of them
    bool small = false;      // s3_fifo: in the small queue
    bool idle = false;
    Weight weight;  // seconds
    CHALK_FIELDS(Entry, key, bytes, uses, small, idle, weight)
  };
  struct Ghost {  // of a layer that went
    std::uint64_t key = 0;
    std::int64_t bytes = 0;
    Weight weight;
    CHALK_FIELDS(Ghost, key, bytes, weight)
  };
  using Order = std::set<std::pair<std::uint64_t, LayerId>>;

  void place(const EvictionRule& rule, std::int64_t capacity, LayerId layer, Entry& entry,
             bool fresh);
  std::uint64_t worth(const EvictionRule& rule, const Entry& entry) const;
  LayerId sieve_victim();
  LayerId s3_fifo_victim(std::int64_t capacity);
  void move_to_main(LayerId layer, Entry& entry, std::uint32_t uses);
  void busy(LayerId layer, Entry& entry);
  void remember(const EvictionRule& rule, std::int64_t capacity, LayerId layer, const Entry& entry);
  void forget_ghost(LayerId layer);
  Order& order_of(const Entry& entry) { return entry.small ? small_ : idle_; }

  std::map<LayerId, Entry> entries_;  // here or on their way
  Order idle_;                        // those that may go; with s3_fifo of the main queue
  Order small_;
  std::int64_t idle_bytes_ = 0;
  std::int64_t small_bytes_ = 0;  // s3_fifo: with those in use
  std::uint64_t clock_ = 0;       // gdsf: a priority; else a counter
  std::uint64_t hand_ = 0;        // sieve: the key that it stands on
  std::map<LayerId, Ghost> ghosts_;
  Order ghost_order_;
  std::int64_t ghost_bytes_ = 0;
  std::int64_t filled_mebibytes_ = 0;  // of all that ever came

 public:
  CHALK_FIELDS(Eviction, entries_, idle_, small_, idle_bytes_, small_bytes_, clock_, hand_, ghosts_,
               ghost_order_, ghost_bytes_, filled_mebibytes_)
};

}  // namespace chalk::images
