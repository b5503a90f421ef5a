// Answers a registry's WWW-Authenticate: Basic from the configured credentials, Bearer by asking
// the token server that the challenge names. Tokens are kept until they expire. Thread-safe.
#pragma once
#include <chrono>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>

#include "adapters/error.h"
#include "adapters/images/http.h"
#include "adapters/images/registries.h"

namespace chalk::images {

struct Challenge {
  std::string scheme;                             // lower case
  std::map<std::string, std::string> parameters;  // names in lower case
};
// `Bearer realm="https://...",service="x",scope="repository:a:pull"`; an empty scheme if
// unreadable.
Challenge parse_challenge(std::string_view header);

class Authorizer {
 public:
  Authorizer(const Registries& configuration, const Http& http);

  // The Authorization value that worked last for this repository; empty if none is known.
  std::string known(const Endpoint& endpoint, const std::string& repository) const;
  // A new one for a challenge. Error::denied without credentials or when the token server refuses.
  Result<std::string> answer(const Endpoint& endpoint, const std::string& repository,
                             const std::string& challenge, std::stop_token stop) const;

 private:
  struct Token {
    std::string value;
    std::chrono::steady_clock::time_point until;
  };
  Result<Token> fetch(const Endpoint& endpoint, const std::string& repository,
                      const Challenge& challenge, std::stop_token stop) const;

  const Registries& configuration_;
  const Http& http_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, Token> tokens_;  // by host and repository
};

}  // namespace chalk::images
