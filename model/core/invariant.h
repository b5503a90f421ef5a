// A broken invariant stops the process, in every build: a machine that lies is worse than none.
#pragma once
#include <cstdio>
#include <cstdlib>

namespace chalk {

[[noreturn]] inline void stop_on_broken_invariant(const char* rule, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, rule);
  std::abort();
}

}  // namespace chalk

#define CHALK_INVARIANT(rule)                                                                  \
  (__builtin_expect(!(rule), 0) ? ::chalk::stop_on_broken_invariant(#rule, __FILE__, __LINE__) \
                                : void())
