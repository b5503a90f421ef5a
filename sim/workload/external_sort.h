// Puts records in order with bounded memory: an external merge sort. Up to `memory_bytes` of
// records are held; beyond that sorted runs go to one unnamed temporary file and are merged while
// they are read. Records of one key come out in the order in which they went in.
//
// Record is trivially copyable, has `std::int64_t at` (the key) and `std::uint64_t sequence`.
#pragma once
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <queue>
#include <type_traits>
#include <vector>

#include "sim/workload/input_error.h"
#include "sim/workload/text_file.h"

namespace chalk::sim {

template <class Record>
class ExternalSort {
  static_assert(std::is_trivially_copyable_v<Record>);

 public:
  explicit ExternalSort(std::size_t memory_bytes)
      : records_max_(std::max<std::size_t>(memory_bytes / sizeof(Record), 16)) {}

  void add(Record record) {
    record.sequence = total_++;
    held_.push_back(record);
    if (held_.size() >= records_max_) spill();
  }

  // No add after this. Afterwards front() is the first record until empty().
  void finish() {
    if (runs_.empty()) {
      sort_held();
      return;
    }
    if (!held_.empty()) spill();
    held_ = {};
    // All runs share the memory that one chunk had; reads stay long enough to be worth a seek.
    block_ = std::max<std::size_t>(records_max_ / runs_.size(), 64);
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      if (refill(runs_[i])) heap_.push({runs_[i].block[0], i});
    }
  }

  bool empty() const { return runs_.empty() ? next_ == held_.size() : heap_.empty(); }
  const Record& front() const { return runs_.empty() ? held_[next_] : heap_.top().record; }
  void pop() {
    if (runs_.empty()) {
      ++next_;
      return;
    }
    Run& run = runs_[heap_.top().run];
    std::size_t index = heap_.top().run;
    heap_.pop();
    if (++run.next < run.block.size() || refill(run)) heap_.push({run.block[run.next], index});
  }
  std::uint64_t total() const { return total_; }
  std::size_t runs() const { return runs_.size(); }

 private:
  struct Run {
    std::uint64_t from = 0;  // records before its first unread one in the file
    std::uint64_t left = 0;
    std::vector<Record> block = {};
    std::size_t next = 0;
  };
  struct Head {
    Record record;
    std::size_t run;
    bool operator<(const Head& other) const { return before(other.record, record); }
  };

  static bool before(const Record& a, const Record& b) {
    return a.at != b.at ? a.at < b.at : a.sequence < b.sequence;
  }
  void sort_held() { std::sort(held_.begin(), held_.end(), before); }

  void spill() {
    if (!file_) file_.reset(std::tmpfile());
    if (!file_) fail();
    sort_held();
    if (std::fwrite(held_.data(), sizeof(Record), held_.size(), file_.get()) != held_.size()) {
      fail();
    }
    runs_.push_back({total_ - held_.size(), held_.size()});
    held_.clear();
  }

  bool refill(Run& run) {
    run.block.resize(std::min<std::uint64_t>(block_, run.left));
    run.next = 0;
    if (run.block.empty()) return false;
    if (fseeko(file_.get(), static_cast<off_t>(run.from * sizeof(Record)), SEEK_SET) != 0 ||
        std::fread(run.block.data(), sizeof(Record), run.block.size(), file_.get()) !=
            run.block.size()) {
      fail();
    }
    run.from += run.block.size();
    run.left -= run.block.size();
    return true;
  }

  [[noreturn]] static void fail() {
    throw InputError("temporary file", 0, std::strerror(errno), "room to sort the trace on disk");
  }

  std::size_t records_max_;
  std::vector<Record> held_;
  std::size_t next_ = 0;
  std::uint64_t total_ = 0;
  FileHandle file_;
  std::vector<Run> runs_;
  std::size_t block_ = 0;
  std::priority_queue<Head> heap_;
};

}  // namespace chalk::sim
