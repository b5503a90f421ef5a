#include "adapters/network/rules.h"

#include <algorithm>
#include <chrono>
#include <iterator>

#include "adapters/network/links.h"
#include "adapters/process/child.h"

namespace chalk::network {
namespace {

// By the nft program, once at the start: its library is under the GPL, which our licence does not
// fit, and nothing is run for a single sandbox.
Result<void> run(const std::string& commands, const std::string& what) {
  process::Spawn spawn;
  spawn.argv = {"nft", "-f", "-"};
  spawn.env = {"PATH=/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL=C"};
  const auto said = process::run(spawn, std::chrono::seconds(30), commands);
  if (!said) return fail(said.error().kind, what + ": " + said.error().message);
  if (said->status.exit_code == 0 && said->status.signal == 0) return {};
  return fail(Error::Kind::failed, what + ": nft says: " + said->err.substr(0, 2000));
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// Where clouds answer their machines, credentials among it, that is not link-local.
constexpr Range kMetadata[] = {
    {0x646464c8, 32},  // Alibaba, 100.100.100.200
    {0xa83f8110, 32},  // Azure's host, 168.63.129.16
    {0xc00000c0, 32},  // Oracle Cloud Classic, 192.0.0.192
};

// What nobody reaches by being forwarded: this host's loopback and link-local neighbours (most clouds
// have theirs there), multicast and reserved, other sandboxes, and what the options say.
std::string elements_of(const Rules& rules) {
  std::vector<Range> ranges = rules.blocked;
  ranges.insert(ranges.end(), {{0, 8}, {0x7f000000, 8}, {0xa9fe0000, 16}, {0xe0000000, 3}});
  ranges.insert(ranges.end(), std::begin(kMetadata), std::end(kMetadata));
  ranges.push_back(rules.pool);
  // Ranges of a power of two either nest or are apart; nftables refuses nested ones.
  std::ranges::sort(ranges, [](const Range& a, const Range& b) {
    return a.first != b.first ? a.first < b.first : a.bits < b.bits;
  });
  std::string text;
  Range last{0, 32};
  bool any = false;
  for (const auto& range : ranges) {
    if (any && range.overlaps(last)) continue;
    if (any) text += ", ";
    text += text_of(range);
    last = range;
    any = true;
  }
  return text;
}

// The chain `here` comes before any rule of others that would send a packet for an address of the
// host to somewhere behind it, as those for the published ports of other containers do. GROUP has
// the sandboxes of every node of this host. Where such rules send a packet for a blocked address to
// one that is not, as those of clusters do for their services, the one that was asked for counts.
constexpr const char* kRules = R"(
add table inet TABLE
delete table inet TABLE
table inet TABLE {
  set blocked { type ipv4_addr; flags interval; elements = { BLOCKED } }
  set flows { type ipv4_addr; flags dynamic; size 65535; }
  chain origin {
    type filter hook prerouting priority raw; policy accept;
    iifname != "NAME-*" accept
    meta nfproto != ipv4 drop
    fib saddr . iif oif 0 drop
  }
  chain many {
    type filter hook prerouting priority mangle; policy accept;
    iifname "NAME-*" ct state new add @flows { ip saddr ct count over FLOWS } drop
  }
  chain here {
    type filter hook prerouting priority mangle; policy accept;
    iifname != "NAME-*" accept
    ct state established,related accept
    meta l4proto { tcp, udp } th dport 53 accept
    fib daddr type local drop
  }
  chain names {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "NAME-*" meta l4proto { tcp, udp } th dport 53 dnat ip to GATEWAY
  }
  chain host {
    type filter hook input priority filter; policy accept;
    iifname != { "lo", "NAME-*" } ip daddr GATEWAY drop
    iifname != "NAME-*" accept
    ct state established,related accept
    ip daddr GATEWAY meta l4proto { tcp, udp } th dport 53 accept
    drop
  }
  chain through {
    type filter hook forward priority filter; policy accept;
    oifname "NAME-*" ct state established,related accept
    oifname "NAME-*" drop
    iifname != "NAME-*" accept
    oifgroup GROUP reject with icmpx admin-prohibited
    ip daddr @blocked reject with icmpx admin-prohibited
    ct original ip daddr @blocked reject with icmpx admin-prohibited
    UPLINK
  }
  chain leaving {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr POOL oifname != { "lo", "NAME-*" } masquerade
  }
}
add table arp TABLE
delete table arp TABLE
table arp TABLE {
  chain asked {
    type filter hook input priority filter; policy accept;
    iifname "NAME-*" arp daddr ip != GATEWAY drop
  }
}
)";

}  // namespace

std::string table_of(const std::string& name) { return "chalk_" + name; }

std::string text_of(const Rules& rules) {
  std::string text = kRules;
  replace_all(text, "TABLE", table_of(rules.name));
  replace_all(text, "NAME", rules.name);
  replace_all(text, "BLOCKED", elements_of(rules));
  replace_all(text, "GATEWAY", text_of(rules.gateway));
  replace_all(text, "POOL", text_of(rules.pool));
  replace_all(text, "GROUP", std::to_string(kLinkGroup));
  replace_all(text, "FLOWS", std::to_string(rules.flows_max));
  replace_all(text, "UPLINK",
              rules.uplink.empty()
                  ? ""
                  : "oifname != \"" + rules.uplink + "\" reject with icmpx admin-prohibited");
  return text;
}

Result<void> apply(const Rules& rules) {
  return run(text_of(rules), "rules of table " + table_of(rules.name));
}

Result<void> remove_rules(const std::string& name) {
  std::string commands;
  for (const std::string family : {"inet ", "arp "}) {
    const auto table = family + table_of(name);
    commands += "add table " + table + "\ndelete table " + table + "\n";
  }
  return run(commands, "remove table " + table_of(name));
}

}  // namespace chalk::network
