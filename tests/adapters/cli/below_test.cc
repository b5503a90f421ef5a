#include "adapters/cli/below.h"

#include <gtest/gtest.h>

namespace chalk::cli {
namespace {

using namespace std::string_literals;

TEST(LiesBelow, NamesOfFilesDo) {
  for (const auto& name :
       {"file"s, "a/b/c"s, "..."s, "a..b"s, ".hidden"s, "two words"s, "\xff\n"s}) {
    EXPECT_TRUE(lies_below(name)) << name;
  }
}

TEST(LiesBelow, WhatLeadsElsewhereDoesNotAlsoAsTheSystemReadsIt) {
  for (const auto& name :
       {""s, "/"s, "/etc/passwd"s, ".."s, "."s, "../a"s, "a/../b"s, "a/.."s, "a/./b"s, "a/"s,
        "..\0x"s, "..\0x/..\0x/a"s, "a/..\0/b"s, "a\0b"s, "\0"s}) {
    EXPECT_FALSE(lies_below(name)) << testing::PrintToString(name);
  }
}

}  // namespace
}  // namespace chalk::cli
