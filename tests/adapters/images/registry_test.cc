#include "adapters/images/registry.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "adapters/images/authorize.h"
#include "adapters/images/http.h"
#include "adapters/images/tree.h"
#include "tests/adapters/images/process.h"
#include "tests/adapters/images/scratch.h"
#include "tests/adapters/images/served_image.h"

namespace chalk::images {
namespace {

using namespace testing;

// Not compressible, so that blobs are as big as they look.
std::string noise(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t state = 1;
  for (char& c : bytes) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return bytes;
}

struct Download {
  File file{memfd_create("blob", MFD_CLOEXEC)};
  Result<void> result;
  std::string bytes() const {
    std::string text(1 << 20, '\0');
    text.resize(static_cast<std::size_t>(
        std::max<ssize_t>(0, pread(file.get(), text.data(), text.size(), 0))));
    return text;
  }
};

Download download(const Registry& registry, const Reference& reference, const Layer& layer) {
  Download done;
  done.result = registry.download(reference, layer, done.file.get());
  return done;
}

const Blob kLayer = make_layer({file("big", noise(300'000))});
const Published kImage = publish({kLayer});

bool is_blob(const Asked& asked) {
  return asked.path.find(kLayer.layer.digest) != std::string::npos;
}

TEST(Registry, ResolvesThroughAnIndex) {
  const std::string digest = sha256_digest(kImage.manifest);
  const std::string index =
      nlohmann::json{{"schemaVersion", 2},
                     {"manifests",
                      {{{"mediaType", kImage.manifest_type},
                        {"digest", digest},
                        {"size", kImage.manifest.size()},
                        {"platform", {{"os", "linux"}, {"architecture", "amd64"}}}}}}}
          .dump();
  Server server([&](const Asked& asked) -> Answer {
    if (asked.path == "/v2/app/manifests/1")
      return {200, {"Content-Type: application/vnd.oci.image.index.v1+json"}, index};
    return serve_image(kImage, "app", asked);
  });
  const Registry registry(plain({server.host()}));
  const auto image = registry.resolve(reference_to(server));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->manifest_digest, digest);
  EXPECT_EQ(image->layers, std::vector<Layer>{kLayer.layer});
  EXPECT_EQ(image->config.workdir, "/app");
  EXPECT_TRUE(registry.resolve(reference_to(server, "app@" + digest)));
  EXPECT_EQ(registry.resolve(reference_to(server, "other:1")).error().kind, Error::Kind::not_found);
}

TEST(Registry, BytesThatAreNotWhatTheyClaimAreCorrupt) {
  std::string what;
  Server server([&](const Asked& asked) -> Answer {
    Answer answer = serve_image(kImage, "app", asked);
    const bool manifest = asked.path.find("/manifests/") != std::string::npos;
    if (manifest && what == "header")
      answer.headers.push_back("Docker-Content-Digest: " + sha256_digest("other"));
    if (manifest && what == "digest") answer = {200, {}, kImage.manifest + " "};
    if (manifest && what == "garbage") answer = {200, {}, "<html>"};
    if (manifest && what == "endless")
      answer = {200, {}, std::string(kMaxManifestBytes + 1, ' '), -1, -1, true};
    if (!manifest && what == "config") answer.body[5] ^= 1;
    if (!manifest && what == "long") answer = {200, {}, answer.body + " ", -1, -1, true};
    if (!manifest && what == "short") answer = {200, {}, answer.body.substr(1), -1, -1, true};
    return answer;
  });
  Registries configuration = plain({server.host()});
  configuration.attempts = 2;
  const Registry registry(configuration);
  const Reference pinned = reference_to(server, "app@" + sha256_digest(kImage.manifest));
  ASSERT_TRUE(registry.resolve(pinned));
  for (const char* broken : {"header", "digest", "garbage", "endless", "config", "long", "short"}) {
    what = broken;
    const auto image =
        registry.resolve(std::string(broken) == "garbage" ? reference_to(server) : pinned);
    ASSERT_FALSE(image) << broken;
    EXPECT_EQ(image.error().kind, Error::Kind::corrupt) << broken << ": " << image.error().message;
  }
}

TEST(Registry, ABlobMustHaveTheSizeAndTheDigestOfItsDescriptor) {
  std::string body = kLayer.bytes;
  Server server([&](const Asked&) -> Answer { return {200, {}, body, -1, -1, true}; });
  Registries configuration = plain({server.host()});
  configuration.attempts = 2;
  const Registry registry(configuration);
  const auto good = download(registry, reference_to(server), kLayer.layer);
  ASSERT_TRUE(good.result) << good.result.error().message;
  EXPECT_EQ(good.bytes(), kLayer.bytes);
  body[1000] ^= 1;
  EXPECT_EQ(download(registry, reference_to(server), kLayer.layer).result.error().kind,
            Error::Kind::corrupt);
  body = kLayer.bytes + "x";
  EXPECT_EQ(download(registry, reference_to(server), kLayer.layer).result.error().kind,
            Error::Kind::corrupt);
  body = kLayer.bytes.substr(0, 1000);
  const auto cut = download(registry, reference_to(server), kLayer.layer).result;
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().kind, Error::Kind::unavailable) << cut.error().message;
}

TEST(Registry, ACutDownloadGoesOnWhereItWas) {
  int cuts = 0;
  Server server([&](const Asked& asked) {
    Answer answer = serve_image(kImage, "app", asked);
    if (cuts < 3) ++cuts, answer.cut_after = 70'000;
    return answer;
  });
  const Registry registry(plain({server.host()}));
  const auto done = download(registry, reference_to(server), kLayer.layer);
  ASSERT_TRUE(done.result) << done.result.error().message;
  EXPECT_EQ(done.bytes(), kLayer.bytes);
  const auto asked = server.asked();
  ASSERT_EQ(asked.size(), 4u);
  EXPECT_FALSE(asked[0].headers.contains("range"));
  EXPECT_EQ(asked[3].headers.at("range"), "bytes=210000-");
}

TEST(Registry, AServerWithoutRangesIsReadFromTheStartAgain) {
  int asked_before = 0;
  Server server([&](const Asked&) -> Answer {
    switch (asked_before++) {
      case 0: return {200, {}, kLayer.bytes, 70'000};
      case 1: return {206, {"Content-Range: bytes 7-9/10"}, "bad"};  // not what was asked for
      case 2: return {200, {}, kLayer.bytes, 70'000};
      case 3: return {416};
      default: return {200, {}, kLayer.bytes};
    }
  });
  const Registry registry(plain({server.host()}));
  const auto done = download(registry, reference_to(server), kLayer.layer);
  ASSERT_TRUE(done.result) << done.result.error().message;
  EXPECT_EQ(done.bytes(), kLayer.bytes);
}

TEST(Registry, BusyAndBrokenServersAreAskedAgainABoundedNumberOfTimes) {
  int left = 3;
  int status = 429;
  Server server([&](const Asked& asked) -> Answer {
    if (left-- > 0) return {status, {"Retry-After: 1"}, "{\"errors\":[]}"};
    return serve_image(kImage, "app", asked);
  });
  const Registry registry(plain({server.host()}));
  for (int each : {429, 500, 503}) {
    left = 3;
    status = each;
    EXPECT_TRUE(registry.resolve(reference_to(server))) << each;
    left = 3;
    EXPECT_TRUE(download(registry, reference_to(server), kLayer.layer).result) << each;
  }
  const std::size_t before = server.asked().size();
  left = 1000;
  const auto image = registry.resolve(reference_to(server));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind, Error::Kind::unavailable);
  EXPECT_EQ(server.asked().size() - before, 5u);
}

TEST(Registry, ASilentServerIsATimeout) {
  Server server([&](const Asked&) -> Answer { return {200, {}, kLayer.bytes, -1, 100}; });
  Registries configuration = plain({server.host()});
  configuration.attempts = 1;
  configuration.stall_timeout = std::chrono::milliseconds(1000);
  configuration.request_timeout = std::chrono::milliseconds(1000);
  const Registry registry(configuration);
  EXPECT_EQ(registry.resolve(reference_to(server)).error().kind, Error::Kind::timeout);
  const auto done = download(registry, reference_to(server), kLayer.layer);
  ASSERT_FALSE(done.result);
  EXPECT_EQ(done.result.error().kind, Error::Kind::timeout) << done.result.error().message;
}

TEST(Registry, ABodyThatNobodyWantsNeedsNoEnd) {
  const std::string much(100'000, 'x');
  const auto endless = [&](int status, std::vector<std::string> headers) -> Answer {
    return {status, std::move(headers), much, -1, 100'000, true};
  };
  Server server([&](const Asked& asked) -> Answer {
    if (asked.path.ends_with("/manifests/gone")) return endless(404, {});
    if (asked.path.ends_with("/manifests/moved"))
      return endless(307, {"Location: /v2/app/manifests/1"});
    return serve_image(kImage, "app", asked);
  });
  Registries configuration = plain({server.host()});
  configuration.attempts = 1;
  const Registry registry(configuration);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(registry.resolve(reference_to(server, "app:gone")).error().kind,
            Error::Kind::not_found);
  EXPECT_EQ(registry.resolve(reference_to(server, "app:moved")).error().kind,
            Error::Kind::denied);
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
}

TEST(Registry, ABlobHasABoundedTimeOverAllTries) {
  std::atomic<int> tries = 0;
  Server server([&](const Asked&) -> Answer {
    ++tries;
    return {200, {}, kLayer.bytes, -1, 100};
  });
  Registries configuration = plain({server.host()});
  configuration.stall_timeout = std::chrono::milliseconds(60'000);
  configuration.request_timeout = std::chrono::milliseconds(250);
  configuration.slowest_bytes_per_second = 1 << 30;
  const Registry registry(configuration);
  const auto began = std::chrono::steady_clock::now();
  const auto done = download(registry, reference_to(server), kLayer.layer);
  ASSERT_FALSE(done.result);
  EXPECT_EQ(done.result.error().kind, Error::Kind::timeout) << done.result.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
  EXPECT_EQ(tries, 1);
}

TEST(Registry, AStopRequestEndsADownload) {
  std::stop_source stop;
  Server server([&](const Asked&) -> Answer { return {200, {}, kLayer.bytes, -1, 10'000}; });
  const Registry registry(plain({server.host()}));
  const File file(memfd_create("blob", MFD_CLOEXEC));
  const auto done = registry.download(
      reference_to(server), kLayer.layer, file.get(),
      [&](std::int64_t, std::int64_t) { stop.request_stop(); }, stop.get_token());
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, Error::Kind::unavailable);
  EXPECT_EQ(server.asked().size(), 1u);
}

// A registry that wants a token, and the token server in the same process.
struct Guarded {
  std::string token = "secret-1";
  std::string realm;
  int tokens = 0;
  std::string basic;  // what the token server wants, if anything

  Answer answer(const Asked& asked) {
    const auto given = asked.headers.find("authorization");
    const std::string value = given == asked.headers.end() ? "" : given->second;
    if (asked.path.starts_with("/token?")) {
      ++tokens;
      if (!basic.empty() && value != basic) return {401};
      EXPECT_NE(asked.path.find("scope=repository%3Aapp%3Apull"), std::string::npos) << asked.path;
      EXPECT_NE(asked.path.find("service=the%20registry"), std::string::npos) << asked.path;
      return {200, {}, R"({"token":")" + token + R"(","expires_in":300})"};
    }
    if (value == "Bearer " + token) return serve_image(kImage, "app", asked);
    return {401,
            {"WWW-Authenticate: Bearer realm=\"" + realm +
             "\",service=\"the registry\",scope=\"repository:app:pull\""}};
  }
};

TEST(Registry, ATokenIsFetchedOnceAndAgainWhenItIsRefused) {
  Guarded guarded;
  Server server([&](const Asked& asked) { return guarded.answer(asked); });
  guarded.realm = "http://" + server.host() + "/token";
  const Registry registry(plain({server.host()}));
  const auto image = registry.resolve(reference_to(server));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_TRUE(download(registry, reference_to(server), kLayer.layer).result);
  EXPECT_EQ(guarded.tokens, 1);
  guarded.token = "secret-2";
  EXPECT_TRUE(registry.resolve(reference_to(server)));
  EXPECT_EQ(guarded.tokens, 2);
}

TEST(Registry, CredentialsGoToTheTokenServerAndWrongOnesAreDenied) {
  Guarded guarded;
  guarded.basic = "Basic dXNlcjpwYXNz";  // user:pass
  Server server([&](const Asked& asked) { return guarded.answer(asked); });
  guarded.realm = "http://" + server.host() + "/token";
  Registries configuration = plain({server.host()});
  EXPECT_EQ(Registry(configuration).resolve(reference_to(server)).error().kind,
            Error::Kind::denied);
  configuration.credentials[server.host()] = {"user", "wrong"};
  EXPECT_EQ(Registry(configuration).resolve(reference_to(server)).error().kind,
            Error::Kind::denied);
  configuration.credentials[server.host()] = {"user", "pass"};
  EXPECT_TRUE(Registry(configuration).resolve(reference_to(server)));
}

TEST(Registry, BasicAuthenticationAnswersItsChallenge) {
  Server server([&](const Asked& asked) -> Answer {
    const auto given = asked.headers.find("authorization");
    if (given == asked.headers.end() || given->second != "Basic dXNlcjpwYXNz")
      return {401, {"WWW-Authenticate: Basic realm=\"x\""}};
    return serve_image(kImage, "app", asked);
  });
  Registries configuration = plain({server.host()});
  EXPECT_EQ(Registry(configuration).resolve(reference_to(server)).error().kind,
            Error::Kind::denied);
  configuration.credentials[server.host()] = {"user", "pass"};
  EXPECT_TRUE(Registry(configuration).resolve(reference_to(server)));
}

TEST(Registry, AMaliciousRealmGetsNothing) {
  Guarded guarded;
  Server server([&](const Asked& asked) { return guarded.answer(asked); });
  Registries configuration = plain({server.host()});
  configuration.credentials[server.host()] = {"user", "pass"};
  for (const char* realm :
       {"", "file:///etc/passwd", "ftp://x/", "http://u:p@x/", "/token", "gopher://x"}) {
    guarded.realm = realm;
    EXPECT_EQ(Registry(configuration).resolve(reference_to(server)).error().kind,
              Error::Kind::denied)
        << realm;
  }
}

TEST(Registry, ARedirectNeverTakesTheAuthorizationToAnotherHost) {
  Server storage([&](const Asked&) -> Answer { return {200, {}, kLayer.bytes}; });
  Server server([&](const Asked& asked) -> Answer {
    if (!asked.headers.contains("authorization"))
      return {401, {"WWW-Authenticate: Basic realm=\"x\""}};
    if (asked.path == "/near") return {307, {"Location: http://" + storage.host() + "/far"}};
    return {307, {"Location: /near"}};
  });
  Registries configuration = plain({server.host(), storage.host()});
  configuration.credentials[server.host()] = {"user", "pass"};
  const auto done = download(Registry(configuration), reference_to(server), kLayer.layer);
  ASSERT_TRUE(done.result) << done.result.error().message;
  ASSERT_EQ(storage.asked().size(), 1u);
  EXPECT_FALSE(storage.asked()[0].headers.contains("authorization"));
  EXPECT_TRUE(server.asked().back().headers.contains("authorization")) << "the same host";
}

TEST(Registry, RedirectsAreBounded) {
  Server server([](const Asked&) -> Answer { return {302, {"Location: /again"}}; });
  EXPECT_FALSE(Registry(plain({server.host()})).resolve(reference_to(server)));
  EXPECT_EQ(server.asked().size(), 6u);
}

TEST(Registry, PrivateAddressesAreOnlyForHostsOfTheConfiguration) {
  Server hidden([](const Asked&) -> Answer { return {200, {}, "internal"}; });
  Server server([&](const Asked&) -> Answer {
    return {302, {"Location: http://" + hidden.host() + "/latest/meta-data"}};
  });
  Registries configuration = plain({server.host()});
  const auto image = Registry(configuration).resolve(reference_to(server));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind, Error::Kind::denied) << image.error().message;
  EXPECT_TRUE(hidden.asked().empty()) << "a redirect must not reach it";
  EXPECT_FALSE(Registry(configuration).resolve(reference_to(hidden)));
  EXPECT_TRUE(hidden.asked().empty()) << "a reference must not reach it";
  configuration.allow_private_addresses = true;
  EXPECT_FALSE(Registry(configuration).resolve(reference_to(server)));
  EXPECT_FALSE(hidden.asked().empty());
}

TEST(Registry, MirrorsAreTriedInOrderThenTheRegistry) {
  Server first([](const Asked&) -> Answer { return {404}; });
  Server second([](const Asked& asked) { return serve_image(kImage, "library/app", asked); });
  Registries configuration = plain({});
  RegistryOptions& hub = configuration.registries["docker.io"];
  hub.direct = false;
  // Nobody listens on port 1; that must not cost the retries.
  hub.mirrors = {{"127.0.0.1:1", true}, {first.host(), true}, {second.host(), true}};
  const Registry registry(configuration);
  const Reference reference = *parse_reference("app:1");
  const auto image = registry.resolve(reference);
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(first.asked().size(), 1u);
  EXPECT_TRUE(download(registry, reference, kLayer.layer).result);
  const auto missing = registry.resolve(*parse_reference("nothing:1"));
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, Error::Kind::not_found);
  EXPECT_NE(missing.error().message.find(second.host()), std::string::npos);
  // A layer that nobody has is missing, unless one cannot be asked now.
  const Reference nothing = *parse_reference("nothing:1");
  EXPECT_EQ(download(registry, nothing, kLayer.layer).result.error().kind,
            Error::Kind::unavailable);
  hub.mirrors.erase(hub.mirrors.begin());
  EXPECT_EQ(download(Registry(configuration), nothing, kLayer.layer).result.error().kind,
            Error::Kind::not_found);
  hub.mirrors.clear();
  EXPECT_EQ(Registry(configuration).resolve(reference).error().kind, Error::Kind::denied);
}

TEST(Registry, AMirrorWithWrongBytesIsPassedOver) {
  Server broken([](const Asked& asked) {
    Answer answer = serve_image(kImage, "library/app", asked);
    if (is_blob(asked)) answer.body[0] ^= 1;
    return answer;
  });
  Server good([](const Asked& asked) { return serve_image(kImage, "library/app", asked); });
  Registries configuration = plain({});
  configuration.registries["docker.io"] = {
      {{broken.host(), true}, {good.host(), true}}, false, false};
  const auto done = download(Registry(configuration), *parse_reference("app"), kLayer.layer);
  ASSERT_TRUE(done.result) << done.result.error().message;
  EXPECT_EQ(done.bytes(), kLayer.bytes);
}

TEST(Registry, NothingIsSentInTheClearUnlessTheConfigurationSaysSo) {
  Server server([](const Asked&) -> Answer { return {200}; });
  Registries configuration;
  configuration.registries[server.host()] = {};
  configuration.attempts = 1;
  configuration.connect_timeout = std::chrono::milliseconds(500);
  EXPECT_FALSE(Registry(configuration).resolve(reference_to(server)));
  EXPECT_TRUE(server.asked().empty());
}

TEST(Registry, AnUnknownCertificateIsDenied) {
  const std::string openssl = find_program("openssl");
  if (openssl.empty()) GTEST_SKIP() << "openssl is not installed";
  const Scratch scratch;
  const std::string key = scratch.path() + "/key", certificate = scratch.path() + "/certificate";
  const std::string log = scratch.path() + "/log";
  Process made({openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-keyout", key, "-out", certificate, "-days", "1", "-subj",
                "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"},
               log);
  ASSERT_EQ(made.wait(), 0);
  const std::string host = "127.0.0.1:" + std::to_string(free_port());
  Process server({openssl, "s_server", "-accept", host, "-key", key, "-cert", certificate, "-www"},
                 log);
  Registries configuration;
  configuration.registries[host] = {};
  configuration.attempts = 50;  // until it listens
  configuration.backoff = configuration.backoff_max = std::chrono::milliseconds(200);
  const auto image = Registry(configuration).resolve(*parse_reference(host + "/app"));
  ASSERT_FALSE(image);
  EXPECT_EQ(image.error().kind, Error::Kind::denied) << image.error().message;
}

TEST(Registry, ChallengesAreReadWithQuotesAndWithout) {
  const Challenge challenge =
      parse_challenge(R"(Bearer realm="https://a/b,c",Service=x y, scope="a\"b", lonely)");
  EXPECT_EQ(challenge.scheme, "bearer");
  EXPECT_EQ(challenge.parameters.at("realm"), "https://a/b,c");
  EXPECT_EQ(challenge.parameters.at("service"), "x y");
  EXPECT_EQ(challenge.parameters.at("scope"), "a\"b");
  for (const char* text :
       {"", "Bearer", "Bearer ", "Bearer realm", "Bearer realm=", "=", "a =\"", ",,,"})
    parse_challenge(text);
}

TEST(Registry, HostsAndPrivateAddressesAreRecognised) {
  EXPECT_EQ(host_of("https://H.io:443/x"), "h.io");
  EXPECT_EQ(host_of("http://h.io:443/x"), "h.io:443");
  EXPECT_EQ(host_of("http://u@h.io?x"), "h.io");
  EXPECT_EQ(host_of("ftp://h.io"), "");
  const auto is_private = [](const char* text) {
    sockaddr_in6 v6{};
    sockaddr_in v4{};
    v6.sin6_family = AF_INET6;
    v4.sin_family = AF_INET;
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
      return private_address(reinterpret_cast<sockaddr*>(&v4));
    inet_pton(AF_INET6, text, &v6.sin6_addr);
    return private_address(reinterpret_cast<sockaddr*>(&v6));
  };
  for (const char* text :
       {"127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fd00::1", "fe80::1", "ff02::1",
        "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe"})
    EXPECT_TRUE(is_private(text)) << text;
  for (const char* text : {"1.1.1.1", "172.32.0.1", "192.0.3.1", "2606:4700::1", "::ffff:8.8.8.8"})
    EXPECT_FALSE(is_private(text)) << text;
}

}  // namespace
}  // namespace chalk::images
