#include "adapters/identity/jwt.h"

#include <nlohmann/json.hpp>

#include "adapters/identity/base64url.h"

namespace chalk::identity {
namespace {

using nlohmann::json;

std::unexpected<Error> bad(const std::string& what) {
  return fail(Error::Kind::denied, "token: " + what);
}

std::optional<json> object_in(std::string_view part) {
  const auto text = from_base64url(part);
  if (!text) return std::nullopt;
  auto value = json::parse(*text, nullptr, false);
  if (!value.is_object()) return std::nullopt;
  return value;
}

bool says(const json& object, const char* name, std::string_view expected) {
  const auto at = object.find(name);
  return at != object.end() && at->is_string() && at->get_ref<const std::string&>() == expected;
}

}  // namespace

std::string make_jwt(const json& claims, const std::string& key_id, EVP_PKEY* key) {
  const json header = {{"alg", "ES256"}, {"kid", key_id}, {"typ", "JWT"}};
  const std::string text = base64url(header.dump()) + "." + base64url(claims.dump());
  return text + "." + base64url(sign_es256(key, text));
}

Result<json> open_jwt(std::string_view token,
                      const std::function<EVP_PKEY*(const std::string&)>& key_of) {
  const auto first = token.find('.');
  const auto second = first == token.npos ? first : token.find('.', first + 1);
  if (second == token.npos || token.find('.', second + 1) != token.npos) {
    return bad("expected three parts with dots between them");
  }
  const auto header = object_in(token.substr(0, first));
  if (!header) return bad("its header is no JSON in base64url");
  if (!says(*header, "alg", "ES256")) return bad("expected algorithm ES256");
  const auto key_id = header->find("kid");
  if (key_id == header->end() || !key_id->is_string() || header->contains("crit")) {
    return bad("its header names no key, or asks for what is not known here");
  }
  EVP_PKEY* key = key_of(key_id->get_ref<const std::string&>());
  if (key == nullptr) return bad("signed with an unknown key");
  const auto signature = from_base64url(token.substr(second + 1));
  if (!signature || !verify_es256(key, token.substr(0, second), *signature)) {
    return bad("its signature is wrong");
  }
  auto claims = object_in(token.substr(first + 1, second - first - 1));
  if (!claims) return bad("its claims are no JSON in base64url");
  return std::move(*claims);
}

}  // namespace chalk::identity
