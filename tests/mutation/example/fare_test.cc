// The test that the self-test runs under each mutant: it notices all but what nothing tests.
#include "tests/mutation/example/fare.h"

int main() {
  const bool right = fare::price({0, false}) == 0 && fare::price({1, false}) == 30 &&
                     fare::price({10, true}) == 300 && fare::price({11, true}) == 530 &&
                     fare::price({11, false}) == 330 && fare::total({{1, false}, {2, false}}, 80) == 80 &&
                     fare::total({{1, false}, {2, false}}, 100) == 90;
  return right ? 0 : 1;
}
