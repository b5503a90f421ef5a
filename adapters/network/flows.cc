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

// That its first packet was from or to one of them.
bool touches(std::string_view tuple, const std::set<Address>& addresses) {
  const Attributes parts(tuple.data(), tuple.size());
  const std::string_view ip = parts.bytes(CTA_TUPLE_IP);
  const Attributes ends(ip.data(), ip.size());
  Address one = 0;
  return (ends.address(CTA_IP_V4_SRC, one) && addresses.contains(one)) ||
         (ends.address(CTA_IP_V4_DST, one) && addresses.contains(one));
}

Result<std::vector<Flow>> list_flows(Netlink& netlink, const std::set<Address>& addresses) {
  Request request(type_of(IPCTNL_MSG_CT_GET), NLM_F_DUMP, family_header());
  std::vector<Flow> flows;
  const auto done = netlink.dump(
      request, "list flows", [&] { flows.clear(); },
      [&](const nlmsghdr& message) {
        const std::size_t offset = NLMSG_SPACE(sizeof(nfgenmsg));
        if (message.nlmsg_len < offset) return;
        const Attributes attributes(reinterpret_cast<const char*>(&message) + offset,
                                    message.nlmsg_len - offset);
        const std::string_view tuple = attributes.bytes(CTA_TUPLE_ORIG);
        if (!touches(tuple, addresses)) return;
        flows.push_back({std::string(tuple), std::string(attributes.bytes(CTA_ID))});
      });
  if (!done) return std::unexpected(done.error());
  return flows;
}

}  // namespace

Result<std::size_t> forget_flows(Netlink& netlink, const std::set<Address>& addresses) {
  const auto flows = list_flows(netlink, addresses);
  if (!flows) return std::unexpected(flows.error());
  for (const auto& flow : *flows) {
    Request request(type_of(IPCTNL_MSG_CT_DELETE), NLM_F_ACK, family_header());
    request.put(CTA_TUPLE_ORIG | NLA_F_NESTED, flow.tuple.data(), flow.tuple.size());
    request.put(CTA_ID, flow.id.data(), flow.id.size());
    const auto gone = netlink.ask(request, "forget a flow");
    if (!gone && gone.error().kind != Error::Kind::not_found) return std::unexpected(gone.error());
  }
  return flows->size();
}

}  // namespace chalk::network
