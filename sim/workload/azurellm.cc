// Azure LLM inference: TIMESTAMP,ContextTokens,GeneratedTokens, one row per call in order of time.
//
// One function with one image and tenant. Time 0 is the first row's. The service time of a call is
// input tokens / prefill rate + output tokens / decode rate (TraceOptions).
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <optional>
#include <stdexcept>

#include "sim/workload/csv.h"
#include "sim/workload/distribution.h"
#include "sim/workload/input_error.h"
#include "sim/workload/trace.h"

namespace chalk::sim {
namespace {

constexpr std::int64_t kTokensMax = 100'000'000;

bool digits(std::string_view text, int& value) {
  value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + (c - '0');
  }
  return !text.empty();
}

// "2023-11-16 18:17:03.9799600", also with "T" and with "Z" or "+00:00" at the end: nanoseconds
// since 1970.
std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  if (text.ends_with("+00:00")) text.remove_suffix(6);
  if (text.ends_with("Z")) text.remove_suffix(1);
  if (text.size() < 19 || text.size() > 29) return std::nullopt;
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  bool numbers = digits(text.substr(0, 4), year) && digits(text.substr(5, 2), month) &&
                 digits(text.substr(8, 2), day) && digits(text.substr(11, 2), hour) &&
                 digits(text.substr(14, 2), minute) && digits(text.substr(17, 2), second);
  bool marks = text[4] == '-' && text[7] == '-' && (text[10] == ' ' || text[10] == 'T') &&
               text[13] == ':' && text[16] == ':';
  if (!numbers || !marks) return std::nullopt;
  std::chrono::year_month_day date{std::chrono::year(year),
                                   std::chrono::month(static_cast<unsigned>(month)),
                                   std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || year < 1970 || year > 2200 || hour > 23 || minute > 59 || second > 60) {
    return std::nullopt;
  }
  std::int64_t fraction_nanos = 0;
  if (text.size() > 19) {
    std::string_view fraction = text.substr(20);
    int value = 0;
    if (text[19] != '.' || !digits(fraction, value)) return std::nullopt;
    fraction_nanos = value;
    for (std::size_t i = fraction.size(); i < 9; ++i) fraction_nanos *= 10;
  }
  std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  std::int64_t whole = ((days * 24 + hour) * 60 + minute) * 60 + second;
  return whole * 1'000'000'000 + fraction_nanos;
}

class AzureLlm : public Source {
 public:
  AzureLlm(const std::string& path, const TraceOptions& options)
      : csv_(path),
        timestamp_(csv_.column("TIMESTAMP")),
        input_(csv_.column("ContextTokens")),
        output_(csv_.column("GeneratedTokens")),
        nanos_per_input_(1e9 / options.prefill_tokens_per_second),
        nanos_per_output_(1e9 / options.decode_tokens_per_second) {
    if (!(nanos_per_input_ > 0 && nanos_per_output_ > 0 && std::isfinite(nanos_per_input_) &&
          std::isfinite(nanos_per_output_))) {
      throw std::invalid_argument("a token rate is not above zero");
    }
    catalogue_.tenants = {"llm"};
    catalogue_.images = {"llm"};
    catalogue_.functions = {{"llm", 0, 0, 0, 0}};
    read();
  }
  const Catalogue& catalogue() const override { return catalogue_; }
  const Arrival* peek() override { return over_ ? nullptr : &shown_; }
  void pop() override {
    if (!over_) read();
  }
  bool exhausted() const override { return over_; }
  double progress() const override {
    if (over_) return 1;
    return static_cast<double>(csv_.file().line_offset()) / static_cast<double>(csv_.file().size());
  }

 private:
  void read() {
    over_ = !csv_.next_row();
    if (over_) return;
    std::optional<std::int64_t> at = parse_timestamp(csv_.text(timestamp_));
    if (!at) csv_.fail(timestamp_, "a time such as 2023-11-16 18:17:03.9799600");
    if (!first_) first_ = at;
    Time time{*at - *first_};
    if (time < shown_.at) csv_.fail(timestamp_, "a time not before that of the row above");
    shown_.at = time;
    shown_.input_tokens = static_cast<std::int32_t>(csv_.integer(input_, 0, kTokensMax));
    shown_.output_tokens = static_cast<std::int32_t>(csv_.integer(output_, 0, kTokensMax));
    shown_.service = from_nanos(shown_.input_tokens * nanos_per_input_ +
                                shown_.output_tokens * nanos_per_output_);
  }

  CsvFile csv_;
  std::size_t timestamp_;
  std::size_t input_;
  std::size_t output_;
  double nanos_per_input_;
  double nanos_per_output_;
  Catalogue catalogue_;
  std::optional<std::int64_t> first_;
  Arrival shown_;
  bool over_ = false;
};

}  // namespace

std::unique_ptr<Source> open_azurellm(const std::string& file, const TraceOptions& options) {
  return std::make_unique<AzureLlm>(file, options);
}

}  // namespace chalk::sim
