#include "model/core/resources.h"

#include <cctype>
#include <limits>

namespace chalk {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
__extension__ using Wide = __int128;

// Reads "12" or "12.345" as 12345 thousandths, at most three decimals; nothing on anything else.
std::optional<std::int64_t> read_thousandths(std::string_view& text) {
  Wide value = 0;
  std::size_t digits = 0;
  while (digits < text.size() && std::isdigit(static_cast<unsigned char>(text[digits]))) {
    value = value * 10 + (text[digits++] - '0');
    if (value > kMax) return {};
  }
  if (digits == 0) return {};
  text.remove_prefix(digits);
  value *= 1000;
  if (!text.empty() && text[0] == '.') {
    int scale = 100;
    std::size_t at = 1;
    for (; at < text.size() && std::isdigit(static_cast<unsigned char>(text[at])); ++at) {
      if (scale == 0) return {};
      value += scale * (text[at] - '0');
      scale /= 10;
    }
    if (at == 1) return {};
    text.remove_prefix(at);
  }
  if (value > kMax) return {};
  return static_cast<std::int64_t>(value);
}

struct Suffix {
  std::string_view text;
  std::int64_t factor;
};
constexpr Suffix kByteSuffixes[] = {{"Ki", 1LL << 10},
                                    {"Mi", 1LL << 20},
                                    {"Gi", 1LL << 30},
                                    {"Ti", 1LL << 40},
                                    {"Pi", 1LL << 50},
                                    {"k", 1'000},
                                    {"K", 1'000},
                                    {"M", 1'000'000},
                                    {"G", 1'000'000'000},
                                    {"T", 1'000'000'000'000},
                                    {"P", 1'000'000'000'000'000},
                                    {"", 1}};
constexpr Suffix kTimeSuffixes[] = {{"ns", 1},
                                    {"us", 1'000},
                                    {"ms", 1'000'000},
                                    {"s", 1'000'000'000},
                                    {"m", 60'000'000'000},
                                    {"h", 3'600'000'000'000},
                                    {"d", 86'400'000'000'000}};

std::optional<std::int64_t> scaled(std::int64_t thousandths, std::int64_t factor) {
  const Wide value = Wide{thousandths} * factor;
  if (value % 1000 != 0 || value / 1000 > kMax) return {};
  return static_cast<std::int64_t>(value / 1000);
}

}  // namespace

bool fits(const NodeShape& shape, const Resources& ask) {
  const bool model =
      ask.gpus == 0 || ask.gpu_models == 0 || (ask.gpu_models >> shape.gpu_model & 1) != 0;
  return ask.cpu_millicores <= shape.cpu_millicores && ask.memory_bytes <= shape.memory_bytes &&
         ask.disk_bytes <= shape.disk_bytes && ask.gpus <= shape.gpus && model;
}

Resources least_of(const Resources& a, const Resources& b) {
  Resources least;
  least.cpu_millicores = std::min(a.cpu_millicores, b.cpu_millicores);
  least.memory_bytes = std::min(a.memory_bytes, b.memory_bytes);
  least.disk_bytes = std::min(a.disk_bytes, b.disk_bytes);
  least.gpus = std::min(a.gpus, b.gpus);
  least.gpu_millis = std::min(a.gpu_millis, b.gpu_millis);
  if (a.gpu_models != 0 && b.gpu_models != 0) least.gpu_models = a.gpu_models | b.gpu_models;
  return least;
}

std::optional<std::int64_t> parse_cpu_millicores(std::string_view text) {
  const auto thousandths = read_thousandths(text);
  if (!thousandths) return {};
  if (text.empty()) return thousandths;
  if (text == "m") return scaled(*thousandths, 1);
  return {};
}

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  const auto thousandths = read_thousandths(text);
  if (!thousandths) return {};
  for (const auto& suffix : kByteSuffixes) {
    if (text == suffix.text) return scaled(*thousandths, suffix.factor);
  }
  return {};
}

std::optional<Duration> parse_duration(std::string_view text) {
  Wide total = 0;
  if (text == "0") return Duration{0};
  if (text.empty()) return {};
  std::int64_t previous_factor = kMax;
  while (!text.empty()) {
    const auto thousandths = read_thousandths(text);
    if (!thousandths) return {};
    std::size_t letters = 0;
    while (letters < text.size() && std::isalpha(static_cast<unsigned char>(text[letters])))
      ++letters;
    const std::string_view unit = text.substr(0, letters);
    text.remove_prefix(letters);
    std::optional<std::int64_t> part;
    for (const auto& suffix : kTimeSuffixes) {
      if (unit != suffix.text) continue;
      if (suffix.factor >= previous_factor) return {};  // "1m1h" is a mistake, not a duration
      previous_factor = suffix.factor;
      part = scaled(*thousandths, suffix.factor);
    }
    if (!part) return {};
    total += *part;
    if (total > kMax) return {};
  }
  return Duration{static_cast<std::int64_t>(total)};
}

std::optional<GpuRequest> parse_gpu(std::string_view text) {
  GpuRequest request{1, {}};
  if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    std::int32_t count = 0;
    for (char c : text.substr(0, colon)) {
      if (!std::isdigit(static_cast<unsigned char>(c)) || count > 1000) return {};
      count = count * 10 + (c - '0');
    }
    if (count == 0) return {};
    request.count = count;
    text.remove_prefix(colon + 1);
  }
  for (char c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') return {};
    request.model += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (request.model.empty()) return {};
  if (!request.model.starts_with("nvidia-")) request.model = "nvidia-" + request.model;
  return request;
}

std::string duration_text(Duration duration) {
  std::int64_t left = duration.nanos;
  if (left == 0) return "0s";
  std::string text;
  if (left < 0) {
    text = "-";
    left = -left;
  }
  for (int i = 6; i >= 0; --i) {
    if (left < kTimeSuffixes[i].factor) continue;
    text += std::to_string(left / kTimeSuffixes[i].factor);
    text += kTimeSuffixes[i].text;
    left %= kTimeSuffixes[i].factor;
  }
  return text;
}

std::string bytes_text(std::int64_t bytes) {
  for (int i = 4; i >= 0; --i) {
    if (bytes != 0 && bytes % kByteSuffixes[i].factor == 0) {
      return std::to_string(bytes / kByteSuffixes[i].factor) + std::string(kByteSuffixes[i].text);
    }
  }
  return std::to_string(bytes);
}

}  // namespace chalk
