// In a program of GoogleTest each test says which places it passed.
#include <gtest/gtest.h>

#include <string>

#include "tests/mutation/reached.h"

namespace chalk_mutation {
namespace {

class Listener : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo& test) override {
    const std::string name = std::string(test.test_suite_name()) + "." + test.name();
    write_reached(name.c_str(), static_cast<long>(test.result()->elapsed_time()));
  }
};

const bool listens = [] {
  tests_report = true;
  testing::UnitTest::GetInstance()->listeners().Append(new Listener);
  return true;
}();

}  // namespace
}  // namespace chalk_mutation
