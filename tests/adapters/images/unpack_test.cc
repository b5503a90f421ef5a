#include "adapters/images/unpack.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>

#include "adapters/images/digest.h"
#include "tests/adapters/images/tree_listing.h"
#include "tests/adapters/images/unpacking.h"

namespace chalk::images {
namespace {

using namespace testing;

class Unpack : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: owners and whiteouts";
  }
  // Every hostile layer: refused as corrupt, and nothing changed outside of the root.
  void expect_refused(const std::vector<Item>& items, const UnpackLimits& limits = {},
                      Error::Kind kind = Error::Kind::corrupt) {
    const Scratch scratch;
    const std::string root = scratch.folder("outer/root");
    const std::string outside = scratch.folder("outer/outside");
    const auto unpacked = unpack_items(items, root, limits);
    EXPECT_FALSE(unpacked);
    if (!unpacked) {
      EXPECT_EQ(unpacked.error().kind, kind) << unpacked.error().message;
    }
    std::filesystem::remove_all(root);
    EXPECT_EQ(list_tree(scratch.path() + "/outer").size(), 2u) << "something was written outside";
  }
  Scratch scratch_;
  std::string root_ = scratch_.folder("root");
};

TEST_F(Unpack, KeepsContentModesOwnersTimesLinksAndSetuid) {
  Item owned = file("usr/bin/su", "binary", 04755);
  owned.user = 12;
  owned.group = 34;
  owned.attributes = {{"user.note", "kept"}};
  const auto unpacked = unpack_items(
      {directory(".", 0755), directory("usr", 0750), directory("usr/bin"), owned,
       symlink("usr/bin/sh", "/bin/dash"), hard_link("usr/bin/su2", "usr/bin/su"),
       file("/etc/absolute", "loses its slash"), file("\xc3\xa4/\xff\xfe", "any bytes")},
      root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(list_tree(root_), (Listing{{"", "directory 755 0:0"},
                                       {"usr", "directory 750 0:0"},
                                       {"usr/bin", "directory 755 0:0"},
                                       {"usr/bin/su", "file 4755 12:34 binary"},
                                       {"usr/bin/su2", "file 4755 12:34 binary"},
                                       {"usr/bin/sh", "symlink /bin/dash"},
                                       {"etc", "directory 755 0:0"},
                                       {"etc/absolute", "file 644 0:0 loses its slash"},
                                       {"\xc3\xa4", "directory 755 0:0"},
                                       {"\xc3\xa4/\xff\xfe", "file 644 0:0 any bytes"}}));
  struct stat first {
  }, second{}, folder{};
  stat((root_ + "/usr/bin/su").c_str(), &first);
  stat((root_ + "/usr/bin/su2").c_str(), &second);
  stat((root_ + "/usr/bin").c_str(), &folder);
  EXPECT_EQ(first.st_ino, second.st_ino);
  EXPECT_EQ(first.st_mtime, 1'000'000'000);
  EXPECT_EQ(folder.st_mtime, 1'000'000'000) << "writing below it changed it, finish sets it back";
  char value[8] = "";
  EXPECT_EQ(getxattr((root_ + "/usr/bin/su").c_str(), "user.note", value, sizeof value), 4);
}

TEST_F(Unpack, AllThreeCompressionsGiveTheSameTreeAndDiffId) {
  const std::string tar = make_tar({file("a", std::string(300'000, 'x')), directory("d")});
  Listing first;
  for (const Compression compression : {Compression::none, Compression::gzip, Compression::zstd}) {
    const std::string root = scratch_.folder(std::to_string(static_cast<int>(compression)));
    const auto unpacked =
        unpack_bytes(compress(tar, compression), compression, root, sha256_digest(tar));
    ASSERT_TRUE(unpacked) << unpacked.error().message;
    EXPECT_EQ(unpacked->diff_id, sha256_digest(tar));
    if (first.empty()) first = list_tree(root);
    EXPECT_EQ(list_tree(root), first);
  }
  EXPECT_EQ(first.size(), 3u);
}

TEST_F(Unpack, TheMediaTypeAloneChoosesTheDecompressor) {
  const std::string tar = make_tar({file("a", "x")});
  EXPECT_FALSE(unpack_bytes(tar, Compression::gzip, root_));
  EXPECT_FALSE(unpack_bytes(compress(tar, Compression::zstd), Compression::gzip, root_));
  EXPECT_FALSE(unpack_bytes(compress(tar, Compression::gzip), Compression::none, root_));
}

TEST_F(Unpack, AWrongDiffIdIsCorrupt) {
  const std::string tar = make_tar({file("a", "x")});
  const auto unpacked = unpack_bytes(tar, Compression::none, root_, sha256_digest("other"));
  ASSERT_FALSE(unpacked);
  EXPECT_EQ(unpacked.error().kind, Error::Kind::corrupt);
}

TEST_F(Unpack, BytesAfterTheEndOfTheArchiveCountForTheDiffId) {
  const std::string tar = make_tar({file("a", "x")}) + std::string(200'000, '\0') + "tail";
  EXPECT_TRUE(unpack_bytes(tar, Compression::none, root_, sha256_digest(tar)));
}

TEST_F(Unpack, ATruncatedLayerIsCorrupt) {
  const std::string tar = make_tar({file("a", std::string(100'000, 'x'))});
  for (const Compression compression : {Compression::none, Compression::gzip, Compression::zstd}) {
    const std::string bytes = compress(tar, compression);
    const auto unpacked = unpack_bytes(bytes.substr(0, bytes.size() / 2), compression, root_);
    ASSERT_FALSE(unpacked) << static_cast<int>(compression);
    EXPECT_EQ(unpacked.error().kind, Error::Kind::corrupt) << unpacked.error().message;
  }
}

TEST_F(Unpack, NothingLeadsOutOfTheRoot) {
  expect_refused({file("../outside/x", "x")});
  expect_refused({file("a/../../outside/x", "x")});
  expect_refused({file("/../outside/x", "x")});
  expect_refused({directory("..")});
  expect_refused({symlink("out", "../outside"), file("out/x", "x")});
  expect_refused({symlink("out", "/"), directory("out/tmp/x")});
  expect_refused({symlink("a", "b"), symlink("b", "../outside"), file("a/x", "x")});
  expect_refused({directory("d"), symlink("d/up", ".."), file("d/up/../outside/x", "x")});
  expect_refused({symlink("out", "../outside"), file("out/.wh.x", "")});
  expect_refused({symlink("out", "../outside"), file("out/.wh..wh..opq", "")});
  expect_refused({symlink("out", "../outside"), symlink("out/x", "y")});
  expect_refused({symlink("out", "../outside"), file("f", "x"), hard_link("out/x", "f")});
}

TEST_F(Unpack, HardLinksStayInsideTheLayer) {
  expect_refused({hard_link("x", "../outside")});
  expect_refused({hard_link("x", "/etc/passwd")});
  expect_refused({hard_link("x", "missing")});
  expect_refused({hard_link("x", "x")});
  expect_refused({hard_link("x", ".")});
  expect_refused({directory("d"), hard_link("x", "d")});
  expect_refused({symlink("out", "../outside"), hard_link("x", "out/y")});
  expect_refused({file(".wh.gone", ""), hard_link("x", "gone")});
  const auto unpacked = unpack_items(
      {symlink("s", "/etc/passwd"), hard_link("h", "s"), file("f", "1"), hard_link("f", "f")},
      root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(list_tree(root_)["h"], "symlink /etc/passwd") << "the link itself, not its target";
  EXPECT_EQ(list_tree(root_)["f"], "file 644 0:0 1");
}

TEST_F(Unpack, AFileCannotBeADirectoryForOthers) {
  expect_refused({file("f", ""), file("f/x", "x")});
  expect_refused({file(".", "x")});
  expect_refused({symlink("s", "")});
}

TEST_F(Unpack, DevicesAndFifosAreSkippedAndCounted) {
  Item device{"dev/zero", Item::Type::character_device};
  Item fifo{"run/pipe", Item::Type::fifo};
  const auto unpacked = unpack_items({device, fifo, file("a", "x")}, root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(unpacked->skipped, 2);
  EXPECT_EQ(unpacked->whiteouts, 0) << "a device 0:0 in the archive is no whiteout";
  EXPECT_EQ(list_tree(root_).size(), 2u);
}

TEST_F(Unpack, WhiteoutsTakeTheFormOfOverlayfs) {
  const auto unpacked = unpack_items(
      {directory("d"), file("d/.wh.gone", ""), file(".wh.top", ""), directory("all"),
       file("all/.wh.useless", ""), file("all/.wh..wh..opq", ""), file("all/new", "n"),
       file("all/.wh.later", ""), file(".wh..wh.plnk", ""), file(".wh..wh.aufs/x", "")},
      root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(list_tree(root_), (Listing{{"", "directory 755 0:0"},
                                       {"d", "directory 755 0:0"},
                                       {"d/gone", "whiteout"},
                                       {"top", "whiteout"},
                                       {"all", "directory 755 0:0 opaque"},
                                       {"all/new", "file 644 0:0 n"}}));
  EXPECT_EQ(unpacked->whiteouts, 5);
  EXPECT_EQ(unpacked->skipped, 2);
}

TEST_F(Unpack, AWhiteoutHidesOnlyWhatLowerLayersHave) {
  const auto unpacked =
      unpack_items({file("kept", "k"), file(".wh.kept", ""), file(".wh.again", ""),
                    file("again", "a"), directory("d"), file("d/x", "x"), file(".wh.d", ""),
                    file(".wh.e", ""), directory("e"), file(".wh.f", ""), file("f/x", "x")},
                   root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(list_tree(root_), (Listing{{"", "directory 755 0:0"},
                                       {"kept", "file 644 0:0 k"},
                                       {"again", "file 644 0:0 a"},
                                       {"d", "directory 755 0:0 opaque"},
                                       {"d/x", "file 644 0:0 x"},
                                       {"e", "directory 755 0:0 opaque"},
                                       {"f", "directory 755 0:0 opaque"},
                                       {"f/x", "file 644 0:0 x"}}));
}

TEST_F(Unpack, AWhiteoutNamesSomething) {
  expect_refused({file(".wh.", "")});
  expect_refused({file(".wh..", "")});
  expect_refused({file(".wh...", "")});
}

TEST_F(Unpack, AttributesOfOverlayfsCannotBeBroughtAlong) {
  Item hostile = directory("d");
  hostile.attributes = {{"trusted.overlay.opaque", "y"},
                        {"trusted.overlay.redirect", "/etc"},
                        {"security.selinux", "x"}};
  ASSERT_TRUE(unpack_items({hostile}, root_));
  char names[256];
  EXPECT_EQ(listxattr((root_ + "/d").c_str(), names, sizeof names), 0);
}

TEST_F(Unpack, ALaterEntryReplacesAnEarlierOne) {
  const auto unpacked = unpack_items(
      {file("a", "old"), file("a", "new"), directory("b"), file("b/x/y", ""),
       file("b", "now a file"), symlink("c", "/etc"), directory("c"), file("c/x", "x")},
      root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  EXPECT_EQ(list_tree(root_), (Listing{{"", "directory 755 0:0"},
                                       {"a", "file 644 0:0 new"},
                                       {"b", "file 644 0:0 now a file"},
                                       {"c", "directory 755 0:0"},
                                       {"c/x", "file 644 0:0 x"}}));
}

TEST_F(Unpack, AReplacedDirectoryIsNotWrittenToAnyMore) {
  // The writer remembers the directory of the last entry; it must forget it here.
  const auto unpacked = unpack_items(
      {file("a/b/x", "1"), file("a", "file"), directory("a"), file("a/b/y", "2")}, root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  const Listing listing = list_tree(root_);
  EXPECT_FALSE(listing.contains("a/b/x"));
  EXPECT_TRUE(listing.contains("a/b/y"));
}

TEST_F(Unpack, CountsAndSizesAreBounded) {
  UnpackLimits limits;
  limits.entries = 3;
  expect_refused({file("a", ""), file("b", ""), file("c", ""), file("d", "")}, limits,
                 Error::Kind::invalid);
  limits = {};
  limits.bytes = 50'000;
  expect_refused({file("a", std::string(60'000, 'x'))}, limits, Error::Kind::invalid);
  limits = {};
  limits.depth = 4;
  expect_refused({file("a/b/c/d/e", "")}, limits);
  limits = {};
  limits.path_bytes = 100;
  expect_refused({file("a/" + std::string(99, 'x'), "")}, limits);
  expect_refused({symlink("a", std::string(101, 'x'))}, limits);
  expect_refused({file(std::string(256, 'x'), "")});
  limits = {};
  limits.attributes = 2;
  limits.attribute_bytes = 10;
  Item item = file("a", "");
  item.attributes = {{"user.a", "1"}, {"user.b", "1"}, {"user.c", "1"}};
  expect_refused({item}, limits);
  item.attributes = {{"user.a", std::string(11, 'x')}};
  expect_refused({item}, limits);
}

TEST_F(Unpack, WhatHasNoContentIsCountedToo) {
  std::vector<Item> items;
  for (int i = 0; i < 1000; ++i) items.push_back(file("empty" + std::to_string(i), ""));
  Item noted = file("noted", "");
  noted.attributes = {{"user.note", std::string(1000, 'x')}};
  items.push_back(noted);
  items.push_back(hard_link("again", "noted"));
  for (int i = 0; i < 100; ++i) items.push_back(file(".wh.gone" + std::to_string(i), ""));
  const auto unpacked = unpack_items(items, root_);
  ASSERT_TRUE(unpacked) << unpacked.error().message;
  // 1101 of them, an attribute, and some 17 KB of names.
  EXPECT_GE(unpacked->bytes, (1101 + 1 + 4) * 4096);
  EXPECT_LE(unpacked->bytes, (1101 + 1 + 5) * 4096);
}

TEST_F(Unpack, AnAttributeTooLargeForTheFileSystemIsNoFullDisk) {
  Item item = file("a", "x");
  for (const char* name : {"user.a", "user.b"})
    item.attributes.push_back({name, std::string(60'000, 'x')});
  const auto unpacked = unpack_items({item}, root_);
  if (unpacked) return;  // tmpfs and XFS take them: no full disk either
  EXPECT_EQ(unpacked.error().kind, Error::Kind::corrupt) << unpacked.error().message;
}

TEST_F(Unpack, ABombIsStoppedByItsRatio) {
  UnpackLimits limits;
  limits.ratio_from = 1 << 20;
  const std::string tar = make_tar({file("zeros", std::string(16 << 20, '\0'))});
  const auto unpacked =
      unpack_bytes(compress(tar, Compression::zstd), Compression::zstd, root_, "", limits);
  ASSERT_FALSE(unpacked);
  EXPECT_EQ(unpacked.error().kind, Error::Kind::corrupt);
  EXPECT_NE(unpacked.error().message.find("times"), std::string::npos) << unpacked.error().message;
  const auto about = list_tree(root_);
  EXPECT_LT(about.count("zeros") ? std::filesystem::file_size(root_ + "/zeros") : 0, 8u << 20);
}

TEST_F(Unpack, AStopRequestEndsIt) {
  std::stop_source stop;
  stop.request_stop();
  const std::string tar = make_tar({file("a", "x")});
  const File blob(memfd_create("blob", MFD_CLOEXEC));
  ASSERT_EQ(write(blob.get(), tar.data(), tar.size()), static_cast<ssize_t>(tar.size()));
  const File directory(open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto unpacked =
      unpack_layer(blob.get(), Compression::none, directory.get(), "", {}, stop.get_token());
  ASSERT_FALSE(unpacked);
  EXPECT_EQ(unpacked.error().kind, Error::Kind::unavailable);
}

TEST_F(Unpack, AnEmptyArchiveIsAnEmptyLayer) {
  EXPECT_TRUE(unpack_items({}, root_));
  EXPECT_EQ(list_tree(root_).size(), 1u);
}

}  // namespace
}  // namespace chalk::images
