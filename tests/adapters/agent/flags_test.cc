#include "adapters/agent/flags.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <stdexcept>

namespace chalk::agent {
namespace {

Options read(const std::vector<std::string>& words) {
  CLI::App app;
  Options options;
  NodeFlags flags;
  add_node_flags(app, options, flags);
  std::vector<std::string> reversed(words.rbegin(), words.rend());  // as CLI11 takes them
  app.parse(reversed);
  read_node_flags(flags, options);
  return options;
}

TEST(NodeFlags, RangesToBlockMayBeGivenAgain) {
  EXPECT_TRUE(read({}).network_blocked.empty());
  const Options given = read({"--block", "10.0.0.0/8", "--cpu", "2", "--block", "192.0.2.7/32"});
  EXPECT_EQ(given.network_blocked, (std::vector<std::string>{"10.0.0.0/8", "192.0.2.7/32"}));
}

TEST(NodeFlags, WhatIsNoRangeToBlockIsRefusedWithWhatWasExpected) {
  for (const std::string bad : {"10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "metadata.internal/32",
                                "fd00:ec2::/64", "10.0.0.0/8 "}) {
    try {
      read({"--block", bad});
      ADD_FAILURE() << bad << " was taken";
    } catch (const std::runtime_error& error) {
      const std::string said = error.what();
      EXPECT_TRUE(said.starts_with("--block: found \"" + bad + "\", expected an IPv4 range"))
          << said;
      EXPECT_NE(said.find("such as 10.0.0.0/8"), std::string::npos) << said;
    }
  }
}

}  // namespace
}  // namespace chalk::agent
