#include "sim/workload/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "sim/workload/input_error.h"

namespace chalk::sim {

const std::vector<std::string_view>& CsvSplitter::split(std::string_view line,
                                                        const TextFile& file) {
  fields_.clear();
  unquoted_.clear();
  std::size_t at = 0;
  starts_.clear();
  while (true) {
    starts_.push_back(at);
    if (at == line.size() || line[at] != '"') {
      std::size_t end = std::min(line.find(',', at), line.size());
      std::string_view field = line.substr(at, end - at);
      if (field.find('"') != std::string_view::npos) {
        file.fail(fmt::format("a quote inside the field {}", quote(field)), "a quoted field");
      }
      fields_.push_back(field);
      at = end;
    } else {
      std::size_t start = ++at;
      bool doubled = false;
      while (true) {
        at = line.find('"', at);
        if (at == std::string_view::npos) file.fail("an open quote", "a closing quote");
        if (at + 1 == line.size() || line[at + 1] != '"') break;
        doubled = true;
        at += 2;
      }
      std::string_view field = line.substr(start, at - start);
      if (doubled) {
        std::string& text = unquoted_.emplace_back();
        for (std::size_t i = 0; i < field.size(); ++i) {
          text += field[i];
          if (field[i] == '"') ++i;
        }
        field = text;
      }
      fields_.push_back(field);
      ++at;
      if (at < line.size() && line[at] != ',') {
        file.fail(fmt::format("{} after a closing quote", quote(line.substr(at, 1))), "a comma");
      }
    }
    if (at == line.size()) return fields_;
    ++at;  // the comma
  }
}

CsvFile::CsvFile(std::string path) : file_(std::move(path)) {
  std::string_view line;
  if (!file_.next(line) || line.empty()) {
    throw InputError(file_.path(), 1, "no header", "a line of column names");
  }
  std::set<std::string_view> seen;
  for (std::string_view name : splitter_.split(line, file_)) {
    if (!seen.insert(name).second) {
      file_.fail(fmt::format("column {} twice", quote(name)), "each column once");
    }
    header_.emplace_back(name);
  }
}

bool CsvFile::has_column(std::string_view name) const {
  for (const std::string& column : header_) {
    if (column == name) return true;
  }
  return false;
}

std::size_t CsvFile::column(std::string_view name) const {
  for (std::size_t i = 0; i < header_.size(); ++i) {
    if (header_[i] == name) return i;
  }
  std::string all;
  for (const std::string& column : header_) all += (all.empty() ? "" : ",") + column;
  throw InputError(file_.path(), 1, fmt::format("the columns {}", quote(all)),
                   fmt::format("a column {}", quote(name)));
}

bool CsvFile::next_row() {
  std::string_view line;
  do {
    if (!file_.next(line)) return false;
  } while (line.empty());
  row_ = &splitter_.split(line, file_);
  if (row_->size() != header_.size()) {
    file_.fail(fmt::format("{} fields", row_->size()),
               fmt::format("{} fields as in the header", header_.size()));
  }
  // Of columns named by numbers, a row of their names would be taken for one of values.
  if (row_->front() == header_.front() && std::ranges::equal(*row_, header_)) {
    file_.fail("the header a second time", "a row; of files that are joined only one header");
  }
  return true;
}

std::string_view CsvFile::name(std::size_t column) const {
  if (text(column).empty()) fail(column, "a name");
  return text(column);
}

std::int64_t CsvFile::integer(std::size_t column, std::int64_t low, std::int64_t high) const {
  std::int64_t value = 0;
  if (!parse_integer(text(column), value) || value < low || value > high) {
    fail(column, fmt::format("an integer from {} to {}", low, high));
  }
  return value;
}

double CsvFile::number(std::size_t column, double low, double high) const {
  std::string_view field = text(column);
  double value = 0;
  auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc{} || end != field.data() + field.size() || !std::isfinite(value) ||
      value < low || value > high) {
    fail(column, fmt::format("a number from {} to {}", low, high));
  }
  return value;
}

std::uint64_t CsvFile::offset(std::size_t column) const {
  return file_.line_offset() + splitter_.start(column);
}

void CsvFile::fail(std::size_t column, std::string expected) const {
  file_.fail(fmt::format("{} in column {}", quote(text(column)), quote(header_[column])),
             std::move(expected));
}

bool parse_integer(std::string_view text, std::int64_t& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && !text.empty() && end == text.data() + text.size();
}

}  // namespace chalk::sim
