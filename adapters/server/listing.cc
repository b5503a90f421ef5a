#include "adapters/server/listing.h"

#include <algorithm>

#include "adapters/api/ids.h"
#include "adapters/api/shown.h"
#include "adapters/server/plane.h"

namespace chalk::server {
namespace {

constexpr std::size_t kSearchBytesMax = 256;

grpc::Status invalid(std::string message) {
  return {grpc::StatusCode::INVALID_ARGUMENT, std::move(message)};
}

// The records know one order. For the other, only ids are gathered before the page is cut out.
Page ascending(const records::Records& records, records::Records::Filter filter,
               const std::function<bool(const records::Sandbox&)>& wanted, const ListAsk& ask) {
  std::vector<std::pair<SandboxId, std::string>> all;
  filter.limit = 1;
  records.list(filter, [&](const records::Sandbox& one) {
    if (wanted(one)) all.emplace_back(one.sandbox, one.id);
    return false;
  });
  std::ranges::reverse(all);
  auto from = all.begin();
  if (!ask.cursor.empty()) {
    from = std::ranges::find(all, ask.cursor, &std::pair<SandboxId, std::string>::second);
    if (from != all.end()) ++from;
  }
  Page page;
  for (; from != all.end(); ++from) {
    if (page.sandboxes.size() == static_cast<std::size_t>(ask.limit)) {
      page.next_cursor = page.sandboxes.back().id;
      break;
    }
    if (auto one = records.find(from->first)) page.sandboxes.push_back(std::move(*one));
  }
  return page;
}

}  // namespace

Answer<Page> list_page(const Services& services, const identity::Caller& caller,
                       const ListAsk& given) {
  ListAsk ask = given;
  if (ask.limit < 0) {
    return std::unexpected(invalid("limit: found " + std::to_string(ask.limit) +
                                   ", expected from 1 to " + std::to_string(kPageMax)));
  }
  if (ask.limit == 0) ask.limit = kPageUsual;
  ask.limit = std::min(ask.limit, kPageMax);
  if (ask.search.size() > kSearchBytesMax) {
    return std::unexpected(invalid("search: found " + std::to_string(ask.search.size()) +
                                   " bytes, expected at most " + std::to_string(kSearchBytesMax)));
  }
  if (!ask.cursor.empty() && !api::parse_sandbox_id(ask.cursor)) {
    return std::unexpected(invalid("cursor: found " + api::shown(ask.cursor) +
                                   ", expected the next_cursor of the page before"));
  }
  const auto wanted = [&](const records::Sandbox& one) {
    if (one.status == records::Status::refused) return false;  // its caller was told
    if (!ask.search.empty() && one.name.find(ask.search) == std::string::npos &&
        one.id.find(ask.search) == std::string::npos) {
      return false;
    }
    return !ask.also || ask.also(one);
  };
  records::Records::Filter filter;
  filter.tenant = TenantId{caller.tenant};
  filter.ended = ask.ended;
  const records::Records& records = services.plane.records();
  if (ask.ascending) return ascending(records, filter, wanted, ask);
  if (!ask.cursor.empty()) filter.before = ask.cursor;
  filter.limit = static_cast<std::size_t>(ask.limit) + 1;
  Page page;
  page.sandboxes = records.list(filter, wanted);
  if (page.sandboxes.size() == filter.limit) {
    page.sandboxes.pop_back();
    page.next_cursor = page.sandboxes.back().id;
  }
  return page;
}

}  // namespace chalk::server
