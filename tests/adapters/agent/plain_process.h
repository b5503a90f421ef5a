// Processes of this machine in the place of sandboxed ones, for tests of sessions.
#pragma once
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "adapters/agent/process.h"

namespace chalk::agent {

// Starts commands and waits for each on a thread of its own; joined at the end.
class PlainProcesses {
 public:
  ~PlainProcesses() {
    for (std::thread& one : waiters_) one.join();
  }
  StartProcess source() {
    return [this](SandboxId, const Command& command, std::function<void(ProcessEnd)> ended) {
      return start(command, std::move(ended));
    };
  }

 private:
  // Of a test that runs in the background of a script SIGINT is ignored, and that is inherited.
  [[noreturn]] static void begin(const std::vector<char*>& argv) {
    for (const int number : {SIGINT, SIGQUIT}) signal(number, SIG_DFL);
    execv(argv[0], argv.data());
    _exit(127);
  }

  Result<Process> start(const Command& command, std::function<void(ProcessEnd)> ended) {
    if (access(command.argv.front().c_str(), X_OK) != 0) {
      return fail(Error::Kind::not_found, command.argv.front() + ": executable not found");
    }
    std::vector<char*> argv;
    for (const std::string& word : command.argv) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    Process process;
    std::array<int, 2> in{}, out{}, err{};
    pid_t pid;
    if (command.terminal) {
      winsize size{};
      size.ws_col = static_cast<unsigned short>(command.terminal->columns);
      size.ws_row = static_cast<unsigned short>(command.terminal->rows);
      int master = -1;
      pid = forkpty(&master, nullptr, nullptr, &size);
      if (pid == 0) {
        begin(argv);
      }
      process.input = process.output = master;
      process.resize = [master](Window window) -> Result<void> {
        winsize wanted{};
        wanted.ws_col = static_cast<unsigned short>(window.columns);
        wanted.ws_row = static_cast<unsigned short>(window.rows);
        ioctl(master, TIOCSWINSZ, &wanted);
        return {};
      };
    } else {
      if (pipe2(in.data(), O_CLOEXEC) != 0 || pipe2(out.data(), O_CLOEXEC) != 0 ||
          pipe2(err.data(), O_CLOEXEC) != 0) {
        return fail(Error::Kind::failed, "no pipes");
      }
      pid = fork();
      if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        begin(argv);
      }
      close(in[0]);
      close(out[1]);
      close(err[1]);
      process.input = in[1];
      process.output = out[0];
      process.error = err[0];
    }
    process.signal = [pid](int number) -> Result<void> {
      if (kill(pid, number) != 0) return fail(Error::Kind::not_found, "gone");
      return {};
    };
    waiters_.emplace_back([pid, ended = std::move(ended)] {
      int status = 0;
      waitpid(pid, &status, 0);
      ended(WIFSIGNALED(status) ? ProcessEnd{0, WTERMSIG(status)}
                                : ProcessEnd{WEXITSTATUS(status), 0});
    });
    return process;
  }

  std::vector<std::thread> waiters_;
};

}  // namespace chalk::agent
