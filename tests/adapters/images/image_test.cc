#include "adapters/images/image.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "adapters/images/digest.h"
#include "adapters/images/registries.h"
#include "tests/adapters/images/layers.h"

namespace chalk::images {
namespace {

using nlohmann::json;
using testing::make_layer;
using testing::publish;

const std::string kIndexType = "application/vnd.oci.image.index.v1+json";

json entry(const std::string& os, const std::string& architecture, char digit,
           const std::string& variant = "") {
  json platform{{"os", os}, {"architecture", architecture}};
  if (!variant.empty()) platform["variant"] = variant;
  return {{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
          {"digest", "sha256:" + std::string(64, digit)},
          {"size", 100},
          {"platform", platform}};
}

std::string index_of(const std::vector<json>& entries) {
  return json{{"schemaVersion", 2}, {"manifests", entries}}.dump();
}

TEST(Image, TheManifestAndTheConfigurationMakeAnImage) {
  for (const bool docker : {false, true}) {
    const auto published = publish({make_layer({testing::file("a", "x")})}, docker);
    const auto manifest = parse_manifest(published.manifest, published.manifest_type, {});
    ASSERT_TRUE(manifest) << manifest.error().message;
    const auto reference = parse_reference("a/b:1");
    const auto image = assemble_image(*reference, sha256_digest(published.manifest), *manifest,
                                      published.config, {});
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(image->config.env, (std::vector<std::string>{"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}));
    EXPECT_EQ(image->config.cmd, std::vector<std::string>{"python3"});
    EXPECT_TRUE(image->config.entrypoint.empty());
    EXPECT_EQ(image->config.workdir, "/app");
    EXPECT_EQ(image->config.user, "1000:1000");
    ASSERT_EQ(image->layers.size(), 1u);
    EXPECT_EQ(estimated_unpacked_bytes(*image), 3 * transfer_bytes(*image));
    const auto back = decode_image(encode_image(*image));
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, *image);
  }
}

TEST(Image, AnIndexLeadsToOurPlatformAndToThePlainestVariant) {
  const auto found =
      parse_manifest(index_of({entry("linux", "arm64", 'a'), entry("unknown", "unknown", 'b'),
                               entry("linux", "amd64", 'c', "v3"), entry("linux", "amd64", 'd')}),
                     kIndexType, {});
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_TRUE(found->index);
  EXPECT_EQ(found->manifest.digest, "sha256:" + std::string(64, 'd'));
}

TEST(Image, AnIndexWithoutOurPlatformSaysWhichItHas) {
  const auto found = parse_manifest(
      index_of({entry("linux", "arm64", 'a'), entry("windows", "amd64", 'b')}), kIndexType, {});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, Error::Kind::not_found);
  EXPECT_NE(found.error().message.find("linux/arm64, windows/amd64"), std::string::npos)
      << found.error().message;
}

TEST(Image, GarbageIsNoManifest) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{}"),
        std::string(R"({"layers":[],"manifests":[]})"), std::string(R"({"layers":{}})"),
        std::string(R"({"fsLayers":[]})"), std::string(100'000, '['), std::string("\xff\xfe"),
        std::string(R"({"config":{"digest":"sha256:../../x","size":1},"layers":[]})"),
        std::string(R"({"config":{"digest":1,"size":"1"},"layers":[]})")})
    EXPECT_FALSE(parse_manifest(text, "", {})) << text.substr(0, 80);
  EXPECT_FALSE(
      parse_manifest(R"({"manifests":[]})", "application/vnd.oci.image.manifest.v1+json", {}));
  EXPECT_FALSE(parse_manifest(std::string(kMaxManifestBytes + 1, ' '), "", {}));
}

TEST(Image, SizesAndCountsOfLayersAreBounded) {
  auto document = json::parse(publish({make_layer({})}).manifest);
  const auto parsed = [&] { return parse_manifest(document.dump(), "", {}); };
  ASSERT_TRUE(parsed());
  for (const json& size : {json(-1), json(1.5), json("1"), json(kMaxLayerBytes + 1),
                           json(18446744073709551615u), json(nullptr)}) {
    document["layers"][0]["size"] = size;
    EXPECT_FALSE(parsed()) << size;
  }
  document["layers"][0]["size"] = 1;
  ASSERT_TRUE(parsed());
  document["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+encrypted";
  EXPECT_EQ(parsed().error().kind, Error::Kind::invalid);
  document = json::parse(publish({make_layer({})}).manifest);
  for (std::size_t i = 0; i < kMaxLayers; ++i) document["layers"].push_back(document["layers"][0]);
  EXPECT_EQ(parsed().error().kind, Error::Kind::invalid);
}

TEST(Image, AConfigurationMustFitTheManifestAndThePlatform) {
  const auto published = publish({make_layer({})});
  const auto manifest = parse_manifest(published.manifest, "", {});
  const auto reference = parse_reference("a");
  const auto assembled = [&](const json& config) {
    return assemble_image(*reference, sha256_digest("x"), *manifest, config.dump(), {});
  };
  const json good = json::parse(published.config);
  ASSERT_TRUE(assembled(good));
  const auto broken = [&](const char* pointer, const json& value) {
    json config = good;
    config[json::json_pointer(pointer)] = value;
    return assembled(config);
  };
  EXPECT_EQ(broken("/architecture", "arm64").error().kind, Error::Kind::not_found);
  EXPECT_FALSE(broken("/rootfs/diff_ids", json::array()));
  EXPECT_FALSE(broken("/rootfs/diff_ids/0", "sha256:/etc/passwd"));
  EXPECT_FALSE(broken("/config/Env", "PATH=x"));
  EXPECT_FALSE(broken("/config/Env/0", "=x"));
  EXPECT_FALSE(broken("/config/Env/0", std::string("A=\0b", 4)));
  EXPECT_FALSE(broken("/config/Cmd", json::array({1})));
  EXPECT_FALSE(broken("/config/User", std::string(200'000, 'x')));
  EXPECT_TRUE(broken("/config", nullptr));
}

TEST(Image, AnOrderForANodeIsCheckedAgain) {
  const auto published = publish({make_layer({})});
  const auto manifest = parse_manifest(published.manifest, "", {});
  const auto image =
      assemble_image(*parse_reference("a"), sha256_digest("x"), *manifest, published.config, {});
  json document = json::parse(encode_image(*image));
  ASSERT_TRUE(decode_image(document.dump()));
  document["layers"][0]["diffId"] = "../../../etc";
  EXPECT_FALSE(decode_image(document.dump()));
  EXPECT_FALSE(decode_image("{}"));
  EXPECT_FALSE(decode_image(""));
}

TEST(Registries, MirrorsComeFirstAndTheRegistryItselfUnlessForbidden) {
  const auto parsed = parse_registries(R"({"registries": {
    "docker.io": {"mirrors": ["http://127.0.0.1:5000", "https://m.example/"]},
    "h.example": {"mirrors": ["https://m.example"], "direct": false},
    "127.0.0.1:7000": {"insecure": true}},
    "credentials": {"docker.io": {"username": "u", "password": "p:q"}},
    "attempts": 2, "stall_timeout_ms": 1500, "slowest_bytes_per_second": 1000})");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->endpoints("docker.io"),
            (std::vector<Endpoint>{
                {"127.0.0.1:5000", true}, {"m.example", false}, {"registry-1.docker.io", false}}));
  EXPECT_EQ(parsed->endpoints("h.example"), (std::vector<Endpoint>{{"m.example", false}}));
  EXPECT_EQ(parsed->endpoints("127.0.0.1:7000"), (std::vector<Endpoint>{{"127.0.0.1:7000", true}}));
  EXPECT_EQ(parsed->endpoints("o.example"), (std::vector<Endpoint>{{"o.example", false}}));
  ASSERT_TRUE(parsed->credentials_for("registry-1.docker.io"));
  EXPECT_EQ(parsed->credentials_for("registry-1.docker.io")->password, "p:q");
  EXPECT_FALSE(parsed->credentials_for("m.example"));
  EXPECT_TRUE(parsed->named("127.0.0.1:5000"));
  EXPECT_FALSE(parsed->named("127.0.0.1:5001"));
  EXPECT_EQ(parsed->attempts, 2);
  EXPECT_EQ(parsed->slowest_bytes_per_second, 1000);
}

TEST(Registries, TheStarStandsForAllOthers) {
  const auto parsed = parse_registries(
      R"({"registries": {"*": {"mirrors": ["http://localhost:1"], "direct": false}}})");
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->endpoints("x.example"), (std::vector<Endpoint>{{"localhost:1", true}}));
}

TEST(Registries, AMisspeltKeyIsAnError) {
  for (const char* text :
       {"", "[]", R"({"registry": {}})", R"({"registries": {"docker.io": {"drect": false}}})",
        R"({"registries": {"docker.io": {"direct": 0}}})",
        R"({"registries": {"docker.io": {"mirrors": ["127.0.0.1:5000"]}}})",
        R"({"registries": {"docker.io": {"mirrors": ["http://h.example/path"]}}})",
        R"({"registries": {"docker.io": {"mirrors": ["http://u:p@h.example"]}}})",
        R"({"registries": {"not a host": {}}})", R"({"credentials": {"h": {"username": "u"}}})",
        R"({"attempts": 0})", R"({"attempts": 1.5})", R"({"backoff_ms": 99999999999})"})
    EXPECT_FALSE(parse_registries(text)) << text;
}

}  // namespace
}  // namespace chalk::images
