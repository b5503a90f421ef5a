// The catalogue before registries that take connections and never say a word.
#include "adapters/server/images.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>

#include "tests/adapters/server/small_plane.h"

namespace chalk::server {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class SilentRegistry {
 public:
  SilentRegistry() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener_, generic, size), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    EXPECT_EQ(getsockname(listener_, generic, &size), 0);
    host_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~SilentRegistry() { close(listener_); }
  const std::string& host() const { return host_; }
  bool was_asked() const {  // somebody waits to be accepted
    for (int i = 0; i < 3000; ++i) {
      const int taken = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (taken >= 0) return true;  // and stays open as long as the process
      usleep(10'000);
    }
    return false;
  }

 private:
  const int listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  std::string host_;
};

class CatalogueTest : public ::testing::Test {
 protected:
  std::unique_ptr<ImageCatalogue> catalogue(std::chrono::milliseconds patience) {
    images::Registries registries;
    registries.registries[registry_.host()].insecure = true;
    return std::make_unique<ImageCatalogue>(plane_, folder_ + "/images.db", registries, patience);
  }
  std::string image() const { return registry_.host() + "/app:1"; }

  SilentRegistry registry_;
  ~CatalogueTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string folder_ = fresh_folder("catalogue");
  Plane plane_{small_plane(folder_)};
};

TEST_F(CatalogueTest, ARegistryHasABoundedTimeAsAWhole) {
  const auto images = catalogue(500ms);
  const auto began = Clock::now();
  const auto found = images->resolve(image());
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().kind, Error::Kind::timeout) << found.error().message;
  EXPECT_LT(Clock::now() - began, 20s);
}

TEST_F(CatalogueTest, AnAskEndsWhenAllWhoWaitAreGoneAndNotBefore) {
  const auto images = catalogue(60s);
  std::atomic<bool> first_gone = false, second_gone = false;
  auto first =
      std::async([&] { return images->resolve(image(), [&] { return first_gone.load(); }); });
  ASSERT_TRUE(registry_.was_asked());
  auto second =
      std::async([&] { return images->resolve(image(), [&] { return second_gone.load(); }); });
  first_gone = true;
  EXPECT_EQ(first.wait_for(1s), std::future_status::timeout) << "the second still waits for it";
  second_gone = true;
  EXPECT_EQ(second.wait_for(20s), std::future_status::ready);
  EXPECT_EQ(first.wait_for(20s), std::future_status::ready);
  EXPECT_FALSE(first.get());
  EXPECT_FALSE(second.get());
}

TEST_F(CatalogueTest, TheEndOfTheServerEndsIt) {
  const auto images = catalogue(60s);
  auto one = std::async([&] { return images->resolve(image()); });
  ASSERT_TRUE(registry_.was_asked());
  images->stop();
  EXPECT_EQ(one.wait_for(20s), std::future_status::ready);
  EXPECT_EQ(images->resolve(image()).error().kind, Error::Kind::unavailable);
}

}  // namespace
}  // namespace chalk::server
