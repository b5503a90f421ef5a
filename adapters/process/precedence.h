// The kernel's favour: what serves sandboxes goes before them. A hundred busy sandboxes then neither
// delay an order, a heartbeat or a stop, nor have the agent killed where the host runs out of memory,
// nor take the descriptors that it needs to end them: it may have as many as the hard limit says.
#pragma once
#include <string>

namespace chalk::process {

constexpr int kServingNice = -10;          // setpriority(2)
constexpr int kServingOomScoreAdj = -998;  // proc_pid_oom_score_adj(5); kubelet's is -999

// For this thread and those that it makes: call it before any other begins. spawn() gives children
// what this process had before. An operator who chose a priority (systemd's Nice=) keeps it.
// Returns what could not be had and why, empty when all was.
std::string take_precedence();

// In a child between its fork and its program, where nothing may allocate: back to what the parent
// had before take_precedence(). False where the kernel refuses, with errno.
bool give_up_precedence();
// The same of how many descriptors there may be, as the last before the program: until then the child
// has all of its parent's, and could open none beyond the usual number.
bool give_back_descriptors();

}  // namespace chalk::process
