// Azure Functions 2019: per day a file of calls per function and minute, one of execution time
// percentiles and one of memory.
//
// The constructor checks every file once and keeps, per row of a day's calls, where its next unread
// count stands in the file. Counts are read an hour at a time for all rows; the calls of one minute
// are put at seeded uniform times within it, which is what a Poisson process does given its count.
// So memory is O(functions * days), plus the calls of one minute, and never O(calls).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "model/core/random.h"
#include "sim/workload/csv.h"
#include "sim/workload/distribution.h"
#include "sim/workload/input_error.h"
#include "sim/workload/pace.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr std::size_t kMinutesPerDay = 1440;
constexpr std::size_t kMinutesPerRead = 60;
constexpr std::int64_t kCallsPerMinuteMax = 10'000'000;  // of one function; fits 24 bits
constexpr double kMillisecondsMax = 1e11;
constexpr double kMebibytesMax = 1e9;
constexpr std::size_t kNamed = 4;  // columns before the minutes

struct DayFiles {
  std::string calls;
  std::string durations;
  std::string memory;  // may be empty
};

struct Row {
  std::uint64_t next;  // where its next unread count stands
  std::uint32_t function;
  std::uint32_t occurrence;  // 0 unless the function has several rows in one day
};

std::string first_existing(const std::filesystem::path& directory,
                           std::initializer_list<std::string> names) {
  for (const std::string& name : names) {
    std::error_code error;
    if (std::filesystem::exists(directory / name, error)) return directory / name;
  }
  return {};
}

// One entry per day from the first to the last that has calls; a day without files stays empty.
std::vector<DayFiles> find_days(const std::string& path) {
  std::filesystem::path directory(path);
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    throw InputError(path, 0, "no directory", "a directory with the files of Azure Functions 2019");
  }
  std::vector<DayFiles> days;
  if (std::string calls = first_existing(directory, {"invocations.csv"}); !calls.empty()) {
    days.push_back({calls, first_existing(directory, {"durations.csv"}),
                    first_existing(directory, {"memory.csv"})});
  } else {
    for (int day = 1; day <= 99; ++day) {
      std::string end = fmt::format(".anon.d{:02}.csv", day);
      DayFiles files{first_existing(directory, {"invocations_per_function_md" + end}),
                     first_existing(directory, {"function_durations_percentiles" + end}),
                     first_existing(directory, {"app_memory_percentiles" + end})};
      if (!days.empty() || !files.calls.empty()) days.push_back(files);
    }
    while (!days.empty() && days.back().calls.empty()) days.pop_back();
  }
  if (days.empty()) {
    throw InputError(path, 0, "no file of calls",
                     "invocations.csv or invocations_per_function_md.anon.d01.csv");
  }
  for (const DayFiles& files : days) {
    if (!files.calls.empty() && files.durations.empty()) {
      throw InputError(files.calls, 0, "no file of durations beside it",
                       "durations.csv or function_durations_percentiles.anon.dNN.csv");
    }
  }
  return days;
}

// The counts of one day, read by the hour for all rows.
class DayCounts {
 public:
  DayCounts(const std::string& path, std::vector<Row> rows, std::size_t minutes)
      : path_(path), rows_(std::move(rows)), minutes_(minutes), counts_(rows_.size()) {
    file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) throw InputError(path, 0, std::strerror(errno), "a readable file");
  }
  ~DayCounts() { close(file_); }
  DayCounts(const DayCounts&) = delete;
  DayCounts& operator=(const DayCounts&) = delete;

  std::size_t minutes() const { return minutes_; }
  const std::vector<Row>& rows() const { return rows_; }
  // Minutes are asked for in order.
  std::uint32_t count(std::size_t row, std::size_t minute) {
    if (minute / kMinutesPerRead >= hours_read_) read_hour();
    return counts_[row][minute % kMinutesPerRead];
  }

 private:
  void read_hour() {
    std::size_t from = hours_read_ * kMinutesPerRead;
    std::size_t fields = std::min(kMinutesPerRead, minutes_ - from);
    for (std::size_t i = 0; i < rows_.size(); ++i) read_row(rows_[i], counts_[i], fields);
    ++hours_read_;
  }

  void read_row(Row& row, std::array<std::uint32_t, kMinutesPerRead>& counts, std::size_t fields) {
    std::size_t field = 0;
    counts = {};
    while (true) {
      std::array<char, 512> block;
      ssize_t got = pread(file_, block.data(), block.size(), static_cast<off_t>(row.next));
      if (got < 0) throw InputError(path_, 0, std::strerror(errno), "a readable file");
      for (ssize_t i = 0; i < got; ++i) {
        char c = block[i];
        ++row.next;
        if (c >= '0' && c <= '9') {
          counts[field] = counts[field] * 10 + static_cast<std::uint32_t>(c - '0');
        } else if (c == ',' || c == '\n') {
          if (++field == fields) return;
          if (c == '\n') got = 0;  // the row was longer when it was checked
        }
      }
      if (got == 0 && field + 1 == fields) return;  // the last line has no end
      if (got == 0) throw InputError(path_, 0, "the file changed", "the file as it was opened");
    }
  }

  std::string path_;
  int file_;
  std::vector<Row> rows_;
  std::size_t minutes_;
  std::vector<std::array<std::uint32_t, kMinutesPerRead>> counts_;
  std::size_t hours_read_ = 0;
};

class Azure2019 : public Source {
 public:
  Azure2019(const std::string& path, const TraceOptions& options)
      : place_key_(Random{options.seed}.stream(21).key),
        service_key_(Random{options.seed}.stream(22).key),
        days_(find_days(path)) {
    for (const DayFiles& files : days_) {
      rows_.emplace_back();
      minutes_.push_back(0);
      if (!files.calls.empty()) scan_calls(files.calls);
    }
    services_.assign(catalogue_.functions.size(), Distribution::constant(options.service_default));
    for (std::size_t day = days_.size(); day-- > 0;) {
      if (!days_[day].durations.empty()) read_durations(days_[day].durations);
      if (!days_[day].memory.empty()) read_memory(days_[day].memory);
    }
    // The pass above checked the files; now the run starts as one that knows only the first day.
    services_.assign(catalogue_.functions.size(), Distribution::constant(options.service_default));
    next_minute();
    show();
  }

  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return over() ? nullptr : &shown_; }
  void pop() override {
    if (over()) return;
    ++popped_;
    if (++next_ == calls_.size()) next_minute();
    show();
  }
  bool exhausted() const override { return over(); }
  double progress() const override {
    return over() ? 1 : static_cast<double>(popped_) / static_cast<double>(total_);
  }

 private:
  struct Call {
    std::int64_t within;  // nanoseconds after the minute's start
    std::uint32_t row;
    std::uint32_t number;
    bool operator<(const Call& other) const {
      if (within != other.within) return within < other.within;
      return row != other.row ? row < other.row : number < other.number;
    }
  };

  bool over() const { return next_ == calls_.size(); }

  const std::string& key(const CsvFile& csv, std::initializer_list<std::size_t> columns) {
    key_.clear();
    for (std::size_t column : columns) key_.append(csv.name(column)).push_back('/');
    key_.pop_back();
    return key_;
  }

  std::uint32_t function_number(const CsvFile& csv) {
    auto [at, is_new] = numbers_.try_emplace(
        key(csv, {0, 1, 2}), static_cast<std::uint32_t>(catalogue_.functions.size()));
    if (!is_new) return at->second;
    auto [image, new_image] =
        images_.try_emplace(key(csv, {0, 1}), static_cast<std::uint32_t>(catalogue_.images.size()));
    if (new_image) catalogue_.images.push_back(image->first);
    auto [tenant, new_tenant] =
        tenants_.try_emplace(key(csv, {0}), static_cast<std::uint32_t>(catalogue_.tenants.size()));
    if (new_tenant) catalogue_.tenants.push_back(tenant->first);
    catalogue_.functions.push_back({at->first, tenant->second, image->second, 0, 0});
    return at->second;
  }

  void scan_calls(const std::string& path) {
    CsvFile csv(path);
    constexpr const char* kNames[kNamed] = {"HashOwner", "HashApp", "HashFunction", "Trigger"};
    bool fits = csv.columns() > kNamed && csv.columns() <= kNamed + kMinutesPerDay;
    for (std::size_t i = 0; fits && i < csv.columns(); ++i) {
      fits = csv.column_name(i) == (i < kNamed ? kNames[i] : std::to_string(i - kNamed + 1));
    }
    if (!fits) {
      throw InputError(path, 1, fmt::format("a header of {} other columns", csv.columns()),
                       "HashOwner,HashApp,HashFunction,Trigger,1,2,... up to 1440");
    }
    minutes_.back() = csv.columns() - kNamed;
    std::map<std::uint32_t, std::uint32_t> occurrences;
    while (csv.next_row()) {
      std::uint32_t function = function_number(csv);
      std::uint32_t occurrence = occurrences[function]++;
      if (occurrence > 255) csv.fail(2, "at most 256 rows of one function in one day");
      std::int64_t sum = 0;
      for (std::size_t i = kNamed; i < csv.columns(); ++i) {
        std::string_view text = csv.text(i);
        if (text == "0") continue;
        sum += csv.integer(i, 0, kCallsPerMinuteMax);
      }
      total_ += static_cast<std::uint64_t>(sum);
      if (sum > 0) rows_.back().push_back({csv.offset(kNamed), function, occurrence});
    }
  }

  void read_durations(const std::string& path) {
    CsvFile csv(path);
    constexpr std::array kPercentiles = {0, 1, 25, 50, 75, 99, 100};
    std::array<std::size_t, 7> columns;
    for (std::size_t i = 0; i < 7; ++i) {
      columns[i] = csv.column(fmt::format("percentile_Average_{}", kPercentiles[i]));
    }
    std::size_t owner = csv.column("HashOwner");
    std::size_t app = csv.column("HashApp");
    std::size_t function = csv.column("HashFunction");
    std::vector<Distribution::Point> points(7);
    while (csv.next_row()) {
      double least = 0;
      for (std::size_t i = 0; i < 7; ++i) {
        // Percentiles of averages may decrease by a rounding; that is not worth an error.
        least = std::max(least, csv.number(columns[i], 0, kMillisecondsMax) * 1e6);
        points[i] = {kPercentiles[i] / 100.0, least};
      }
      auto found = numbers_.find(key(csv, {owner, app, function}));
      if (found != numbers_.end()) services_[found->second] = Distribution::percentiles(points);
    }
  }

  // By function where the file says so, else by app: then each function has its app's memory, as
  // the app is what Azure keeps in memory. The greatest over all days, as what is asked for is a
  // limit.
  void read_memory(const std::string& path) {
    CsvFile csv(path);
    std::size_t owner = csv.column("HashOwner");
    std::size_t app = csv.column("HashApp");
    std::size_t most = csv.column("AverageAllocatedMb_pct100");
    bool by_function = csv.has_column("HashFunction");
    std::size_t function = by_function ? csv.column("HashFunction") : 0;
    std::vector<std::int64_t> of_image(catalogue_.images.size());
    while (csv.next_row()) {
      auto bytes = static_cast<std::int64_t>(csv.number(most, 0, kMebibytesMax) * 1048576);
      if (by_function) {
        auto found = numbers_.find(key(csv, {owner, app, function}));
        if (found == numbers_.end()) continue;
        std::int64_t& memory = catalogue_.functions[found->second].memory_bytes;
        memory = std::max(memory, bytes);
      } else if (auto found = images_.find(key(csv, {owner, app})); found != images_.end()) {
        of_image[found->second] = std::max(of_image[found->second], bytes);
      }
    }
    for (FunctionSpec& spec : catalogue_.functions) {
      spec.memory_bytes = std::max(spec.memory_bytes, of_image[spec.image]);
    }
  }

  // Fills calls_ with the next minute that has calls; leaves it empty at the end of the trace.
  void next_minute() {
    calls_.clear();
    next_ = 0;
    while (calls_.empty()) {
      if (!counts_ || minute_ + 1 >= counts_->minutes()) {
        if (!next_day()) return;
      } else {
        ++minute_;
      }
      for (std::uint32_t row = 0; row < counts_->rows().size(); ++row) {
        std::uint32_t count = counts_->count(row, minute_);
        if (count == 0) continue;
        std::uint64_t key = random_at(place_key_, counts_->rows()[row].function);
        for (std::uint32_t number = 0; number < count; ++number) {
          Random place{key, counter(row, number)};
          auto within = static_cast<std::int64_t>(place.below(Week::kMinuteNanos));
          calls_.push_back({within, row, number});
        }
      }
      std::sort(calls_.begin(), calls_.end());
    }
  }

  bool next_day() {
    counts_.reset();
    do {
      if (day_ == days_.size()) return false;
      ++day_;
    } while (minutes_[day_ - 1] == 0);
    const DayFiles& files = days_[day_ - 1];
    read_durations(files.durations);
    counts_ =
        std::make_unique<DayCounts>(files.calls, std::move(rows_[day_ - 1]), minutes_[day_ - 1]);
    minute_ = 0;
    return true;
  }

  std::int64_t trace_minute() const {
    return static_cast<std::int64_t>((day_ - 1) * kMinutesPerDay + minute_);
  }

  std::uint64_t counter(std::uint32_t row, std::uint32_t number) const {
    auto minute = static_cast<std::uint64_t>(trace_minute());
    return minute << 32 | std::uint64_t{counts_->rows()[row].occurrence} << 24 | number;
  }

  void show() {
    if (over()) return;
    const Call& call = calls_[next_];
    shown_.at = {trace_minute() * Week::kMinuteNanos + call.within};
    shown_.function = counts_->rows()[call.row].function;
    std::uint64_t key = random_at(service_key_, shown_.function);
    shown_.service =
        services_[shown_.function].sample(random_at(key, counter(call.row, call.number)));
  }

  std::uint64_t place_key_;
  std::uint64_t service_key_;
  std::vector<DayFiles> days_;
  std::vector<std::vector<Row>> rows_;  // by day, given to DayCounts when the day comes
  std::vector<std::size_t> minutes_;    // by day, how many the file has; 0 without a file
  Catalogue catalogue_;
  std::unordered_map<std::string, std::uint32_t> numbers_;  // looked up, never walked
  std::unordered_map<std::string, std::uint32_t> images_;
  std::unordered_map<std::string, std::uint32_t> tenants_;
  std::vector<Distribution> services_;  // by function, of the day
  std::string key_;
  std::uint64_t total_ = 0;
  std::uint64_t popped_ = 0;
  std::size_t day_ = 0;  // days begun
  std::size_t minute_ = 0;
  std::unique_ptr<DayCounts> counts_;
  std::vector<Call> calls_;
  std::size_t next_ = 0;
  Arrival shown_;
};

}  // namespace

std::unique_ptr<Source> open_azure2019(const std::string& directory, const TraceOptions& options) {
  return std::make_unique<Azure2019>(directory, options);
}

}  // namespace chalk::sim
