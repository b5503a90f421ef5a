#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "adapters/network/flows.h"
#include "adapters/network/links.h"
#include "adapters/network/namespaces.h"
#include "adapters/network/records.h"
#include "tests/adapters/network/world.h"

namespace chalk::network {
namespace {

using namespace world;

void remove(const std::unique_ptr<Network>& network) {
  const auto removed = network->remove();
  EXPECT_TRUE(removed) << removed.error().message;
}

TEST_F(InWorld, AnEndpointSaysAllThatASandboxNeeds) {
  const auto network = open(options());
  const auto one = network->acquire("one").value();
  EXPECT_EQ(one.namespace_path, "/run/netns/t-0002");
  EXPECT_EQ(one.address, "10.200.0.2");
  EXPECT_EQ(one.gateway, "10.200.0.1");
  EXPECT_EQ(one.resolv_conf, "nameserver 10.200.0.1\noptions timeout:5 attempts:2\n");
  EXPECT_EQ(one.hosts, "127.0.0.1\tlocalhost\n10.200.0.2\tone\n");
  EXPECT_TRUE(is_namespace(one.namespace_path));
  EXPECT_EQ(network->endpoint("one").value().address, one.address);
  EXPECT_EQ(network->acquire("one").error().kind, Error::Kind::invalid);
  EXPECT_EQ(network->acquire("../one").error().kind, Error::Kind::invalid);
  EXPECT_EQ(network->acquire(std::string(65, 'a')).error().kind, Error::Kind::invalid);
  EXPECT_EQ(network->release("two").error().kind, Error::Kind::not_found);
  remove(network);
}

TEST_F(InWorld, ThreeHundredSandboxesLeaveNothing) {
  const auto network = open(options());
  ASSERT_TRUE(network->settle(kLong));
  const auto links = count_links();
  const auto namespaces = count_namespaces();
  const auto rules = ruleset();
  const auto free = network->statistics().addresses_free;
  for (int i = 0; i < 300; ++i) {
    const auto id = "sandbox-" + std::to_string(i);
    ASSERT_TRUE(network->acquire(id));
    ASSERT_TRUE(network->publish(id, 80));
    ASSERT_TRUE(network->release(id));
  }
  ASSERT_TRUE(network->settle(std::chrono::minutes(2)));
  EXPECT_EQ(count_links(), links);
  EXPECT_EQ(count_namespaces(), namespaces);
  EXPECT_EQ(ruleset(), rules);
  const auto statistics = network->statistics();
  EXPECT_EQ(statistics.addresses_free, free);
  EXPECT_EQ(statistics.sandboxes, 0u);
  EXPECT_EQ(statistics.published, 0u);
  EXPECT_EQ(statistics.failures, 0u) << statistics.last_failure;
  EXPECT_TRUE(std::filesystem::is_empty("/run/chalk-network/t"));
  remove(network);
}

TEST_F(InWorld, TrackedConnectionsOfASandboxGoWithIt) {
  auto given = options();
  given.flows_max = 4;
  given.pool = "10.201.0.8/29";
  given.spare = 0;
  const auto network = open(given);
  const auto internet = listen_in(kInternet, kInternetAddress, 8080);
  std::vector<Descriptor> kept;  // so that nobody says an end
  // More of them than one address may have, and each address has been used before.
  for (int i = 0; i < 12; ++i) {
    const auto one = network->acquire("one").value();
    const auto server = listen_in(one.namespace_path, "0.0.0.0", 80);
    for (int j = 0; j < 3; ++j) {
      kept.push_back(connect_in(one.namespace_path, kInternetAddress, 8080, kLong));
      ASSERT_TRUE(kept.back()) << i;
    }
    ASSERT_TRUE(connect_in(kHost, one.address, 80, kLong));
    ASSERT_TRUE(network->release("one"));
    ASSERT_TRUE(network->settle(kLong));
    auto flows = Netlink::open(NETLINK_NETFILTER).value();
    EXPECT_EQ(forget_flows(flows, {parse_address(one.address).value()}).value(), 0u);
  }
  EXPECT_EQ(network->statistics().failures, 0u) << network->statistics().last_failure;
  remove(network);
}

TEST_F(InWorld, AFullPoolIsANamedRefusalUntilAnAddressIsBack) {
  auto given = options();
  given.pool = "10.201.0.8/29";
  given.spare = 2;
  const auto network = open(given);
  for (const char* id : {"a", "b", "c", "d", "e"}) ASSERT_TRUE(network->acquire(id)) << id;
  const auto refused = network->acquire("f");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Error::Kind::exhausted);
  EXPECT_EQ(refused.error().message,
            "network t: all 5 addresses of pool 10.201.0.8/29 are in use");
  const auto address = network->endpoint("c").value().address;
  ASSERT_TRUE(network->release("c"));
  const auto again = network->acquire("f");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->address, address);
  remove(network);
}

TEST_F(InWorld, RecoverKeepsTheLivingAndDestroysTheRest) {
  const auto links = count_links();
  const auto namespaces = count_namespaces();
  auto network = open(options());
  const auto living = network->acquire("living").value();
  const auto dead = network->acquire("dead").value();
  const auto broken = network->acquire("broken").value();
  const auto server = listen_in(living.namespace_path, "0.0.0.0", 8080);
  const auto port = network->publish("living", 8080).value();
  const auto taken = network->publish("living", 8081).value();
  ASSERT_TRUE(network->settle(kLong));
  network.reset();  // as if the process had died: nothing of the kernel's is undone
  ASSERT_TRUE(is_namespace(living.namespace_path));
  const auto squatter = listen_in(kHost, "127.0.0.1", taken);
  {
    auto netlink = Netlink::open().value();
    ASSERT_TRUE(delete_link(netlink, "t-" + broken.namespace_path.substr(13)));
  }

  network = open(options());
  const std::vector<std::string> alive = {"living", "broken", "unknown"};
  const auto recovered = network->recover(alive);
  ASSERT_TRUE(recovered) << recovered.error().message;
  ASSERT_EQ(recovered->kept.size(), 1u);
  EXPECT_EQ(recovered->kept[0].address, living.address);
  EXPECT_EQ(recovered->kept[0].namespace_path, living.namespace_path);
  EXPECT_EQ(recovered->lost, (std::vector<std::string>{"broken", "unknown"}));
  EXPECT_EQ(recovered->published, (std::vector<Published>{{"living", 8080, port}}));
  EXPECT_EQ(recovered->unpublished, (std::vector<Published>{{"living", 8081, taken}}));
  EXPECT_EQ(recovered->destroyed, 3u);  // dead, broken and the spare
  ASSERT_TRUE(network->settle(kLong));
  EXPECT_FALSE(is_namespace(dead.namespace_path));
  EXPECT_EQ(count_links(), links + 1 + 1 + 1);  // gateway, living, spare
  EXPECT_EQ(count_namespaces(), namespaces + 1 + 1);

  EXPECT_TRUE(connect_in(kHost, "127.0.0.1", port, kLong));
  EXPECT_TRUE(accept(server, kLong));
  const auto internet = listen_in(kInternet, kInternetAddress, 8080);
  EXPECT_TRUE(connect_in(living.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_NE(network->acquire("fresh").value().address, living.address);
  remove(network);
  EXPECT_EQ(count_links(), links);
  EXPECT_EQ(count_namespaces(), namespaces);
}

TEST_F(InWorld, RecoveredPortsMayBeginClosed) {
  auto network = open(options());
  const auto one = network->acquire("one").value();
  const auto server = listen_in(one.namespace_path, "0.0.0.0", 8080);
  const auto port = network->publish("one", 8080).value();
  network.reset();
  network = open(options());
  const std::vector<std::string> alive = {"one"};
  ASSERT_TRUE(network->recover(alive, alive));
  const auto early = connect_in(kHost, "127.0.0.1", port, kLong);
  if (early) {  // it may be taken before it is reset
    char byte = 0;
    EXPECT_LE(::recv(early.get(), &byte, 1, 0), 0);
  }
  network->set_open("one", 8080, true);
  EXPECT_TRUE(connect_in(kHost, "127.0.0.1", port, kLong));
  EXPECT_TRUE(accept(server, kLong));
  remove(network);
}

TEST_F(InWorld, BeforeRecoverWhatIsThereKeepsItsAddress) {
  auto network = open(options());
  const auto one = network->acquire("one").value();
  network.reset();
  network = open(options());
  EXPECT_NE(network->acquire("two").value().address, one.address);
  EXPECT_TRUE(is_namespace(one.namespace_path));
  remove(network);
  EXPECT_FALSE(is_namespace(one.namespace_path));
}

TEST_F(InWorld, AnotherPoolThanBeforeKeepsNobody) {
  auto network = open(options());
  const auto one = network->acquire("one").value();
  network.reset();
  auto given = options();
  given.pool = "10.202.0.0/24";
  given.spare = 0;  // which could be called the same
  network = open(given);
  const std::vector<std::string> alive = {"one"};
  const auto recovered = network->recover(alive).value();
  EXPECT_EQ(recovered.lost, alive);
  EXPECT_GE(recovered.destroyed, 1u);
  ASSERT_TRUE(network->settle(kLong));
  EXPECT_FALSE(is_namespace(one.namespace_path)) << one.namespace_path;
  remove(network);
  auto netlink = Netlink::open().value();
  (void)delete_unreachable(netlink, Range{0x0ac80000, 16});
}

TEST_F(InWorld, TwoNetworksSideBySideDoNotDisturbEachOther) {
  const auto links = count_links();
  auto given = options("u");
  given.pool = "10.203.0.0/24";
  const auto first = open(options());
  const auto second = open(given);
  const auto one = first->acquire("same").value();
  const auto two = second->acquire("same").value();
  const auto internet = listen_in(kInternet, kInternetAddress, 8080);
  const auto server = listen_in(two.namespace_path, "0.0.0.0", 8081);
  EXPECT_TRUE(connect_in(one.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(connect_in(two.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_FALSE(connect_in(one.namespace_path, two.address, 8081, kShort));
  EXPECT_FALSE(connect_in(one.namespace_path, two.gateway, 53, kShort) &&
               second->statistics().dns_queries > 0);
  remove(first);
  EXPECT_TRUE(connect_in(two.namespace_path, kInternetAddress, 8080, kLong));
  EXPECT_TRUE(connect_in(kHost, two.address, 8081, kLong));
  remove(second);
  EXPECT_EQ(count_links(), links);
  EXPECT_EQ(ruleset(), "");
}

TEST_F(InWorld, OneNameIsForOneProcess) {
  const auto network = open(options());
  const auto again = Network::open(options());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, Error::Kind::unavailable);
  remove(network);
}

TEST_F(InWorld, APoolThatOverlapsTheHostIsRefused) {
  for (const char* pool : {"10.250.0.0/24", "10.99.0.0/16", "10.250.0.0/29"}) {
    auto given = options();
    given.pool = pool;
    const auto refused = Network::open(given);
    ASSERT_FALSE(refused) << pool;
    EXPECT_EQ(refused.error().kind, Error::Kind::invalid);
    EXPECT_NE(refused.error().message.find("a range apart from the host's"), std::string::npos)
        << refused.error().message;
  }
  const auto first = open(options());
  const auto same = Network::open(options("u"));
  ASSERT_FALSE(same);
  EXPECT_EQ(same.error().kind, Error::Kind::invalid) << same.error().message;
  remove(first);
  EXPECT_EQ(ruleset(), "");
}

TEST(NetworkOptions, ABadOptionIsRefusedByItsName) {
  const auto refusal = [](const std::function<void(Options&)>& change) {
    Options options;
    change(options);
    const auto refused = Network::open(options);
    return refused ? std::string("accepted") : refused.error().message;
  };
  const std::array<std::pair<const char*, std::function<void(Options&)>>, 16> cases = {{
      {"option name", [](Options& o) { o.name = "Chalk"; }},
      {"option name", [](Options& o) { o.name = "a-b"; }},
      {"option name", [](Options& o) { o.name = "ninechars"; }},
      {"address range", [](Options& o) { o.pool = "10.200.0.0"; }},
      {"no bits below the mask", [](Options& o) { o.pool = "10.200.0.1/16"; }},
      {"option pool", [](Options& o) { o.pool = "10.0.0.0/8"; }},
      {"option pool", [](Options& o) { o.pool = "10.0.0.0/30"; }},
      {"option pool", [](Options& o) { o.pool = "169.254.0.0/16"; }},
      {"option uplink", [](Options& o) { o.uplink = "eth0\" accept"; }},
      {"option mtu", [](Options& o) { o.mtu = 576; }},
      {"option spare", [](Options& o) { o.spare = 65; }},
      {"option listen", [](Options& o) { o.listen = "localhost"; }},
      {"option ports", [](Options& o) { o.port_first = 30001, o.port_last = 30000; }},
      {"address range", [](Options& o) { o.blocked = {"10.0.0.0/33"}; }},
      {"resolver", [](Options& o) { o.dns = {"10.0.0.1:0"}; }},
      {"option folder", [](Options& o) { o.records = "here"; }},
  }};
  for (const auto& [expected, change] : cases) {
    EXPECT_NE(refusal(change).find(expected), std::string::npos) << refusal(change);
  }
}

TEST(NetworkRecord, IsReadAsItWasWrittenAndNotOtherwise) {
  const Record record{"a.b_c-D", 0x0ac80002, {{80, 20000}, {443, 20001}}};
  const auto text = text_of(record);
  EXPECT_EQ(text, "chalk-network-1 a.b_c-D 10.200.0.2 80:20000 443:20001\n");
  EXPECT_EQ(parse_record(text), record);
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(parse_record(text.substr(0, size))) << size;
  }
  for (const char* bad : {"chalk-network-2 a 10.0.0.1\n", "chalk-network-1 a/b 10.0.0.1\n",
                          "chalk-network-1 a 10.0.0\n", "chalk-network-1 a 10.0.0.1 80\n",
                          "chalk-network-1 a 10.0.0.1 80:0\n",
                          "chalk-network-1 a 10.0.0.1 80:1 80:2\n"}) {
    EXPECT_FALSE(parse_record(bad)) << bad;
  }
}

TEST_F(InWorld, AcquireIsFastWithASpare) {
  auto given = options();
  given.spare = 4;
  const auto network = open(given);
  std::vector<long> ready;
  std::vector<long> cold;
  const auto measure = [&](const std::string& id) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(network->acquire(id));
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                 begin)
        .count();
  };
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(network->settle(kLong));
    for (int i = 0; i < 8; ++i) {
      (i < 4 ? ready : cold).push_back(measure(std::to_string(round * 8 + i)));
    }
  }
  std::ranges::sort(ready);
  std::ranges::sort(cold);
  std::printf("acquire: median %ld us of 20 with a spare, %ld us of 20 without (most %ld us)\n",
              ready[10], cold[10], cold[19]);
  const auto begin = std::chrono::steady_clock::now();
  remove(network);
  std::printf("remove of 40 sandboxes: %ld ms\n",
              static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                    std::chrono::steady_clock::now() - begin)
                                    .count()));
}

}  // namespace
}  // namespace chalk::network
