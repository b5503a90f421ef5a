// A strict reader of comma-separated files with a header: RFC 4180 without line breaks in fields.
// Rows must have as many fields as the header and are never the header again; empty lines are
// skipped. Values that are not of the type or range asked for throw InputError with file, line,
// column, found and expected.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "sim/workload/text_file.h"

namespace chalk::sim {

// Splits one line; throws InputError through `file` for quotes that do not fit.
class CsvSplitter {
 public:
  const std::vector<std::string_view>& split(std::string_view line, const TextFile& file);
  std::size_t start(std::size_t field) const { return starts_[field]; }  // in the line

 private:
  std::vector<std::string_view> fields_;
  std::vector<std::size_t> starts_;
  std::deque<std::string> unquoted_;  // fields that had a doubled quote
};

class CsvFile {
 public:
  explicit CsvFile(std::string path);

  std::size_t column(std::string_view name) const;  // throws where the header lacks it
  bool has_column(std::string_view name) const;
  std::size_t columns() const { return header_.size(); }
  const std::string& column_name(std::size_t column) const { return header_[column]; }

  bool next_row();
  std::string_view text(std::size_t column) const { return (*row_)[column]; }
  std::string_view name(std::size_t column) const;  // not empty
  std::int64_t integer(std::size_t column, std::int64_t low, std::int64_t high) const;
  double number(std::size_t column, double low, double high) const;  // also "1e-3"
  // Where a field of this row stands in the file; at its quote where it has one.
  std::uint64_t offset(std::size_t column) const;
  const TextFile& file() const { return file_; }
  [[noreturn]] void fail(std::size_t column, std::string expected) const;

 private:
  TextFile file_;
  CsvSplitter splitter_;
  std::vector<std::string> header_;
  const std::vector<std::string_view>* row_ = nullptr;
};

// The whole text as a decimal integer; false where it is none or does not fit.
bool parse_integer(std::string_view text, std::int64_t& value);

}  // namespace chalk::sim
