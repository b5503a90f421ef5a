#include "adapters/identity/tokens.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "adapters/identity/base64url.h"
#include "adapters/identity/jwt.h"
#include "adapters/identity/keys.h"
#include "tests/adapters/identity/scratch.h"

namespace chalk::identity {
namespace {

using nlohmann::json;

struct World {
  Scratch scratch;
  std::atomic<UnixSeconds> now{system_seconds()};
  Store store{scratch.at("identity.db")};
  Tokens::Options options() {
    Tokens::Options made;
    made.now = [this] { return now.load(); };
    return made;
  }
  std::string environment = store.create_environment("one", "one")->id;
  NewClient client = store.create_client("one", Role::admin).value();
  Tokens tokens{store, options()};

  std::string token() { return tokens.issue(client.client_id, client.secret, "")->token; }
  // A token with these claims, signed with the store's own key.
  std::string signed_with(const json& claims) {
    const auto keys = store.signing_keys();
    return make_jwt(claims, keys->back().id, key_from_pem(keys->back().private_pem)->get());
  }
  json claims() {
    const auto parts = token();
    const auto first = parts.find('.'), second = parts.rfind('.');
    return json::parse(*from_base64url(parts.substr(first + 1, second - first - 1)));
  }
};

TEST(Tokens, AClientGetsATokenThatSaysWhoItIs) {
  World world;
  const auto grant = world.tokens.issue(world.client.client_id, world.client.secret, "env:one");
  ASSERT_TRUE(grant) << grant.error().message;
  EXPECT_EQ(grant->expires, world.now + 30 * 86'400);
  for (int i = 0; i < 2; ++i) {  // read, then remembered
    const auto caller = world.tokens.verify(grant->token);
    ASSERT_TRUE(caller) << caller.error().message;
    EXPECT_EQ(caller->client_id, world.client.client_id);
    EXPECT_EQ(caller->environment, "one");
    EXPECT_EQ(caller->tenant, 1u);
    EXPECT_EQ(caller->role, Role::admin);
  }
  EXPECT_TRUE(world.tokens.verify_header("Bearer " + grant->token));
  EXPECT_TRUE(world.tokens.verify_header("bearer " + grant->token));
  EXPECT_FALSE(world.tokens.verify_header(grant->token));
  EXPECT_FALSE(world.tokens.verify_header("Basic " + grant->token));
  EXPECT_FALSE(world.tokens.verify_header("Bearer "));
  EXPECT_FALSE(world.tokens.verify(""));
}

TEST(Tokens, AWrongSecretAndAnUnknownClientGetTheSameAnswer) {
  World world;
  const auto wrong = world.tokens.issue(world.client.client_id, "secret-guess", "");
  const auto unknown = world.tokens.issue("client-nobody", "secret-guess", "");
  ASSERT_FALSE(wrong);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(wrong.error().kind, Error::Kind::denied);
  EXPECT_EQ(wrong.error().message, unknown.error().message);
  EXPECT_FALSE(world.tokens.issue("", "", ""));
  EXPECT_FALSE(world.tokens.issue(world.client.client_id, std::string(100'000, 'x'), ""));
  EXPECT_FALSE(world.tokens.issue(std::string(100'000, 'x'), "", ""));
  EXPECT_FALSE(world.tokens.issue(world.client.client_id, world.client.secret + "x", ""));
}

TEST(Tokens, AScopeOfAnotherEnvironmentIsRefused) {
  World world;
  ASSERT_TRUE(world.store.create_environment("two", "two"));
  const auto issue = [&](const char* scope) {
    return world.tokens.issue(world.client.client_id, world.client.secret, scope);
  };
  EXPECT_TRUE(issue("env:one"));
  EXPECT_EQ(issue("env:two").error().kind, Error::Kind::not_found);
  EXPECT_EQ(issue("env:").error().kind, Error::Kind::not_found);
  EXPECT_EQ(issue("everything").error().kind, Error::Kind::invalid);
}

TEST(Tokens, GuessesAreLimitedByClientAndTheRightSecretInUseKeepsWorking) {
  World world;
  const auto other = world.store.create_client("one", Role::user).value();
  ASSERT_TRUE(world.tokens.issue(world.client.client_id, world.client.secret, ""));
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(world.tokens.issue(world.client.client_id, "wrong", "").error().kind,
              Error::Kind::denied);
    EXPECT_EQ(world.tokens.issue(other.client_id, "wrong", "").error().kind, Error::Kind::denied);
  }
  EXPECT_EQ(world.tokens.issue(world.client.client_id, "wrong", "").error().kind,
            Error::Kind::exhausted);
  EXPECT_TRUE(world.tokens.issue(world.client.client_id, world.client.secret, ""));
  EXPECT_EQ(world.tokens.issue(other.client_id, other.secret, "").error().kind,
            Error::Kind::exhausted)
      << "not proven before: it waits with the guesses";
  world.now += 61;
  EXPECT_TRUE(world.tokens.issue(other.client_id, other.secret, ""));
}

TEST(Tokens, ARevokedClientsTokensEndAtOnce) {
  World world;
  const std::string token = world.token();
  ASSERT_TRUE(world.tokens.verify(token));
  ASSERT_TRUE(world.store.revoke_client(world.client.client_id));
  EXPECT_EQ(world.tokens.verify(token).error().kind, Error::Kind::denied);
  EXPECT_EQ(world.tokens.issue(world.client.client_id, world.client.secret, "").error().kind,
            Error::Kind::denied);
  Tokens again(world.store, world.options());
  EXPECT_FALSE(again.verify(token));
}

TEST(Tokens, ARevocationByAnotherProcessIsSeenSoon) {
  World world;
  const std::string token = world.token();
  Store other(world.scratch.at("identity.db"));
  ASSERT_TRUE(world.tokens.verify(token));
  ASSERT_TRUE(other.revoke_client(world.client.client_id));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (world.tokens.verify(token) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_FALSE(world.tokens.verify(token));
}

TEST(Tokens, AnExpiredTokenIsRefusedRememberedOrNot) {
  World world;
  const std::string token = world.token();
  ASSERT_TRUE(world.tokens.verify(token));
  world.now += 30 * 86'400;
  EXPECT_EQ(world.tokens.verify(token).error().kind, Error::Kind::denied);
  Tokens again(world.store, world.options());
  EXPECT_FALSE(again.verify(token));
  world.now -= 31 * 86'400;  // before it was issued
  Tokens earlier(world.store, world.options());
  EXPECT_FALSE(earlier.verify(token));
}

TEST(Tokens, EveryChangedByteIsNoticed) {
  World world;
  const std::string token = world.token();
  ASSERT_TRUE(world.tokens.verify(token));
  for (std::size_t i = 0; i < token.size(); ++i) {
    for (const char other : {'A', 'B', 'Q', '_', '.', '=', '\0', static_cast<char>(token[i] ^ 1)}) {
      if (other == token[i]) continue;
      std::string wrong = token;
      wrong[i] = other;
      ASSERT_EQ(world.tokens.verify(wrong).error().kind, Error::Kind::denied) << i << " " << wrong;
    }
  }
  for (std::size_t size = 0; size < token.size(); ++size) {
    ASSERT_FALSE(world.tokens.verify(token.substr(0, size)));
  }
  EXPECT_FALSE(world.tokens.verify(token + "A"));
  EXPECT_FALSE(world.tokens.verify(token + "="));
  EXPECT_FALSE(world.tokens.verify(token + "." + token));
  EXPECT_TRUE(world.tokens.verify(token));
}

TEST(Tokens, OtherAlgorithmsAreRefused) {
  World world;
  const std::string claims = base64url(world.claims().dump());
  const std::string id = world.store.signing_keys()->back().id;
  for (const char* algorithm : {"none", "None", "HS256", "RS256", "es256", ""}) {
    const json header = {{"alg", algorithm}, {"kid", id}, {"typ", "JWT"}};
    const std::string text = base64url(header.dump()) + "." + claims;
    EXPECT_FALSE(world.tokens.verify(text + ".")) << algorithm;
    const std::string jwks = world.tokens.jwks().value();  // the classic: public key as a secret
    EXPECT_FALSE(world.tokens.verify(text + "." + base64url(hmac_sha256(jwks, text)))) << algorithm;
    EXPECT_FALSE(world.tokens.verify(text + "." + base64url(std::string(64, '\0')))) << algorithm;
  }
}

TEST(Tokens, TokensOfOthersAreRefused) {
  World world, stranger;
  EXPECT_FALSE(world.tokens.verify(stranger.token()));
  const json good = world.claims();
  ASSERT_TRUE(world.tokens.verify(world.signed_with(good)));
  for (const auto& [name, value] :
       std::initializer_list<std::pair<const char*, json>>{{"iss", "other"},
                                                           {"environment_id", "two"},
                                                           {"environment_id", 7},
                                                           {"sub", "client-nobody"},
                                                           {"sub", nullptr},
                                                           {"token_use", "workload"},
                                                           {"exp", "tomorrow"},
                                                           {"exp", 1},
                                                           {"iat", world.now + 1000}}) {
    json claims = good;
    claims[name] = value;
    EXPECT_FALSE(world.tokens.verify(world.signed_with(claims))) << claims.dump();
    claims.erase(name);
    EXPECT_FALSE(world.tokens.verify(world.signed_with(claims))) << claims.dump();
  }
  EXPECT_FALSE(world.tokens.verify(world.signed_with(json::array({1, 2}))));
}

TEST(Tokens, AWorkloadTokenIsNotForUs) {
  World world;
  const auto caller = world.tokens.verify(world.token());
  const auto made = world.tokens.issue_workload(*caller, "sandbox:7", "aws");
  ASSERT_TRUE(made);
  EXPECT_EQ(made->subject, "sandbox:7");
  EXPECT_EQ(world.tokens.verify(made->token).error().kind, Error::Kind::denied);
  EXPECT_FALSE(world.tokens.issue_workload(*caller, "", "aws"));
  EXPECT_FALSE(world.tokens.issue_workload(*caller, "s", "\xFF\xFE"));
}

TEST(Tokens, TokensSurviveReopeningAndANewSigningKey) {
  World world;
  const std::string token = world.token();
  Store reopened(world.scratch.at("identity.db"));
  Tokens again(reopened, world.options());
  EXPECT_TRUE(again.verify(token));
  ASSERT_TRUE(reopened.add_signing_key());
  EXPECT_TRUE(again.verify(token));
  const auto newer = again.issue(world.client.client_id, world.client.secret, "");
  ASSERT_TRUE(newer);
  EXPECT_NE(newer->token.substr(0, newer->token.find('.')), token.substr(0, token.find('.')));
  EXPECT_TRUE(again.verify(newer->token));
  const auto keys = json::parse(again.jwks().value())["keys"];
  ASSERT_EQ(keys.size(), 2u);
  EXPECT_EQ(from_base64url(keys[0]["x"].get<std::string>())->size(), 32u);
  EXPECT_FALSE(keys[0].contains("d"));
}

TEST(Tokens, ManyThreadsMayVerifyWhileClientsAreRevoked) {
  World world;
  const std::string token = world.token();
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      while (!stop) (world.tokens.verify(token) ? good : bad).fetch_add(1);
    });
  }
  for (int i = 0; i < 5; ++i) {
    const auto other = world.store.create_client("one", Role::user).value();
    EXPECT_TRUE(world.tokens.issue(other.client_id, other.secret, ""));
    EXPECT_TRUE(world.store.revoke_client(other.client_id));
  }
  EXPECT_EQ(bad, 0);
  ASSERT_TRUE(world.store.revoke_client(world.client.client_id));
  EXPECT_FALSE(world.tokens.verify(token));
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_GT(good, 0);
}

TEST(Tokens, SigningInAtOnceFromManyThreadsWorks) {
  World world;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      if (world.tokens.issue(world.client.client_id, world.client.secret, "")) ++good;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
}

}  // namespace
}  // namespace chalk::identity
