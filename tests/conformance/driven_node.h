// A node's machine on an arm, driven by a test in the place of control.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/conformance/arm.h"

namespace chalk::conformance {

class DrivenNode {
 public:
  // With `twice` the arm is given every effect two times, as after a restart it may be.
  explicit DrivenNode(Arm& arm, bool twice = false);

  void order(NodeOrder order);
  void lose(NodeOrder order);  // sent, and lost on its way
  void send_lost_again();      // with what was sent since, as a link does
  // Goes on until the report comes; false when it does not.
  bool await(const std::function<bool()>& holds);
  bool await_started(std::uint64_t number);
  bool await_ended(std::uint64_t number);
  bool await_restarted(std::uint64_t number, std::uint32_t count, bool running);
  void go_on(Duration wait);  // for so long, whatever comes
  void restart_agent(const std::function<void()>& meanwhile = {});

  // ---- what was reported so far, and what was ordered of the arm
  std::size_t started(std::uint64_t number) const;
  std::vector<EndedReport> ended(std::uint64_t number) const;
  RestartedReport restarted(std::uint64_t number) const;  // the last; count 0: none
  std::size_t scrubbed() const;
  std::vector<RefusedReport> refused() const;
  std::size_t ordered(const std::string& effect) const;
  const node::Node& machine() const { return machine_; }
  std::string trail() const { return trail_; }  // for people

 private:
  bool pump(Time until);
  void step(const node::Event& event);

  Arm& arm_;
  const bool twice_;
  node::Config config_;
  node::Node machine_;
  Time wake_ = kNever;
  std::uint64_t sequence_ = 0;
  std::uint64_t lost_ = 0;              // from here on they are sent again
  std::vector<NodeOrder> orders_;       // all that were ever given
  std::uint64_t reported_ = 0;  // the highest number of a report so far
  std::vector<NodeReport> reports_;
  std::map<std::string, std::size_t> ordered_;
  std::string trail_;
};

}  // namespace chalk::conformance
