#include "adapters/images/reference.h"

#include <algorithm>
#include <cctype>

#include "adapters/images/digest.h"

namespace chalk::images {
namespace {

constexpr std::size_t kMaxText = 512;
constexpr std::size_t kMaxName = 255;  // registry and repository together, as docker counts
constexpr std::string_view kDockerHub = "docker.io";

bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool letter_or_digit(char c) { return lower_or_digit(c) || (c >= 'A' && c <= 'Z'); }

// alphanumeric runs separated by one ".", one or two "_", or any number of "-".
bool valid_component(std::string_view text) {
  if (text.empty() || !lower_or_digit(text.front()) || !lower_or_digit(text.back())) return false;
  for (std::size_t at = 0; at < text.size();) {
    if (lower_or_digit(text[at])) {
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_not_of(text[at], at), text.size());
    const std::size_t run = end - at;
    const bool fine =
        text[at] == '-' || (text[at] == '.' && run == 1) || (text[at] == '_' && run <= 2);
    if (!fine || !lower_or_digit(text[end])) return false;
    at = end;
  }
  return true;
}

bool valid_tag(std::string_view text) {
  if (text.empty() || text.size() > 128 || text.front() == '.' || text.front() == '-') return false;
  return std::ranges::all_of(
      text, [](char c) { return letter_or_digit(c) || c == '_' || c == '.' || c == '-'; });
}

bool valid_port(std::string_view text) {
  if (text.empty() || text.size() > 5) return false;
  int port = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    port = port * 10 + (c - '0');
  }
  return port >= 1 && port <= 65535;
}

bool valid_host_name(std::string_view text) {
  while (true) {
    const std::string_view label = text.substr(0, text.find('.'));
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
      return false;
    if (!std::ranges::all_of(label, [](char c) { return letter_or_digit(c) || c == '-'; }))
      return false;
    if (label.size() == text.size()) return true;
    text.remove_prefix(label.size() + 1);
  }
}

bool valid_host(std::string_view text) {
  std::size_t end = 0;
  if (text.starts_with('[')) {
    end = text.find(']');
    if (end == std::string_view::npos || end < 3) return false;
    const std::string_view address = text.substr(1, end - 1);
    if (address.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos ||
        address.find(':') == std::string_view::npos)
      return false;
    ++end;
  } else {
    end = std::min(text.find(':'), text.size());
    if (!valid_host_name(text.substr(0, end))) return false;
  }
  return end == text.size() || (text[end] == ':' && valid_port(text.substr(end + 1)));
}

bool names_host(std::string_view component) {
  return component == "localhost" || component.find_first_of(".:") != std::string_view::npos ||
         std::ranges::any_of(component, [](char c) { return c >= 'A' && c <= 'Z'; });
}

std::unexpected<Error> refuse(std::string_view text, const std::string& why) {
  std::string shown(text.substr(0, 100));
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) >= 127) c = '?';
  return fail(Error::Kind::invalid, "image reference \"" + shown + "\": " + why);
}

}  // namespace

Result<Reference> parse_reference(std::string_view text) {
  if (text.empty()) return refuse(text, "it is empty, expected [HOST[:PORT]/]NAME[:TAG][@DIGEST]");
  if (text.size() > kMaxText)
    return refuse(text, std::to_string(text.size()) + " bytes, at most 512 are allowed");
  Reference parsed;
  std::string_view rest = text;
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    parsed.digest = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!valid_digest(parsed.digest))
      return refuse(text, "the digest must be sha256: and 64 lower case hexadecimal digits");
  }
  const auto slash = rest.rfind('/');
  const auto colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    parsed.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!valid_tag(parsed.tag))
      return refuse(text,
                    "a tag is 1 to 128 letters, digits, '_', '.' and '-', and starts with none of "
                    "'.' and '-'");
  }
  parsed.registry = kDockerHub;
  if (const auto end = rest.find('/');
      end != std::string_view::npos && names_host(rest.substr(0, end))) {
    parsed.registry = rest.substr(0, end);
    rest = rest.substr(end + 1);
    if (!valid_host(parsed.registry))
      return refuse(text, "\"" + parsed.registry + "\" is no host or host:port");
    std::ranges::transform(parsed.registry, parsed.registry.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (parsed.registry == "index.docker.io" || parsed.registry == "registry-1.docker.io")
      parsed.registry = kDockerHub;
  }
  parsed.repository = rest;
  if (parsed.registry == kDockerHub && rest.find('/') == std::string_view::npos)
    parsed.repository = "library/" + parsed.repository;
  for (std::string_view left = rest; true;) {
    const std::string_view component = left.substr(0, left.find('/'));
    if (!valid_component(component))
      return refuse(text, "\"" + std::string(component.substr(0, 64)) +
                              "\" in the name must be lower case letters and digits with single "
                              "'.', '_', '__' or '-' between them");
    if (component.size() == left.size()) break;
    left.remove_prefix(component.size() + 1);
  }
  if (parsed.registry.size() + 1 + parsed.repository.size() > kMaxName)
    return refuse(text, "the name is longer than 255 bytes");
  if (parsed.tag.empty() && parsed.digest.empty()) parsed.tag = "latest";
  return parsed;
}

std::string to_string(const Reference& reference) {
  std::string text = reference.registry + "/" + reference.repository;
  if (!reference.tag.empty()) text += ":" + reference.tag;
  if (!reference.digest.empty()) text += "@" + reference.digest;
  return text;
}

std::string registry_host(std::string_view registry) {
  return registry == kDockerHub ? "registry-1.docker.io" : std::string(registry);
}

}  // namespace chalk::images
