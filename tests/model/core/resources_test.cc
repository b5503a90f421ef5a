#include "model/core/resources.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace chalk {
namespace {

TEST(Resources, ReadTheNotationOfTheDocuments) {
  EXPECT_EQ(parse_cpu_millicores("2"), 2000);
  EXPECT_EQ(parse_cpu_millicores("500m"), 500);
  EXPECT_EQ(parse_cpu_millicores("0.5"), 500);
  EXPECT_EQ(parse_cpu_millicores("1.001"), 1001);
  EXPECT_EQ(parse_bytes("16Gi"), 16LL << 30);
  EXPECT_EQ(parse_bytes("512Mi"), 512LL << 20);
  EXPECT_EQ(parse_bytes("1.5Gi"), 3LL << 29);
  EXPECT_EQ(parse_bytes("7"), 7);
  EXPECT_EQ(parse_bytes("2G"), 2'000'000'000);
  EXPECT_EQ(parse_duration("1h"), seconds(3600));
  EXPECT_EQ(parse_duration("1h30m"), seconds(5400));
  EXPECT_EQ(parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(parse_duration("0.5s"), milliseconds(500));
  EXPECT_EQ(parse_gpu("A100"), (GpuRequest{1, "nvidia-a100"}));
  EXPECT_EQ(parse_gpu("2:nvidia-a100"), (GpuRequest{2, "nvidia-a100"}));
  EXPECT_EQ(parse_gpu("nvidia-l4"), (GpuRequest{1, "nvidia-l4"}));
}

TEST(Resources, RefuseWhatIsNotOfTheNotation) {
  for (const char* bad : {"", "-1", "two", "1.2345", "1m1", "5k", " 1", "1 ", "0.0005", "1.5m",
                          "99999999999999999999"}) {
    EXPECT_FALSE(parse_cpu_millicores(bad)) << bad;
  }
  for (const char* bad :
       {"", "16 gigs", "16Gib", "-1Gi", "1.0001", "99999999999Pi", "Gi", "0x10"}) {
    EXPECT_FALSE(parse_bytes(bad)) << bad;
  }
  for (const char* bad : {"", "1", "h", "1m1h", "1h1h", "-1s", "1s ", "300000000000h", "1.5"}) {
    EXPECT_FALSE(parse_duration(bad)) << bad;
  }
  for (const char* bad : {"", ":", "0:a100", "-1:a100", "2:", "9999999:a100", "a 100", "1:2:3"}) {
    EXPECT_FALSE(parse_gpu(bad)) << bad;
  }
}

RC_GTEST_PROP(Resources, DurationTextParsesBack, ()) {
  const Duration value{*rc::gen::inRange<std::int64_t>(0, 1'000'000'000'000'000)};
  RC_ASSERT(parse_duration(duration_text(value)) == value);
}

RC_GTEST_PROP(Resources, BytesTextParsesBack, ()) {
  const auto shift = *rc::gen::inRange(0, 40);
  const auto value = *rc::gen::inRange<std::int64_t>(0, 100'000) << shift;
  RC_ASSERT(parse_bytes(bytes_text(value)) == value);
}

RC_GTEST_PROP(Resources, AnyTextIsRefusedOrUnderstood, (const std::string& text)) {
  parse_cpu_millicores(text);
  parse_bytes(text);
  parse_duration(text);
  parse_gpu(text);
}

}  // namespace
}  // namespace chalk
