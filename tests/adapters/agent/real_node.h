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
  static node::v1::SandboxNote note(const std::string& bytes);
  // Runs a command in it by a channel and answers its standard output.
  std::string run(std::uint64_t number, const std::vector<std::string>& argv, int* exit_code = {},
                  const std::string& input = {});

  static std::string skip_;  // why not; empty: it can run
  static std::string registry_;
  std::string folder_, prefix_, pool_;
  std::vector<std::string> extra_;  // options of chalk-node
  std::unique_ptr<ControlDouble> control_;
  process::Child node_;

 private:
  void clean_machine();
};

inline constexpr const char* kBusybox = "library/busybox:latest";
inline constexpr const char* kPython = "library/python:3.12-slim-bookworm";

}  // namespace chalk::agent
