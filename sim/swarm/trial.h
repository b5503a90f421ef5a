// Runs scenarios that may fail, each in a process of its own, and names what breaks.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace chalk::sim {

// A property that a run does not have. Two failures are the same when `kind` is.
struct Failure {
  std::string kind;  // "invariant 3: request # got sandbox # ...", "no end", "two digests", ...
  std::string what;  // for a person
};

struct Trial {
  std::string name;  // of the file that the text is or will be
  std::string text;  // a scenario
  // Also that one seed gives one digest: twice, the second time with every machine rebuilt from its
  // bytes before every event. Takes some ten times as long.
  bool digests = false;
  unsigned seconds_max = 60;  // of a processor; beyond them there is "no end"
};
struct TrialResult {
  std::optional<Failure> failure;
  bool readable = true;  // false: the text is no scenario; `failure` then says why, kind "text"
  std::uint64_t events = 0;
};

// This process is killed once it has used so many seconds of a processor: on a busy machine the
// clock says nothing. By the clock after twenty times as many, where it waits for something instead.
void end_after(unsigned seconds);

// Every checker at every step of control; arrivals, faults and seed are those of the text. What
// fails:
//   an invariant that the checkers watch; a condition of `assert`; the process stopping (an
//   invariant of a machine, a fault of memory); no end; an exception; a second digest.
// At most `parallel` processes at a time; `finished` is told as each ends.
std::vector<TrialResult> try_all(const std::vector<Trial>& trials, unsigned parallel,
                                 const std::function<void(std::size_t)>& finished = {});

}  // namespace chalk::sim
