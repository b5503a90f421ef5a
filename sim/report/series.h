// Levels over time, in bounded memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace chalk::sim {

// A level that changes at moments: its mean over time and its most.
class Level {
 public:
  void add(std::int64_t now_nanos, double change) {
    advance(now_nanos);
    value_ += change;
    if (value_ > most_) most_ = value_;
  }
  void advance(std::int64_t now_nanos) {
    if (now_nanos <= since_) return;
    integral_ += value_ * static_cast<double>(now_nanos - since_);
    since_ = now_nanos;
  }
  double value() const { return value_; }
  double most() const { return most_; }
  double integral_seconds() const { return integral_ * 1e-9; }
  double mean() const { return since_ == 0 ? value_ : integral_ / static_cast<double>(since_); }

 private:
  double value_ = 0;
  double most_ = 0;
  double integral_ = 0;
  std::int64_t since_ = 0;
};

// Rows of named columns at equal steps of time. When there are too many, neighbours are averaged
// and the step doubles.
struct Series {
  static constexpr std::size_t kRowsMax = 1024;
  std::vector<std::string> columns;
  double step_seconds = 0;
  std::vector<std::vector<double>> rows;  // rows[i] covers the time up to (i + 1) * step

  void add(std::vector<double> row) {
    rows.push_back(std::move(row));
    if (rows.size() < kRowsMax) return;
    for (std::size_t i = 0; i < rows.size() / 2; ++i) {
      std::vector<double> merged(columns.size());
      for (std::size_t c = 0; c < columns.size(); ++c) {
        merged[c] = (rows[2 * i][c] + rows[2 * i + 1][c]) / 2;
      }
      rows[i] = std::move(merged);
    }
    rows.resize(rows.size() / 2);
    step_seconds *= 2;
  }
};

}  // namespace chalk::sim
