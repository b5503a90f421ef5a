#include "adapters/images/authorize.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

namespace chalk::images {
namespace {

constexpr std::size_t kMaxTokens = 1024;
constexpr std::size_t kMaxTokenReply = 256 << 10;

std::string base64(const std::string& text) {
  std::string out(4 * ((text.size() + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  out.resize(static_cast<std::size_t>(size));
  return out;
}

std::string basic(const Credentials& credentials) {
  return "Basic " + base64(credentials.username + ":" + credentials.password);
}

std::string encoded(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (unsigned char c : text) {
    if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') {
      out += static_cast<char>(c);
    } else {
      out += '%';
      out += kHex[c >> 4];
      out += kHex[c & 15];
    }
  }
  return out;
}

// A value that can stand in a header: anything else could smuggle a second one.
bool printable(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c > 32 && c < 127; });
}

}  // namespace

Challenge parse_challenge(std::string_view header) {
  Challenge challenge;
  std::size_t at = header.find(' ');
  for (char c : header.substr(0, at))
    challenge.scheme += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  while (at < header.size()) {
    at = header.find_first_not_of(" ,\t", at);
    if (at == std::string_view::npos) break;
    const std::size_t equals = header.find('=', at);
    if (equals == std::string_view::npos) break;
    std::string name;
    for (char c : header.substr(at, equals - at))
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    std::string value;
    at = equals + 1;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        if (header[at] == '\\' && at + 1 < header.size()) ++at;
        value += header[at];
      }
      ++at;
    } else {
      const std::size_t end = std::min(header.find(',', at), header.size());
      value = header.substr(at, end - at);
      at = end;
    }
    challenge.parameters.emplace(std::move(name), std::move(value));
  }
  return challenge;
}

Authorizer::Authorizer(const Registries& configuration, const Http& http)
    : configuration_(configuration), http_(http) {}

std::string Authorizer::known(const Endpoint& endpoint, const std::string& repository) const {
  const std::scoped_lock lock(mutex_);
  const auto found = tokens_.find(endpoint.host + " " + repository);
  if (found == tokens_.end() || found->second.until < std::chrono::steady_clock::now()) return {};
  return found->second.value;
}

Result<std::string> Authorizer::answer(const Endpoint& endpoint, const std::string& repository,
                                       const std::string& header, std::stop_token stop) const {
  const Challenge challenge = parse_challenge(header);
  Token token;
  if (challenge.scheme == "basic") {
    const Credentials* credentials = configuration_.credentials_for(endpoint.host);
    if (!credentials)
      return fail(Error::Kind::denied, endpoint.host + ": asks for a password, none is configured");
    token = {basic(*credentials), std::chrono::steady_clock::time_point::max()};
  } else if (challenge.scheme == "bearer") {
    auto fetched = fetch(endpoint, repository, challenge, stop);
    if (!fetched) return std::unexpected(fetched.error());
    token = std::move(*fetched);
  } else {
    return fail(Error::Kind::denied, endpoint.host + ": asks for authentication \"" +
                                         header.substr(0, 60) + "\", expected Basic or Bearer");
  }
  const std::scoped_lock lock(mutex_);
  if (tokens_.size() >= kMaxTokens) tokens_.clear();
  tokens_[endpoint.host + " " + repository] = token;
  return token.value;
}

Result<Authorizer::Token> Authorizer::fetch(const Endpoint& endpoint, const std::string& repository,
                                            const Challenge& challenge,
                                            std::stop_token stop) const {
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  const std::string realm = parameter("realm");
  const std::string where = endpoint.host + ": token server " + realm.substr(0, 200);
  if (host_of(realm).empty() || !printable(realm) || realm.find('@') != std::string::npos)
    return fail(Error::Kind::denied, where + ": expected an http or https URL as the realm");
  std::string scope = parameter("scope");
  if (scope.empty()) scope = "repository:" + repository + ":pull";
  Get request;
  request.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") +
                "scope=" + encoded(scope) + "&service=" + encoded(parameter("service"));
  request.insecure = endpoint.insecure;
  request.stop = stop;
  if (const Credentials* credentials = configuration_.credentials_for(endpoint.host))
    request.authorization = basic(*credentials);
  std::string body;
  request.sink = [&](std::string_view data) {
    body += data;
    return body.size() <= kMaxTokenReply;
  };
  const Reply reply = http_.get(request);
  if (!reply.worked()) {
    const std::string found =
        reply.problem.empty() ? "answers " + std::to_string(reply.status) : reply.problem;
    return fail(reply.passing() ? Error::Kind::unavailable : Error::Kind::denied,
                where + ": " + found);
  }
  const auto document = nlohmann::json::parse(body, nullptr, false);
  if (!document.is_object()) return fail(Error::Kind::denied, where + ": answers no JSON object");
  for (const char* name : {"token", "access_token"}) {
    const auto found = document.find(name);
    if (found == document.end() || !found->is_string()) continue;
    const auto& value = found->get_ref<const std::string&>();
    if (value.empty() || !printable(value)) continue;
    std::int64_t seconds = 60;  // the protocol's default
    if (const auto life = document.find("expires_in");
        life != document.end() && life->is_number_integer() && *life > 0 && *life < 86400)
      seconds = life->get<std::int64_t>();
    return Token{"Bearer " + value,
                 std::chrono::steady_clock::now() + std::chrono::seconds(seconds * 3 / 4)};
  }
  return fail(Error::Kind::denied, where + ": the answer has no token");
}

}  // namespace chalk::images
