#include "adapters/cli/text.h"

#include <array>
#include <cstdio>

#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"
#include "model/core/resources.h"

namespace chalk::cli {

std::string checked_cpu(const std::string& text) {
  if (const auto cpu = parse_cpu_millicores(text); cpu && *cpu > 0) return text;
  throw Stop("--cpu: found \"" + harmless(text) + "\", expected CPUs such as 1, 0.5 or 500m");
}

std::int64_t bytes_of(const char* option, const std::string& text) {
  if (const auto bytes = parse_bytes(text); bytes && *bytes > 0) return *bytes;
  throw Stop(std::string(option) + ": found \"" + harmless(text) +
             "\", expected bytes such as 512Mi or 2Gi");
}

std::string checked_bytes(const char* option, const std::string& text) {
  bytes_of(option, text);
  return text;
}

std::chrono::milliseconds checked_duration(const char* option, const std::string& text) {
  const auto found = parse_duration(text);
  if (!found || found->nanos < 1'000'000) {
    throw Stop(std::string(option) + ": found \"" + harmless(text) +
               "\", expected a time such as 90s, 5m or 1h30m");
  }
  return std::chrono::milliseconds(found->nanos / 1'000'000);
}

std::string cpu_text(std::int64_t millicores) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.10g", static_cast<double>(millicores) / 1000);
  return text.data();
}

std::string bytes_short(std::int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"", "Ki", "Mi", "Gi", "Ti"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), value < 10 && unit > 0 ? "%.2g" : "%.0f", value);
  return std::string(text.data()) + kUnits[unit];
}

}  // namespace chalk::cli
