#include "adapters/log/event_log.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace chalk::log {
namespace {

using Kind = LogError::Kind;

struct Folder {
  std::string path = testing::TempDir() + "event_log_" + std::to_string(getpid());
  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file() const { return path + "/log.db"; }
};
std::vector<std::string> all(EventLog& log, std::uint64_t from = 1) {
  std::vector<std::string> out;
  std::uint64_t expected = from;
  log.read(from, [&](std::uint64_t index, std::string_view bytes) {
    EXPECT_EQ(index, expected++);
    out.emplace_back(bytes);
  });
  return out;
}
template <class Work>
Kind kind_of(Work&& work) {
  try {
    work();
  } catch (const LogError& error) {
    return error.kind();
  }
  ADD_FAILURE() << "no error";
  return {};
}
using Batch = std::vector<std::string>;

TEST(EventLog, GivesBackWhatWasAppendedAlsoAfterItWasOpenedAgain) {
  Folder folder;
  {
    EventLog log(folder.file(), 1);
    EXPECT_EQ(log.next(), 1u);
    log.append(1, Batch{"a", std::string("b\0c", 3)});
    log.append(3, Batch{""});
  }
  EventLog log(folder.file(), 1);
  EXPECT_EQ(log.next(), 4u);
  EXPECT_EQ(all(log), (Batch{"a", std::string("b\0c", 3), ""}));
  EXPECT_EQ(all(log, 3), (Batch{""}));
}

TEST(EventLog, ItsFilesAreTheirOwnersOnlyWhateverTheUmaskAndWhateverTheyWere) {
  Folder folder;
  const std::string file = folder.file();
  const std::vector<std::string> files{file, file + "-wal", file + "-shm"};
  const auto mode_of = [](const std::string& path) {
    struct stat found {};
    return stat(path.c_str(), &found) == 0 ? found.st_mode & 07777 : 0;
  };
  const mode_t before = umask(0);
  EventLog log(file, 1);
  umask(before);
  log.append(1, Batch{"a secret"});
  for (const std::string& one : files) EXPECT_EQ(mode_of(one), 0600u) << one;
  // As an older version left them when it was killed.
  for (const std::string& one : files) chmod(one.c_str(), 0644);
  EventLog again(file, 1);
  for (const std::string& one : files) EXPECT_EQ(mode_of(one), 0600u) << one;
  again.append(2, Batch{"another"});
  EXPECT_EQ(kind_of([&] { log.append(2, Batch{"late"}); }), Kind::conflict);
}

TEST(EventLog, RefusesASecondWriterOnceTheFirstHasAppended) {
  Folder folder;
  EventLog first(folder.file(), 1), second(folder.file(), 1);
  first.append(1, Batch{"of the first"});
  EXPECT_EQ(kind_of([&] { second.append(1, Batch{"of the second", "more"}); }), Kind::conflict);
  EXPECT_EQ(kind_of([&] { first.append(1, Batch{"again"}); }), Kind::conflict);
  EXPECT_EQ(all(second), (Batch{"of the first"}));
}

TEST(EventLog, TrimsOnlyWhatASnapshotCovers) {
  Folder folder;
  EventLog log(folder.file(), 1);
  log.append(1, Batch{"a", "b", "c"});
  log.trim(3);
  EXPECT_EQ(log.first(), 1u);
  log.put_snapshot(3, "state before c");
  log.trim(10);
  EXPECT_EQ(log.first(), 3u);
  EXPECT_EQ(all(log, 3), (Batch{"c"}));
  EXPECT_EQ(kind_of([&] { all(log, 1); }), Kind::format);
  log.put_snapshot(4, "state at the end");
  log.trim(4);
  EventLog again(folder.file(), 1);
  EXPECT_EQ(again.first(), 4u);
  EXPECT_EQ(again.next(), 4u);
  EXPECT_EQ(again.newest_snapshot()->bytes, "state at the end");
  again.append(4, Batch{"d"});
}

TEST(EventLog, RefusesALogOfOtherMachinesAndFilesThatAreNone) {
  Folder folder;
  { EventLog log(folder.file(), 1); }
  EXPECT_EQ(kind_of([&] { EventLog log(folder.file(), 2); }), Kind::format);
  std::ofstream(folder.path + "/text") << std::string(10'000, 'x');
  EXPECT_EQ(kind_of([&] { EventLog log(folder.path + "/text", 1); }), Kind::format);
  EXPECT_EQ(kind_of([&] { EventLog log(folder.path + "/no/folder", 1); }), Kind::disk);
}

TEST(EventLog, RefusesALogWithAHole) {
  Folder folder;
  {
    EventLog log(folder.file(), 1);
    log.append(1, Batch{"a", "b", "c"});
  }
  ASSERT_EQ(std::system(("python3 -c \"import sqlite3; d = sqlite3.connect('" + folder.file() +
                         "'); d.execute('DELETE FROM records WHERE idx = 2'); d.commit()\"")
                            .c_str()),
            0);
  EXPECT_EQ(kind_of([&] { EventLog log(folder.file(), 1); }), Kind::format);
}

TEST(EventLog, LosesNothingWhenTheDiskIsFullAndGoesOnWhenThereIsRoom) {
  Folder folder;
  if (mount("chalk-test", folder.path.c_str(), "tmpfs", 0, "size=512k") != 0) {
    GTEST_SKIP() << "a small disk cannot be mounted here (needs root)";
  }
  {
    std::ofstream(folder.path + "/ballast") << std::string(128 << 10, 'x');
    EventLog log(folder.file(), 1);
    const Batch batch(4, std::string(1000, 'r'));
    std::uint64_t appended = 0;
    EXPECT_EQ(kind_of([&] {
                for (int i = 0; i < 1000; ++i) {
                  log.append(log.next(), batch);
                  appended += batch.size();
                }
              }),
              Kind::disk);
    EXPECT_GT(appended, 0u);
    EXPECT_EQ(log.next(), appended + 1);
    std::filesystem::remove(folder.path + "/ballast");
    log.append(log.next(), batch);
    EXPECT_EQ(all(log).size(), appended + 4);
  }
  EXPECT_EQ(umount(folder.path.c_str()), 0);
}

}  // namespace
}  // namespace chalk::log
