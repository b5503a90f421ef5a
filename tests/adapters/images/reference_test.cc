#include "adapters/images/reference.h"

#include <gtest/gtest.h>

#include <string>

namespace chalk::images {
namespace {

std::string full(const std::string& text) {
  const auto parsed = parse_reference(text);
  return parsed ? to_string(*parsed) : "error: " + parsed.error().message;
}

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, ShortNamesMeanDockerHub) {
  EXPECT_EQ(full("python"), "docker.io/library/python:latest");
  EXPECT_EQ(full("python:3.12-slim-bookworm"), "docker.io/library/python:3.12-slim-bookworm");
  EXPECT_EQ(full("grafana/grafana"), "docker.io/grafana/grafana:latest");
  EXPECT_EQ(full("index.docker.io/python:3"), "docker.io/library/python:3");
  EXPECT_EQ(registry_host("docker.io"), "registry-1.docker.io");
}

TEST(Reference, TheFirstPartIsAHostWhenItLooksLikeOne) {
  EXPECT_EQ(full("ghcr.io/a/b/c:1"), "ghcr.io/a/b/c:1");
  EXPECT_EQ(full("127.0.0.1:5000/x"), "127.0.0.1:5000/x:latest");
  EXPECT_EQ(full("localhost/x:1"), "localhost/x:1");
  EXPECT_EQ(full("[::1]:5000/x:1"), "[::1]:5000/x:1");
  EXPECT_EQ(full("Registry/x"), "registry/x:latest");
  EXPECT_EQ(full("registry/x"), "docker.io/registry/x:latest");
}

TEST(Reference, ADigestIsKeptWithAndWithoutATag) {
  const auto both = parse_reference("a/b:1@" + kDigest);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->tag, "1");
  EXPECT_EQ(both->digest, kDigest);
  const auto only = parse_reference("a/b@" + kDigest);
  ASSERT_TRUE(only);
  EXPECT_EQ(only->tag, "");
}

TEST(Reference, WhatItPrintsItReadsBack) {
  for (const std::string text : {"python:3", "h.io:1/a_b/c__d/e-f--g.h:T_.-1", "localhost:80/z"}) {
    const auto parsed = parse_reference(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parse_reference(to_string(*parsed)), *parsed);
  }
}

TEST(Reference, EverythingOutsideTheGrammarIsRefusedWithAReason) {
  for (const std::string& text : std::vector<std::string>{"",
                                                          " ",
                                                          "Python",
                                                          "python ",
                                                          " python",
                                                          "python:",
                                                          "python@",
                                                          "a//b",
                                                          "/a",
                                                          "a/",
                                                          "a/../b",
                                                          "a/./b",
                                                          "a__b___c",
                                                          "a..b",
                                                          "-a",
                                                          "a-",
                                                          "_a",
                                                          "a:b:c",
                                                          "a:-x",
                                                          "a:.x",
                                                          "a@sha256:abc",
                                                          "a@sha512:" + std::string(128, 'a'),
                                                          "a@sha256:" + std::string(64, 'A'),
                                                          "h.io:0/a",
                                                          "h.io:65536/a",
                                                          "h.io:/a",
                                                          "h.io:x/a",
                                                          ".io/a",
                                                          "h..io/a",
                                                          "-h.io/a",
                                                          "[::1/a",
                                                          "[]/a",
                                                          "[zz::]/a",
                                                          "http://h.io/a",
                                                          "u:p@h.io/a",
                                                          "a\nb",
                                                          std::string("a\0b", 3),
                                                          "a:" + std::string(129, 'x'),
                                                          std::string(256, 'a'),
                                                          std::string(600, 'a'),
                                                          "a%2f",
                                                          "ä"}) {
    const auto parsed = parse_reference(text);
    ASSERT_FALSE(parsed) << text << " was read as " << to_string(*parsed);
    EXPECT_EQ(parsed.error().kind, Error::Kind::invalid);
    EXPECT_FALSE(parsed.error().message.empty());
  }
}

}  // namespace
}  // namespace chalk::images
