// How a command ends early: with a sentence for the user that says what to do next, and the exit
// status of the program. Thrown within the program only.
#pragma once
#include <exception>
#include <string>
#include <utility>

namespace chalk::cli {

constexpr int kTimedOut = 124;
constexpr int kFailed = 125;  // chalk itself failed
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kSignalled = 128;  // plus the signal's number

class Stop : public std::exception {
 public:
  explicit Stop(std::string message, int code = kFailed)
      : message_(std::move(message)), code_(code) {}
  const char* what() const noexcept override { return message_.c_str(); }
  int code() const { return code_; }

 private:
  std::string message_;  // empty: nothing to say
  int code_;
};

}  // namespace chalk::cli
