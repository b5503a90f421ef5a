// A chalk-node of its own process against a ControlDouble, with images of a local registry: what the
// tests of the whole agent start from. Skips, with the reason, where this machine cannot run it.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "adapters/images/image.h"
#include "adapters/process/child.h"
#include "control_double.h"

namespace chalk::agent {

class RealNode : public testing::Test {
 protected:
  static void SetUpTestSuite();     // the registry
  static void TearDownTestSuite();
  void SetUp() override;
  void TearDown() override;

  void start_node();
  void stop_node(int signal);  // and waits for its end

  // An order for the image; `shape` completes the payload.
  StartOrder order(std::uint64_t number, const std::string& image,
                   const std::vector<std::string>& argv);
  static node::v1::SandboxPayload payload(const StartOrder& order);
  node::v1::SandboxNote started(std::uint64_t number);  // waits for the report; empty on failure
  EndedReport ended(std::uint64_t number);
  RestartedReport restarted(std::uint64_t number, std::uint32_t count, bool running);
  static node::v1::SandboxNote note(const std::string& bytes);
  static node::v1::SandboxNote note_of(const EndedReport& end) { return note(end.note); }
  // Runs a command in it by a channel and answers its standard output.
  std::string run(std::uint64_t number, const std::vector<std::string>& argv, int* exit_code = {},
                  const std::string& input = {});
  // The same, tried again while the node comes back.
  std::string run_soon(std::uint64_t number, const std::vector<std::string>& argv,
                       int* exit_code);
  std::string guest(std::uint64_t number, const std::vector<std::string>& arguments,
                    int* exit_code = {}, const std::string& input = {});
  // What its main process wrote to both streams; with follow until its end.
  std::string logs(std::uint64_t number, bool follow, std::uint64_t tail = 0);
  bool logs_kept(std::uint64_t number);
  void await_log(std::uint64_t number, const std::string& word);
  static int http_status(const std::string& url);  // 0: no answer

  static std::string skip_;  // why not; empty: it can run
  static std::string registry_;
  std::string folder_, prefix_, pool_;
  bool join_by_fingerprint_ = false;
  std::vector<std::string> more_flags_;  // of chalk-node
  std::unique_ptr<ControlDouble> control_;
  process::Child node_;

  static bool has_guest();
  static std::string runsc_path();

 private:
  std::string work(const node::v1::Open& open, int* exit_code, const std::string& input);
  void clean_machine();
};

inline constexpr const char* kBusybox = "library/busybox:latest";
inline constexpr const char* kPython = "library/python:3.12-slim-bookworm";

}  // namespace chalk::agent
