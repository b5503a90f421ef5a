#include "adapters/api/ids.h"

namespace chalk::api {
namespace {

constexpr std::string_view kPrefix = "sb-";
constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::size_t kDigitCount = 16;

}  // namespace

std::string sandbox_text_id(SandboxId sandbox) {
  std::string text(kPrefix);
  for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[(sandbox.value >> shift) & 15];
  return text;
}

std::optional<SandboxId> parse_sandbox_id(std::string_view text) {
  if (!text.starts_with(kPrefix) || text.size() != kPrefix.size() + kDigitCount) return {};
  SandboxId sandbox;
  for (const char digit : text.substr(kPrefix.size())) {
    const auto value = kDigits.find(digit);
    if (value == std::string_view::npos) return {};
    sandbox.value = sandbox.value << 4 | value;
  }
  if (!sandbox) return {};
  return sandbox;
}

}  // namespace chalk::api
