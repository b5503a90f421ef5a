// A directory of this test alone, gone at its end.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace chalk::identity {

struct Scratch {
  Scratch() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path = std::filesystem::temp_directory_path() /
           ("chalk-identity-" + std::to_string(getpid()) + "-" + test->name());
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string at(const char* name) const { return (path / name).string(); }
  std::filesystem::path path;
};

// Permission bits of a file.
inline unsigned mode_of(const std::string& path) {
  return static_cast<unsigned>(std::filesystem::status(path).permissions()) & 07777u;
}

}  // namespace chalk::identity
