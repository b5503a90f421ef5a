#include "adapters/images/registries.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace chalk::images {
namespace {

using nlohmann::json;
constexpr std::size_t kMaxFile = 1 << 20;
constexpr std::size_t kMaxMirrors = 16;

std::unexpected<Error> refuse(const std::string& place, const std::string& why) {
  return fail(Error::Kind::invalid, "registries configuration: " + place + ": " + why);
}

Result<void> known_keys(const json& object, const std::string& place,
                        std::initializer_list<std::string_view> keys) {
  if (!object.is_object()) return refuse(place, "expected an object");
  for (const auto& [key, value] : object.items())
    if (std::ranges::find(keys, key) == keys.end())
      return refuse(place, "unknown key \"" + key + "\"");
  return {};
}

Result<bool> read_bool(const json& object, const std::string& place, const char* key,
                       bool otherwise) {
  const auto found = object.find(key);
  if (found == object.end()) return otherwise;
  if (!found->is_boolean()) return refuse(place + "." + key, "expected true or false");
  return found->get<bool>();
}

Result<std::int64_t> read_int(const json& object, const char* key, std::int64_t otherwise,
                              std::int64_t least, std::int64_t most) {
  const auto found = object.find(key);
  if (found == object.end()) return otherwise;
  if (!found->is_number_integer() || *found < least || *found > most)
    return refuse(key, "expected a whole number from " + std::to_string(least) + " to " +
                           std::to_string(most));
  return found->get<std::int64_t>();
}

Result<Endpoint> parse_mirror(const json& value, const std::string& place) {
  if (!value.is_string()) return refuse(place, "expected \"http://HOST[:PORT]\" or https");
  std::string text = value.get<std::string>();
  Endpoint endpoint;
  if (text.starts_with("http://")) {
    endpoint.insecure = true;
    text.erase(0, 7);
  } else if (text.starts_with("https://")) {
    text.erase(0, 8);
  } else {
    return refuse(place, "\"" + text + "\" must begin with http:// or https://");
  }
  if (text.ends_with('/')) text.pop_back();
  // The parser of references knows what a host is.
  const auto checked = parse_reference(text + "/x");
  if (!checked || registry_host(checked->registry).empty() || text.find('/') != std::string::npos ||
      text.find_first_of(".:") == std::string::npos)
    if (text != "localhost") return refuse(place, "\"" + text + "\" is no host or host:port");
  endpoint.host = registry_host(checked->registry);
  return endpoint;
}

Result<RegistryOptions> parse_registry(const json& value, const std::string& place) {
  if (auto known = known_keys(value, place, {"mirrors", "direct", "insecure"}); !known)
    return std::unexpected(known.error());
  RegistryOptions options;
  const auto direct = read_bool(value, place, "direct", true);
  const auto insecure = read_bool(value, place, "insecure", false);
  if (!direct) return std::unexpected(direct.error());
  if (!insecure) return std::unexpected(insecure.error());
  options.direct = *direct;
  options.insecure = *insecure;
  if (const auto mirrors = value.find("mirrors"); mirrors != value.end()) {
    if (!mirrors->is_array() || mirrors->size() > kMaxMirrors)
      return refuse(place + ".mirrors", "expected an array of at most 16 URLs");
    for (const json& mirror : *mirrors) {
      auto endpoint = parse_mirror(mirror, place + ".mirrors");
      if (!endpoint) return std::unexpected(endpoint.error());
      options.mirrors.push_back(std::move(*endpoint));
    }
  }
  return options;
}

Result<void> parse_credentials(const json& all, Registries& registries) {
  if (!all.is_object()) return refuse("credentials", "expected an object");
  for (const auto& [host, value] : all.items()) {
    const std::string place = "credentials." + host;
    if (auto known = known_keys(value, place, {"username", "password"}); !known) return known;
    const auto username = value.find("username");
    const auto password = value.find("password");
    if (username == value.end() || password == value.end() || !username->is_string() ||
        !password->is_string())
      return refuse(place, "expected the strings username and password");
    Credentials credentials{username->get<std::string>(), password->get<std::string>()};
    if (credentials.username.find(':') != std::string::npos)
      return refuse(place, "a user name cannot contain a colon");
    registries.credentials[registry_host(host)] = std::move(credentials);
  }
  return {};
}

Result<void> parse_bounds(const json& document, Registries& registries) {
  constexpr std::int64_t kHour = 3'600'000;
  const auto read = [&](const char* key, std::chrono::milliseconds& to) -> Result<void> {
    const auto value = read_int(document, key, to.count(), 1, kHour);
    if (!value) return std::unexpected(value.error());
    to = std::chrono::milliseconds(*value);
    return {};
  };
  for (auto [key, to] : {std::pair{"connect_timeout_ms", &registries.connect_timeout},
                         std::pair{"stall_timeout_ms", &registries.stall_timeout},
                         std::pair{"request_timeout_ms", &registries.request_timeout},
                         std::pair{"backoff_ms", &registries.backoff},
                         std::pair{"backoff_max_ms", &registries.backoff_max}})
    if (auto done = read(key, *to); !done) return done;
  const auto attempts = read_int(document, "attempts", registries.attempts, 1, 100);
  if (!attempts) return std::unexpected(attempts.error());
  registries.attempts = static_cast<int>(*attempts);
  const auto slowest = read_int(document, "slowest_bytes_per_second",
                                registries.slowest_bytes_per_second, 1, std::int64_t{1} << 40);
  if (!slowest) return std::unexpected(slowest.error());
  registries.slowest_bytes_per_second = *slowest;
  const auto allowed = read_bool(document, "top", "allow_private_addresses", false);
  if (!allowed) return std::unexpected(allowed.error());
  registries.allow_private_addresses = *allowed;
  return {};
}

}  // namespace

std::vector<Endpoint> Registries::endpoints(std::string_view registry) const {
  auto found = registries.find(std::string(registry));
  if (found == registries.end()) found = registries.find("*");
  if (found == registries.end()) return {{registry_host(registry), false}};
  std::vector<Endpoint> all = found->second.mirrors;
  if (found->second.direct) all.push_back({registry_host(registry), found->second.insecure});
  return all;
}

const Credentials* Registries::credentials_for(std::string_view host) const {
  const auto found = credentials.find(std::string(host));
  return found == credentials.end() ? nullptr : &found->second;
}

bool Registries::named(std::string_view host) const {
  return std::ranges::any_of(registries, [&](const auto& entry) {
    return (entry.first != "*" && registry_host(entry.first) == host) ||
           std::ranges::any_of(entry.second.mirrors,
                               [&](const Endpoint& mirror) { return mirror.host == host; });
  });
}

Result<Registries> parse_registries(std::string_view text) {
  if (text.size() > kMaxFile) return refuse("top", "more than 1 MiB");
  const json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) return refuse("top", "is not JSON");
  if (auto known = known_keys(document, "top",
                              {"registries", "credentials", "connect_timeout_ms",
                               "stall_timeout_ms", "request_timeout_ms", "attempts", "backoff_ms",
                               "backoff_max_ms", "slowest_bytes_per_second",
                               "allow_private_addresses"});
      !known)
    return std::unexpected(known.error());
  Registries registries;
  if (const auto all = document.find("registries"); all != document.end()) {
    if (!all->is_object()) return refuse("registries", "expected an object");
    for (const auto& [name, value] : all->items()) {
      if (name != "*")
        if (const auto checked = parse_reference(name + "/x");
            !checked || checked->registry != name)
          return refuse("registries", "\"" + name + "\" is no host, host:port or *");
      auto options = parse_registry(value, "registries." + name);
      if (!options) return std::unexpected(options.error());
      registries.registries[name] = std::move(*options);
    }
  }
  if (const auto all = document.find("credentials"); all != document.end())
    if (auto done = parse_credentials(*all, registries); !done)
      return std::unexpected(done.error());
  if (auto done = parse_bounds(document, registries); !done) return std::unexpected(done.error());
  return registries;
}

Result<Registries> load_registries(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(Error::Kind::not_found, path + ": cannot be read");
  std::string text(kMaxFile + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  auto parsed = parse_registries(text);
  if (!parsed) parsed.error().message = path + ": " + parsed.error().message;
  return parsed;
}

}  // namespace chalk::images
