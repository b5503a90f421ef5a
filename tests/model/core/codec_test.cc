#include "model/core/codec.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "model/core/digest.h"
#include "model/core/machine.h"
#include "model/core/print.h"
#include "model/core/slot_table.h"
#include "model/core/timers.h"
#include "model/protocol/protocol.h"

namespace chalk {
namespace {

struct Inner {
  std::int64_t number = 0;
  std::string text;
  CHALK_FIELDS(Inner, number, text)
};
struct Everything {
  std::vector<Inner> items;
  std::map<std::uint32_t, Inner> by_number;
  std::optional<std::int32_t> maybe;
  std::variant<Inner, Woken, Time> one;
  Fifo<std::uint64_t> line;
  std::array<std::int32_t, 2> pair{};
  bool flag = false;
  CHALK_FIELDS(Everything, items, by_number, maybe, one, line, pair, flag)
};

Everything arbitrary() {
  Everything value;
  value.items = *rc::gen::container<std::vector<Inner>>(rc::gen::construct<Inner>(
      rc::gen::arbitrary<std::int64_t>(), rc::gen::arbitrary<std::string>()));
  for (const auto& item : value.items) value.by_number[item.number & 0xFF] = item;
  if (*rc::gen::arbitrary<bool>()) value.maybe = *rc::gen::arbitrary<std::int32_t>();
  if (*rc::gen::arbitrary<bool>()) value.one = Time{*rc::gen::arbitrary<std::int64_t>()};
  for (const auto number : *rc::gen::arbitrary<std::vector<std::uint64_t>>())
    value.line.push_back(number);
  value.pair = {*rc::gen::arbitrary<std::int32_t>(), *rc::gen::arbitrary<std::int32_t>()};
  value.flag = *rc::gen::arbitrary<bool>();
  return value;
}

RC_GTEST_PROP(Codec, DecodesWhatItEncoded, ()) {
  const Everything value = arbitrary();
  Everything back;
  RC_ASSERT(decode(encode(value), back));
  RC_ASSERT(back == value);
  RC_ASSERT(digest_of(back) == digest_of(value));
}

RC_GTEST_PROP(Codec, AnswersFalseOrAValueOnAnyBytes, (const std::string& bytes)) {
  Everything value;
  if (decode(bytes, value)) {
    Everything again;
    RC_ASSERT(decode(encode(value), again));
    RC_ASSERT(again == value);
  }
}

RC_GTEST_PROP(Codec, RefusesEveryCutOfAnEncoding, ()) {
  const std::string bytes = encode(arbitrary());
  const auto keep = *rc::gen::inRange<std::size_t>(0, bytes.size());
  Everything value;
  RC_ASSERT(!decode(std::string_view(bytes).substr(0, keep), value));
}

TEST(Codec, RefusesASizeThatTheBytesCannotHold) {
  std::string bytes;
  Encoder(bytes).word(1ULL << 60);
  std::vector<std::uint64_t> items;
  EXPECT_FALSE(decode(bytes, items));
  EXPECT_TRUE(items.empty());
}

TEST(Codec, RefusesNumbersThatDoNotFit) {
  std::string bytes;
  Encoder(bytes).word(256);
  std::uint8_t small = 0;
  EXPECT_FALSE(decode(bytes, small));
  bool flag = false;
  EXPECT_FALSE(decode(std::string_view("\x02", 1), flag));
}

TEST(Digest, IsTheSameOnEveryMachine) {
  const Inner value{-5, "chalk"};
  EXPECT_EQ(digest_of(value), 0x0dcbafeae3445e3aULL) << std::hex << digest_of(value);
}

RC_GTEST_PROP(Digest, ChangesWithAnyField, (std::int64_t number, const std::string& text)) {
  const Inner value{number, text};
  Inner other = value;
  other.number ^= 1LL << *rc::gen::inRange(0, 63);
  RC_ASSERT(digest_of(other) != digest_of(value));
  other = value;
  other.text += '\0';
  RC_ASSERT(digest_of(other) != digest_of(value));
}

TEST(Print, NamesEveryField) {
  EXPECT_EQ(to_text(StopOrder{SandboxId{7}}), "StopOrder{sandbox=7 grace=Duration{nanos=0}}");
  EXPECT_EQ(to_text(NodeOrder{StopOrder{SandboxId{7}}}), "StopOrder{sandbox=7 grace=Duration{nanos=0}}");
  EXPECT_EQ(to_text(Inner{1, "a"}), "Inner{number=1 text=\"a\"}");
}

TEST(Envelope, RoundTripsWithAndWithoutAMessage) {
  Envelope<NodeReport> heartbeat{3, 0, 9, {}};
  Envelope<NodeReport> back;
  ASSERT_TRUE(decode(encode(heartbeat), back));
  EXPECT_EQ(back, heartbeat);
  Envelope<NodeReport> report{3, 1, 9, EndedReport{SandboxId{4}, EndReason::exited}};
  ASSERT_TRUE(decode(encode(report), back));
  EXPECT_EQ(back, report);
}

}  // namespace
}  // namespace chalk
