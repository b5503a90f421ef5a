// Programs that are started, what they get, and how their ends are told.
#include "adapters/process/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace chalk::process {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Spawn shell(const std::string& script) {
  Spawn out;
  out.argv = {"/bin/sh", "-c", script};
  out.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  return out;
}

TEST(Run, GivesOutputErrorAndExitCode) {
  const auto ran = run(shell("cat; echo problem >&2; exit 42"), seconds(60), "input\n");
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out, "input\n");
  EXPECT_EQ(ran->err, "problem\n");
  EXPECT_EQ(ran->status.exit_code, 42);
  EXPECT_EQ(ran->status.signal, 0);
}

TEST(Run, TellsASignalFromAnExitCode) {
  const auto ran = run(shell("kill -TERM $$"), seconds(60));
  ASSERT_TRUE(ran);
  EXPECT_EQ(ran->status.signal, SIGTERM);
}

TEST(Run, CarriesMoreThanAPipeHolds) {
  const std::string big(3 << 20, 'x');
  const auto ran = run(shell("cat"), seconds(60), big, 8 << 20);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out, big);
  // One that reads nothing of its input does not make us hang or die of SIGPIPE.
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, nullptr);
  const auto deaf = run(shell("exit 3"), seconds(60), big);
  ASSERT_TRUE(deaf) << deaf.error().message;
  EXPECT_EQ(deaf->status.exit_code, 3);
}

TEST(Run, KillsTheWholeGroupAtTheTimeout) {
  const auto folder = std::filesystem::temp_directory_path() / ("pr" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const auto ran = run(shell("sleep 1000 & echo $! >" + (folder / "pid").string() + "; wait"),
                       milliseconds(1500));
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind, Error::Kind::timeout);
  EXPECT_NE(ran.error().message.find("/bin/sh"), std::string::npos) << ran.error().message;
  pid_t grandchild = 0;
  std::ifstream(folder / "pid") >> grandchild;
  std::filesystem::remove_all(folder);
  ASSERT_GT(grandchild, 0);
  const auto gone = [&] {  // or a zombie, where nobody takes orphans
    std::ifstream in("/proc/" + std::to_string(grandchild) + "/stat");
    std::string pid, name, state;
    return !(in >> pid >> name >> state) || state == "Z";
  };
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (!gone() && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_TRUE(gone());
}

TEST(Run, IsNotHeldByAnOrphanThatKeepsItsOutput) {
  const auto begun = std::chrono::steady_clock::now();
  const auto ran = run(shell("sleep 200 & echo $!; echo problem >&2; exit 5"), seconds(300));
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(60));
  EXPECT_EQ(ran->status.exit_code, 5);
  EXPECT_EQ(ran->err, "problem\n");
  const pid_t orphan = std::atoi(ran->out.c_str());
  ASSERT_GT(orphan, 0);
  EXPECT_EQ(kill(orphan, 0), 0) << "what it left behind is not ours to end";
  kill(orphan, SIGKILL);
}

TEST(Run, TakesWhatIsWrittenSoonAfterItsEnd) {
  const std::string big(3 << 20, 'x');
  const auto ran = run(shell("(sleep 0.1; echo late) & cat"), seconds(60), big, 8 << 20);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out, big + "late\n");
}

TEST(Run, IsNotHeldByAnOrphanThatWritesForEver) {
  const auto ran = run(shell("(while sleep 0.01; do echo more || exit; done) & exit 0"), seconds(300));
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->status.exit_code, 0);
}

TEST(Run, StopsOneThatWritesTooMuch) {
  const auto ran = run(shell("while true; do echo much; done"), seconds(60), {}, 10'000);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind, Error::Kind::exhausted);
}

TEST(Run, SaysWhatIsMissing) {
  Spawn missing;
  missing.argv = {"/no/such/program"};
  const auto ran = run(missing, seconds(60));
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().kind, Error::Kind::not_found);
  Spawn nowhere = shell("true");
  nowhere.cwd = "/no/such/folder";
  const auto lost = run(nowhere, seconds(60));
  ASSERT_FALSE(lost);
  EXPECT_NE(lost.error().message.find("/no/such/folder"), std::string::npos);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "what could not begin is no zombie";
  EXPECT_FALSE(run(Spawn{}, seconds(60)));
}

TEST(Spawned, InheritsNothingThatWasNotNamed) {
  setenv("CHALK_SECRET", "1", 1);
  const int leaky = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 40);  // without close-on-exec
  ASSERT_GE(leaky, 40);
  const Fd passed(open("/etc/hostname", O_RDONLY | O_CLOEXEC));
  Spawn what = shell(
      "ls /proc/self/fd | tr '\\n' ' '; env | grep -c CHALK; pwd; "
      "[ $(ps -o sid= -p $$) = $$ ] && echo a session of its own");
  what.cwd = "/usr";
  what.passed = {{passed.get(), 7}};
  const auto ran = run(what, seconds(60));
  close(leaky);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out.find("0 1 2 3 7 0\n"), 0u) << ran->out;  // 3 is of ls itself
  EXPECT_NE(ran->out.find("/usr\n"), std::string::npos) << ran->out;
  EXPECT_NE(ran->out.find("a session of its own\n"), std::string::npos) << ran->out;
  what.passed = {{passed.get(), 100}};
  EXPECT_EQ(run(what, seconds(60)).error().kind, Error::Kind::invalid);
}

TEST(Spawned, GetsTheDescriptorsInTheNumbersAskedEvenWhenTheyOverlap) {
  auto first = make_pipe(), second = make_pipe();
  ASSERT_TRUE(first && second);
  Spawn what = shell("echo to-three >&3; echo to-four >&4");
  // Ours are likely 3 to 6 themselves.
  what.passed = {{first->write.get(), 4}, {second->write.get(), 3}};
  auto child = spawn(what);
  ASSERT_TRUE(child) << child.error().message;
  ASSERT_TRUE(wait(*child, seconds(60)));
  char text[64];
  EXPECT_EQ(std::string(text, read(first->read.get(), text, sizeof text)), "to-four\n");
  EXPECT_EQ(std::string(text, read(second->read.get(), text, sizeof text)), "to-three\n");
}

TEST(Spawned, HasDefaultSignalsWhateverWeIgnoreOrBlock) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  signal(SIGUSR1, SIG_IGN);
  const auto ran = run(shell("(kill -TERM $(sh -c 'echo $PPID'); sleep 60); echo $?; "
                             "(kill -USR1 $(sh -c 'echo $PPID'); sleep 60); echo $?"),
                       seconds(30));
  signal(SIGUSR1, SIG_DFL);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out, "143\n138\n");
}

TEST(Spawned, GetsAControllingTerminal) {
  int ours = -1, theirs = -1;
  ASSERT_EQ(openpty(&ours, &theirs, nullptr, nullptr, nullptr), 0);
  const Fd master(ours);
  Fd slave(theirs);
  Spawn what = shell("stty -echo; echo ready; exec cat");
  what.input = what.output = what.error = slave.get();
  what.controlling_terminal = true;
  auto child = spawn(what);
  ASSERT_TRUE(child) << child.error().message;
  std::string seen;
  const auto until = [&](const std::string& word) {
    char text[64];
    while (seen.find(word) == std::string::npos) {
      const ssize_t size = read(master.get(), text, sizeof text);
      ASSERT_GT(size, 0) << seen;
      seen.append(text, static_cast<std::size_t>(size));
    }
  };
  until("ready");
  ASSERT_EQ(write(master.get(), "answer\n", 7), 7);
  until("answer");  // cat runs: the shell before it would take the key's signal along
  ASSERT_EQ(write(master.get(), "\x03", 1), 1);
  const auto status = wait(*child, seconds(60));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->signal, SIGINT);
}

TEST(Spawned, EntersANetworkNamespace) {
  if (getuid() != 0) GTEST_SKIP() << "namespaces need root";
  // One that a child holds open, with a loopback only.
  Spawn holder;
  holder.argv = {"unshare", "-n", "sleep", "1000"};
  holder.env = current_environment();
  auto held = spawn(holder);
  ASSERT_TRUE(held) << held.error().message;
  const std::string path = "/proc/" + std::to_string(held->pid) + "/ns/net";
  const auto space = [](const std::string& of) {
    std::error_code error;
    return std::filesystem::read_symlink(of, error).string();
  };
  const std::string mine = space("/proc/self/ns/net");
  const auto until = std::chrono::steady_clock::now() + seconds(30);
  while (space(path) == mine && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  Spawn what = shell("readlink /proc/self/ns/net");
  what.network_namespace = path;
  const auto ran = run(what, seconds(60));
  const std::string theirs = space(path);
  kill(held->pid, SIGKILL);
  wait(*held, seconds(30));
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_EQ(ran->out, theirs + "\n");
  EXPECT_NE(theirs, mine);
  EXPECT_EQ(space("/proc/self/ns/net"), mine) << "we stay where we are";
}

TEST(Spawned, FromManyThreadsAtOnceEachGetsItsOwn) {
  std::vector<std::thread> threads;
  std::vector<std::string> said(8);
  for (std::size_t i = 0; i < said.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int turn = 0; turn < 10; ++turn) {
        const auto ran =
            run(shell("cat; exit " + std::to_string(i)), seconds(60), std::to_string(i * 100));
        if (!ran || ran->out != std::to_string(i * 100) ||
            ran->status.exit_code != static_cast<int>(i)) {
          said[i] = ran ? ran->out : ran.error().message;
        }
      }
    });
  }
  for (std::thread& one : threads) one.join();
  for (const std::string& one : said) EXPECT_EQ(one, "");
}

}  // namespace
}  // namespace chalk::process
