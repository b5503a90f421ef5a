#include "adapters/network/flows.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include <string>
#include <vector>

namespace chalk::network {
namespace {

constexpr std::uint16_t type_of(int message) {
  return static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message);
}

nfgenmsg family_header() {
  nfgenmsg header{};
  header.nfgen_family = AF_INET;
  header.version = NFNETLINK_V0;
  return header;
}

struct Flow {
  std::string tuple;  // as the kernel wrote it
  std::string id;     // so that a later flow of the same tuple is not meant
};

// `side`: CTA_IP_V4_SRC or CTA_IP_V4_DST of the first packet.
Result<std::vector<Flow>> list_flows(Netlink& netlink, Address address, std::uint16_t side) {
  Request request(type_of(IPCTNL_MSG_CT_GET), NLM_F_DUMP, family_header());
  const auto tuple = request.open(CTA_TUPLE_ORIG | NLA_F_NESTED);
  const auto addresses = request.open(CTA_TUPLE_IP | NLA_F_NESTED);
  request.put_address(side, address);
  request.close(addresses);
  request.close(tuple);
  // Bits of the kernel's filter: 0 for the source's address, 1 for the destination's.
  const auto filter = request.open(CTA_FILTER | NLA_F_NESTED);
  request.put_number(CTA_FILTER_ORIG_FLAGS, side == CTA_IP_V4_SRC ? 1u : 2u);
  request.put_number(CTA_FILTER_REPLY_FLAGS, 0);
  request.close(filter);
  std::vector<Flow> flows;
  const auto done = netlink.dump(
      request, "list flows of " + text_of(address), [&] { flows.clear(); },
      [&](const nlmsghdr& message) {
        const std::size_t offset = NLMSG_SPACE(sizeof(nfgenmsg));
        if (message.nlmsg_len < offset) return;
        const Attributes attributes(reinterpret_cast<const char*>(&message) + offset,
                                    message.nlmsg_len - offset);
        flows.push_back({std::string(attributes.bytes(CTA_TUPLE_ORIG)),
                         std::string(attributes.bytes(CTA_ID))});
      });
  if (!done) return std::unexpected(done.error());
  return flows;
}

}  // namespace

Result<std::size_t> forget_flows(Netlink& netlink, Address address) {
  std::size_t count = 0;
  for (const std::uint16_t side : {CTA_IP_V4_SRC, CTA_IP_V4_DST}) {
    const auto flows = list_flows(netlink, address, side);
    if (!flows) return std::unexpected(flows.error());
    for (const auto& flow : *flows) {
      Request request(type_of(IPCTNL_MSG_CT_DELETE), NLM_F_ACK, family_header());
      request.put(CTA_TUPLE_ORIG | NLA_F_NESTED, flow.tuple.data(), flow.tuple.size());
      request.put(CTA_ID, flow.id.data(), flow.id.size());
      const auto gone = netlink.ask(request, "forget a flow of " + text_of(address));
      if (!gone && gone.error().kind != Error::Kind::not_found) return std::unexpected(gone.error());
      ++count;
    }
  }
  return count;
}

}  // namespace chalk::network
