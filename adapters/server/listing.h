// Pages of sandboxes for the two services that list them.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "adapters/server/tenant_sandboxes.h"

namespace chalk::server {

struct ListAsk {
  bool ended = true;
  bool ascending = false;  // by creation; else the newest first
  int limit = 0;           // 0: the usual number
  std::string cursor;      // where the last page ended
  std::string search;      // a part of name or id
  std::function<bool(const records::Sandbox&)> also;  // must hold for what is listed
};
struct Page {
  std::vector<records::Sandbox> sandboxes;
  std::string next_cursor;  // empty: nothing follows
};

// The public client reads one page only, so the usual page is long.
inline constexpr int kPageUsual = 1'000;
inline constexpr int kPageMax = 10'000;

Answer<Page> list_page(const Services& services, const identity::Caller& caller,
                       const ListAsk& ask);

}  // namespace chalk::server
