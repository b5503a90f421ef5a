// Runs simulations in processes of their own, several at a time: SimGrid's engine is one per
// process, a crash must not take the others along, and each core can have one. In: bodies that
// return bytes. Out: those bytes in the order of the bodies, or what went wrong.
// Call it from a process with one thread and no living ResourceModel that has started anything.
// SIGINT and SIGTERM that reach the parent alone are passed on to the children, whose handlers are
// the parent's: a body that ends early and returns what it has still delivers it. Bodies that did
// not start yet are not started any more. Children die with their parent.
#pragma once
#include <expected>
#include <functional>
#include <string>
#include <vector>

namespace chalk::sim {

using IsolatedBody = std::function<std::string()>;
using IsolatedResult = std::expected<std::string, std::string>;

IsolatedResult run_isolated(const IsolatedBody& body);
// At most `parallel` at a time; 0 means one per core. `finished` is told the index of each body as
// it ends, and what came of it.
std::vector<IsolatedResult> run_isolated_all(
    const std::vector<IsolatedBody>& bodies, unsigned parallel = 0,
    const std::function<void(std::size_t, const IsolatedResult&)>& finished = {});

}  // namespace chalk::sim
