// A child process of a test: started with arguments and no input, ended by its own pid.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

namespace chalk::images::testing {

class Process {
 public:
  Process(const std::vector<std::string>& arguments, const std::string& output_file);
  ~Process();  // kills and waits
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  bool running();
  int wait();  // exit status
 private:
  pid_t pid_ = -1;
};

// A port of 127.0.0.1 that nobody listens on just now.
int free_port();
// The path of a program in PATH; empty if there is none.
std::string find_program(const std::string& name);

}  // namespace chalk::images::testing
