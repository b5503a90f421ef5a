// A whole server without a node: its data, its env file and its public port.
#include "adapters/server/server.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "adapters/log/event_log.h"
#include "adapters/process/child.h"
#include "model/protocol/log_record.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    fs::create_directories(folder_);
    options_.data = folder_ + "/data";
    options_.listen = "127.0.0.1:0";
    options_.env_file = folder_ + "/chalk.env";
  }
  ~ServerTest() override { fs::remove_all(folder_); }

  static unsigned mode_of(const std::string& path) {
    struct stat about {};
    return stat(path.c_str(), &about) == 0 ? about.st_mode & 07777 : 0;
  }
  // "ok\n200"
  static std::string health_of(const Server& server) {
    process::Spawn curl;
    curl.argv = {"curl", "--noproxy", "*", "-s", "-w", "%{http_code}", server.url() + "/healthz"};
    curl.env = process::current_environment();
    const auto done = process::run(curl, 60s);
    return done ? done->out : done.error().message;
  }
  void make_environment(const std::string& name) const {
    process::Spawn chalk;
    chalk.argv = {"sh", "-c", ". \"$0\"; exec \"$1\" admin env create \"$2\"", options_.env_file,
                  fs::read_symlink("/proc/self/exe").parent_path() / "chalk", name};
    chalk.env = process::current_environment();
    (void)process::run(chalk, 60s);
  }

  std::string folder_ = fs::temp_directory_path() / ("chalk-server-" + std::to_string(getpid()));
  ServerOptions options_;
};

TEST_F(ServerTest, KeepsItsDataAndTheCredentialsForItsUserEvenWhereTheyWereWider) {
  fs::create_directories(options_.data);
  chmod(options_.data.c_str(), 0777);
  std::ofstream(options_.env_file) << "of an earlier server\n";
  chmod(options_.env_file.c_str(), 0644);
  Server server(options_);
  ASSERT_TRUE(server.wait_ready(60));
  EXPECT_EQ(mode_of(options_.data), 0700u);
  EXPECT_EQ(mode_of(options_.env_file), 0600u);
  std::ifstream file(options_.env_file);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(text.starts_with("export CHALK_API_SERVER=" + server.url() + "\n")) << text;
}

TEST_F(ServerTest, IsTheOnlyOneOfItsData) {
  auto first = std::make_unique<Server>(options_);
  try {
    Server second(options_);
    FAIL() << "two servers write the same data";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("another chalk-server uses it"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(health_of(*first), "ok\n200");
  first.reset();
  const Server again(options_);
  EXPECT_EQ(health_of(again), "ok\n200");
}

// So that a balancer sends nobody to it any more, before its process has ended.
TEST_F(ServerTest, IsNotHealthyOnceAnotherHasTakenItsLog) {
  Server server(options_);
  ASSERT_TRUE(server.wait_ready(60));
  EXPECT_EQ(health_of(server), "ok\n200");
  // It is fenced when it writes next: for each environment, which is new to its log.
  const auto until = std::chrono::steady_clock::now() + 60s;
  for (int i = 0; !server.fenced() && std::chrono::steady_clock::now() < until; ++i) {
    try {
      log::EventLog other(options_.data + "/control.db",
                          static_cast<std::int64_t>(kLogicVersion));
      other.append(other.next(), std::vector<std::string>{"of the other"});
    } catch (const log::LogError&) {
      continue;  // the server has written between our look and our append
    }
    make_environment("e" + std::to_string(i));
    std::this_thread::sleep_for(50ms);
  }
  ASSERT_TRUE(server.fenced());
  EXPECT_EQ(health_of(server), "another server has taken over\n503");
}

}  // namespace
}  // namespace chalk::server
