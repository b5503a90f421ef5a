#include "model/scheduler/mix.h"

#include <algorithm>

namespace chalk::scheduler {

void Mix::learn(const Resources& ask) {
  auto at = std::find_if(kinds.begin(), kinds.end(),
                         [&](const Typical& kind) { return kind.ask == ask; });
  if (at == kinds.end() && kinds.size() < kTypicalMax) at = kinds.insert(at, {ask, 0});
  if (at == kinds.end()) {
    at = std::min_element(kinds.begin(), kinds.end(), [](const Typical& a, const Typical& b) {
      return a.count < b.count;
    });
    at->ask = ask;
  }
  ++at->count;
  if (++total < kHalvedAt) return;
  total = 0;
  for (Typical& kind : kinds) total += kind.count /= 2;
}

}  // namespace chalk::scheduler
