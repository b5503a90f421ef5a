// The one test with a real sandbox: gVisor's own network stack in a namespace of ours.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

#include "tests/adapters/network/world.h"
#include "tests/support/machine.h"

extern char** environ;

namespace chalk::network {
namespace {

using namespace world;

std::string find_busybox() {
  for (const char* path : {"/bin/busybox", "/usr/bin/busybox"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return "";
}

// Its exit status; output goes to the file.
int run(std::vector<std::string> words, const std::string& output) {
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child = -1;
  const int error =
      ::posix_spawn(&child, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = -1;
  if (error != 0 || ::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string bundle_of(const Endpoint& endpoint, const std::string& busybox,
                      const std::string& script) {
  const std::string bundle = "/run/bundle";  // of this program's own world
  std::filesystem::create_directories(bundle + "/rootfs/bin");
  std::filesystem::copy_file(busybox, bundle + "/rootfs/bin/busybox",
                             std::filesystem::copy_options::overwrite_existing);
  std::ofstream(bundle + "/config.json") << R"({"ociVersion":"1.0.0","root":{"path":"rootfs"},
    "process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["/bin/busybox","sh","-c",")" << script
      << R"("],"env":["PATH=/bin"]},"hostname":"one","mounts":[{"destination":"/proc","type":"proc",
    "source":"proc"}],"linux":{"namespaces":[{"type":"pid"},{"type":"ipc"},{"type":"uts"},
    {"type":"mount"},{"type":"network","path":")" << endpoint.namespace_path << R"("}]}})";
  return bundle;
}

TEST_F(InWorld, ARealSandboxHasTheAddressAndReachesTheInternetOnly) {
  const auto runsc = test::runsc();
  const auto busybox = find_busybox();
  if (!std::filesystem::exists(runsc)) GTEST_SKIP() << "no runsc; run ci/tools";
  if (busybox.empty()) GTEST_SKIP() << "no busybox (a static one) on this machine";
  const auto network = open(options());
  const auto one = network->acquire("one").value();
  const auto internet = listen_in(kInternet, kInternetAddress, 8080);
  const auto host = listen_in(kHost, "0.0.0.0", 8081);
  const std::string script =
      "busybox ip addr show dev eth0; echo to-the-internet | busybox nc -w 20 10.77.0.1 8080;"
      " echo to-the-host | busybox nc -w 2 10.250.0.2 8081; echo ended";
  const auto bundle = bundle_of(one, busybox, script);
  std::string heard;
  std::string seen;
  std::thread server([&] {
    const auto client = accept(internet, std::chrono::seconds(60), &seen);
    if (!client) return;
    heard = receive(client, 16);
    (void)send_all(client, "hello from the internet\n");
  });
  const int status = run({runsc, "--root=/run/runsc", "--platform=systrap", "--network=sandbox",
                          "--ignore-cgroups", "run", "-bundle=" + bundle, "one"},
                         "/run/output");
  server.join();
  const auto output = read_file("/run/output");
  EXPECT_EQ(status, 0) << output;
  EXPECT_NE(output.find("inet 10.200.0.2/16"), std::string::npos) << output;
  EXPECT_EQ(heard, "to-the-internet\n");
  EXPECT_EQ(seen, kHostAddress);
  EXPECT_NE(output.find("hello from the internet"), std::string::npos) << output;
  EXPECT_FALSE(accept(host, std::chrono::milliseconds(0)));
  const auto removed = network->remove();
  EXPECT_TRUE(removed) << removed.error().message;
}

}  // namespace
}  // namespace chalk::network
