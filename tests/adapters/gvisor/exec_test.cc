// Processes that are begun in a sandbox that runs.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <set>

#include "tests/adapters/gvisor/sandbox_fixture.h"

namespace chalk::gvisor {
namespace {

TEST_F(RuntimeTest, ExecutesWithPipesExitCodesAndInput) {
  ASSERT_TRUE(runtime_->start(spec("a", "echo here >/mark; sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "cat; cat /mark; echo $COLOUR $MORE >&2; exit 42"};
  what.env = {"MORE=red"};
  auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_GT(exec->inner_pid, 1);
  ASSERT_EQ(write(exec->input.get(), "typed\n", 6), 6);
  exec->input.reset();
  EXPECT_EQ(read_all(exec->output.get()), "typed\nhere\n");
  EXPECT_EQ(read_all(exec->error.get()), "blue red\n");
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->exit_code, 42);

  what.argv = {"/no/such/command"};
  const auto missing = runtime_->exec("a", what, [](process::Status) { FAIL(); });
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind, Error::Kind::not_found) << missing.error().message;
  EXPECT_FALSE(runtime_->exec("nobody", what, [](process::Status) { FAIL(); }));
}

TEST_F(RuntimeTest, ADiskThatTakesNothingFailsTheCommandAndNothingElse) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  const std::string state = folder_ / "state";
  ASSERT_EQ(mount(state.c_str(), state.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(mount(nullptr, state.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  ExecSpec what;
  what.argv = {"/bin/true"};
  const auto refused = runtime_->exec("a", what, [](process::Status) { FAIL(); });
  EXPECT_EQ(umount2(state.c_str(), MNT_DETACH), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::exhausted) << refused.error().message;
  Later<process::Status> ended;
  EXPECT_TRUE(runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); }));
  EXPECT_TRUE(ended.get());
}

TEST_F(RuntimeTest, SignalsAnExecutedProcessAlone) {
  Later<Ended> box;
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [box](Ended e) { box.set(e); }));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sleep", "1000"};
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  ASSERT_TRUE(runtime_->signal("a", SIGTERM, exec->inner_pid));
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGTERM);
  EXPECT_EQ(box.times(), 0) << "the sandbox goes on";
  EXPECT_TRUE(runtime_->remove("a"));
  EXPECT_TRUE(box.get()) << "its end is told, however it came";
}

TEST_F(RuntimeTest, GivesATerminalWithAWindow) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/stty", "size"};
  what.terminal = Window{132, 43};
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_EQ(read_all(exec->output.get()), "43 132\r\n");
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->exit_code, 0);
}

TEST_F(RuntimeTest, ATerminalFollowsItsWindowAndItsKeys) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "trap 'stty size' WINCH; echo up; while true; do sleep 0.1; done"};
  what.terminal = Window{80, 24};
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  std::string text;
  const auto says = [&](const std::string& wanted) {
    char buffer[256];
    pollfd one{exec->output.get(), POLLIN, 0};
    while (text.find(wanted) == std::string::npos && poll(&one, 1, 60'000) > 0) {
      const ssize_t got = read(exec->output.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<std::size_t>(got));
    }
    return text.find(wanted) != std::string::npos;
  };
  ASSERT_TRUE(says("up\r\n")) << text;
  winsize size{};
  size.ws_col = 101;
  size.ws_row = 33;
  ASSERT_EQ(ioctl(exec->output.get(), TIOCSWINSZ, &size), 0);
  EXPECT_TRUE(says("33 101")) << text;
  ASSERT_EQ(write(exec->output.get(), "\x03", 1), 1);  // control-C
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGINT);
}

TEST_F(RuntimeTest, RunsAsTheUserAndInTheFolderThatWereAsked) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "id -u; id -g; pwd"};
  what.user = "1000:1001";
  what.cwd = "/etc";
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_EQ(read_all(exec->output.get()), "1000\n1001\n/etc\n");
  ASSERT_TRUE(ended.get());
}

TEST_F(RuntimeTest, TheEnvironmentOfAnExecWinsAndIsNotShownOnTheHost) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "env; read line"};
  what.env = {"COLOUR=green", "SECRET=dragon-" + name_, "LONG=" + std::string(200'000, 'x')};
  Later<process::Status> ended;
  auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream in(entry.path() / "cmdline", std::ios::binary);
    const std::string words{std::istreambuf_iterator<char>(in), {}};
    EXPECT_EQ(words.find("dragon-" + name_), std::string::npos) << words;
  }
  exec->input.reset();
  const std::string said = read_all(exec->output.get());
  EXPECT_NE(said.find("COLOUR=green\n"), std::string::npos);
  EXPECT_EQ(said.find("COLOUR=blue\n"), std::string::npos);
  EXPECT_NE(said.find("SECRET=dragon-"), std::string::npos);
  EXPECT_GT(said.size(), 200'000u);
  ASSERT_TRUE(ended.get());
  for (const char* bad : {"", "root", "1:", ":1", "-1", "1:2:3", "99999999999"}) {
    what.user = bad;
    const auto refused = runtime_->exec("a", what, [](process::Status) { FAIL(); });
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.error().kind, Error::Kind::invalid) << bad;
  }
}

TEST_F(RuntimeTest, SeveralProcessesRunAtOnce) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  struct One {
    Result<Exec> exec = fail(Error::Kind::failed, "not begun");
    Later<process::Status> ended;
  };
  std::vector<One> all(6);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < all.size(); ++i) {
    threads.emplace_back([&, i] {
      ExecSpec what;
      what.argv = {"/bin/sh", "-c", "read line; echo $line; exit " + std::to_string(i)};
      all[i].exec =
          runtime_->exec("a", what, [ended = all[i].ended](process::Status s) { ended.set(s); });
    });
  }
  for (std::thread& one : threads) one.join();
  std::set<pid_t> pids;
  for (std::size_t i = 0; i < all.size(); ++i) {  // all of them wait for their line
    ASSERT_TRUE(all[i].exec) << all[i].exec.error().message;
    pids.insert(all[i].exec->inner_pid);
    const std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(write(all[i].exec->input.get(), line.data(), line.size()),
              static_cast<ssize_t>(line.size()));
  }
  EXPECT_EQ(pids.size(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(read_all(all[i].exec->output.get()), "line " + std::to_string(i) + "\n");
    ASSERT_TRUE(all[i].ended.get());
    EXPECT_EQ(all[i].ended.get()->exit_code, static_cast<int>(i));
  }
}

TEST_F(RuntimeTest, AnExecEndsWithItsSandbox) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sleep", "1000"};
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  EXPECT_TRUE(runtime_->remove("a"));
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGKILL);
  EXPECT_EQ(read_all(exec->output.get()), "");
  EXPECT_EQ(read_all(exec->error.get()), "") << "nothing of runsc's own";
  EXPECT_EQ(runtime_->exec("a", what, [](process::Status) { FAIL(); }).error().kind,
            Error::Kind::not_found);
}

TEST_F(RuntimeTest, AnExecThatTakesAllMemoryIsKilledWithoutWordsOfRunsc) {
  SandboxSpec small = spec("a", "sleep 1000");
  small.memory_bytes = 128 << 20;
  Later<Ended> box;
  ASSERT_TRUE(runtime_->start(small, [box](Ended e) { box.set(e); }));
  Later<process::Status> ended;
  ExecSpec what;
  what.argv = {"/bin/sh", "-c", "echo mine >&2; head -c 1000000000 /dev/zero | tail"};
  const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
  ASSERT_TRUE(exec) << exec.error().message;
  ASSERT_TRUE(ended.get());
  EXPECT_EQ(ended.get()->signal, SIGKILL);
  EXPECT_EQ(read_all(exec->error.get()), "mine\n");
  ASSERT_TRUE(box.get());
  EXPECT_TRUE(box.get()->out_of_memory);
}

TEST_F(RuntimeTest, AnExitStatusThatRunscHasTooIsTheProcesss) {
  ASSERT_TRUE(runtime_->start(spec("a", "sleep 1000"), [](Ended) {}));
  for (const bool terminal : {false, true}) {
    Later<process::Status> ended;
    ExecSpec what;
    what.argv = {"/bin/sh", "-c", "echo words >&2; exit 128"};
    if (terminal) what.terminal = Window{};
    const auto exec = runtime_->exec("a", what, [ended](process::Status s) { ended.set(s); });
    ASSERT_TRUE(exec) << exec.error().message;
    EXPECT_EQ(read_all(terminal ? exec->output.get() : exec->error.get()),
              terminal ? "words\r\n" : "words\n");
    ASSERT_TRUE(ended.get());
    EXPECT_EQ(ended.get()->exit_code, 128);
    EXPECT_EQ(ended.get()->signal, 0);
  }
}

}  // namespace
}  // namespace chalk::gvisor
