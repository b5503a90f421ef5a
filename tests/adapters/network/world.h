// The world of these tests: the whole program moves into network and mount namespaces of its own
// before the first test, so that "the host" is empty but for what is made here, nothing of the real
// one is touched, and all is gone with the program, however it ends. Beside it lies an "internet":
// one more namespace, reached by the host's default route, which knows no way back to sandboxes.
#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "adapters/network/descriptor.h"
#include "adapters/network/network.h"

namespace chalk::network::world {

constexpr const char* kHostAddress = "10.250.0.2";       // towards the internet
constexpr const char* kOtherHostAddress = "10.99.0.1";   // on a link of its own
constexpr const char* kInternetNeighbour = "10.250.0.1";
constexpr const char* kInternetAddress = "10.77.0.1";    // reached by the default route
// Of clouds. The internet has them, too.
constexpr const char* kMetadataAddresses[] = {"169.254.169.254", "100.100.100.200", "168.63.129.16",
                                              "192.0.0.192"};
constexpr const char* kInternet = "/run/netns/internet";     // namespace
constexpr const char* kHost = "/proc/self/ns/net";           // of the main thread
constexpr std::chrono::seconds kLong{30};                    // for what must happen
constexpr std::chrono::milliseconds kShort{700};             // for what must not

// What the machine lacks for a world; empty where nothing.
const std::string& missing();
// What went wrong in making it, with our own code; empty where nothing.
const std::string& broken();

Options options(const std::string& name = "t");
std::unique_ptr<Network> open(const Options& options);

// Runs it in a thread of its own that has entered the namespace.
void inside(const std::string& space, const std::function<void()>& body);

Descriptor listen_in(const std::string& space, const std::string& address, std::uint16_t port);
Descriptor datagram_in(const std::string& space, const std::string& address, std::uint16_t port);
// Empty where it is not accepted within the time; errno-like in `error`.
Descriptor connect_in(const std::string& space, const std::string& address, std::uint16_t port,
                      std::chrono::milliseconds timeout, int* error = nullptr);
Descriptor accept(const Descriptor& listener, std::chrono::milliseconds timeout,
                  std::string* peer = nullptr);

bool send_all(const Descriptor& socket, std::string_view bytes);
std::string receive(const Descriptor& socket, std::size_t size,
                    std::chrono::milliseconds timeout = kLong);  // fewer at the end or the time
std::string receive_all(const Descriptor& socket);                // to the end

void add_address_in(const std::string& space, const std::string& link, const std::string& address,
                    int bits);
void add_route_in(const std::string& space, const std::string& range, const std::string& gateway);
std::size_t count_links();
std::size_t count_namespaces();
std::string ruleset();

}  // namespace chalk::network::world

namespace chalk::network {

class InWorld : public testing::Test {
 protected:
  void SetUp() override {
    if (!world::missing().empty()) GTEST_SKIP() << world::missing();
    if (!world::broken().empty()) FAIL() << world::broken();
  }
};

}  // namespace chalk::network
