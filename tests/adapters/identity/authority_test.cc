#include "adapters/identity/authority.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <thread>

#include "adapters/identity/certificate.h"
#include "adapters/identity/keys.h"
#include "tests/adapters/identity/scratch.h"

namespace chalk::identity {
namespace {

TEST(Authority, IsMadeOnceWithFilesForItsOwnerOnly) {
  const Scratch scratch;
  std::string print;
  {
    Authority authority(scratch.at("ca"));
    print = authority.fingerprint();
    ASSERT_TRUE(authority.server_credentials({"127.0.0.1"}));
  }
  Authority again(scratch.at("ca"));
  EXPECT_EQ(again.fingerprint(), print);
  EXPECT_EQ(fingerprint(again.certificate_pem()).value(), print);
  EXPECT_EQ(print.size(), 64u);
  EXPECT_EQ(mode_of(scratch.at("ca")), 0700u);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(scratch.at("ca"))) {
    EXPECT_EQ(mode_of(entry.path()), 0600u) << entry.path();
    ++files;
  }
  EXPECT_EQ(files, 4);
}

TEST(Authority, ACrashBetweenKeyAndCertificateIsMended) {
  const Scratch scratch;
  { Authority authority(scratch.at("ca")); }
  std::filesystem::remove(scratch.at("ca/authority.crt"));
  std::ofstream(scratch.at("ca/authority.crt.new")) << "half of";
  { Authority authority(scratch.at("ca")); }
  Authority authority(scratch.at("ca"));
  EXPECT_TRUE(authority.node_key(authority.node_credentials(5)->certificate_pem));
}

TEST(Authority, DamagedOrOpenFilesAreRefusedByName) {
  const Scratch scratch;
  const auto message = [&] {
    try {
      Authority authority(scratch.at("ca"));
      return std::string("it opened");
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
  };
  { Authority authority(scratch.at("ca")); }
  const std::string key = scratch.at("ca/authority.key");
  std::filesystem::permissions(key, std::filesystem::perms(0644));
  EXPECT_NE(message().find("authority.key: others may read"), std::string::npos) << message();
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  std::filesystem::rename(key, scratch.at("kept"));
  EXPECT_NE(message().find("authority.key: not found"), std::string::npos) << message();
  std::ofstream(key) << private_pem(make_key().get());
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  EXPECT_NE(message().find("is not the certificate of"), std::string::npos) << message();
  std::ofstream(key) << "garbage";
  EXPECT_NE(message().find("authority.key"), std::string::npos) << message();
}

TEST(Authority, ANodesCertificateNamesItAndAForeignOneDoesNot) {
  const Scratch scratch;
  Authority ours(scratch.at("ca")), foreign(scratch.at("other"));
  const std::uint64_t large = 0xFFFF'FFFF'FFFF'FFFFull;
  const auto node = ours.node_credentials(large);
  ASSERT_TRUE(node);
  EXPECT_EQ(ours.node_key(node->certificate_pem).value(), large);
  EXPECT_EQ(foreign.node_key(node->certificate_pem).error().kind, Error::Kind::denied);
  EXPECT_EQ(ours.node_key(foreign.node_credentials(7)->certificate_pem).error().kind,
            Error::Kind::denied);
  EXPECT_FALSE(ours.node_key(ours.certificate_pem())) << "the root is no node";
  EXPECT_FALSE(ours.node_key("garbage"));
  EXPECT_FALSE(ours.node_key(""));
  EXPECT_FALSE(ours.node_key(std::string(100'000, 'x')));
  EXPECT_FALSE(ours.node_credentials(0));
}

TEST(Authority, AServersCertificateIsForItsNamesAndIsNoNodes) {
  const Scratch scratch;
  Authority authority(scratch.at("ca"));
  const std::vector<std::string> names{"127.0.0.1", "chalk.example", "::1"};
  const auto first = authority.server_credentials(names);
  ASSERT_TRUE(first) << first.error().message;
  const auto read = certificate_from_pem(first->certificate_pem);
  EXPECT_TRUE(is_for(read->get(), names));
  EXPECT_FALSE(is_for(read->get(), {"127.0.0.1", "chalk.example"}));
  const auto root = certificate_from_pem(first->root_pem);
  EXPECT_TRUE(check_chain(read->get(), root->get(), Purpose::server, system_seconds()));
  EXPECT_FALSE(check_chain(read->get(), root->get(), Purpose::client, system_seconds()));
  EXPECT_EQ(authority.node_key(first->certificate_pem).error().kind, Error::Kind::denied);
  EXPECT_EQ(authority.server_credentials(names)->certificate_pem, first->certificate_pem);
  EXPECT_NE(authority.server_credentials({"10.0.0.1"})->certificate_pem, first->certificate_pem);
  for (const std::string bad : {"", "a,URI:urn:chalk:node:1", "a b", "x\ny", "-a"}) {
    EXPECT_FALSE(authority.server_credentials({bad})) << bad;
  }
  EXPECT_FALSE(authority.server_credentials({}));
}

TEST(Authority, CertificatesEndAndSayWhenTheyNeedRenewal) {
  const Scratch scratch;
  Authority authority(scratch.at("ca"));
  const auto node = authority.node_credentials(9);
  const UnixSeconds now = system_seconds();
  EXPECT_FALSE(needs_renewal(node->certificate_pem, now));
  EXPECT_TRUE(needs_renewal(node->certificate_pem, now + Authority::kNodeLife * 3 / 4));
  EXPECT_TRUE(needs_renewal(node->certificate_pem, now - 3600)) << "not begun";
  EXPECT_TRUE(needs_renewal("garbage", now));
  EXPECT_TRUE(authority.node_key(node->certificate_pem, now + Authority::kNodeLife - 60));
  EXPECT_EQ(authority.node_key(node->certificate_pem, now + Authority::kNodeLife + 60).error().kind,
            Error::Kind::denied);
}

// In a process without a terminal whose standard input stays open and silent: who asks there for a
// pass phrase waits for ever, and catches the signals that would end it.
TEST(Authority, PemThatSaysItIsEncryptedIsRefusedAndNobodyIsAskedForAPassPhrase) {
  const auto encrypted = [](const std::string& kind) {
    return "-----BEGIN " + kind + "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC," +
           std::string(32, 'A') + "\n\n" + std::string(64, 'A') + "\n-----END " + kind + "-----\n";
  };
  const std::string request = encrypted("CERTIFICATE REQUEST");
  const std::string certificate = encrypted("CERTIFICATE");
  std::array<int, 2> input{}, life{};
  ASSERT_EQ(pipe(input.data()), 0);
  ASSERT_EQ(pipe(life.data()), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    setsid();
    dup2(input[0], STDIN_FILENO);
    const auto key = key_from_request(request);
    const auto read = certificate_from_pem(certificate);
    const bool refused = !key && key.error().kind == Error::Kind::invalid && !read &&
                         read.error().kind == Error::Kind::invalid;
    _exit(refused ? 0 : 1);
  }
  close(life[1]);
  pollfd ended{life[0], POLLIN, 0};  // its end closes the pipe
  EXPECT_EQ(poll(&ended, 1, 30'000), 1) << "it waits for a pass phrase";
  kill(child, SIGKILL);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int end : {input[0], input[1], life[0]}) close(end);
}

TEST(Authority, ABadRequestCostsNoUseOfTheToken) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  Authority authority(scratch.at("ca"));
  const auto token = store.create_node_token(1, 3600);
  const auto request = make_node_request();
  ASSERT_TRUE(request);
  std::string tampered = request->request_pem;
  const auto middle = tampered.size() / 2;
  tampered[middle] = tampered[middle] == 'A' ? 'B' : 'A';
  EXPECT_FALSE(join_node(store, authority, token->token, tampered));
  EXPECT_FALSE(join_node(store, authority, token->token, ""));
  EXPECT_FALSE(join_node(store, authority, token->token, std::string(100'000, 'x')));
  const auto joined = join_node(store, authority, token->token, request->request_pem);
  ASSERT_TRUE(joined) << joined.error().message;
  EXPECT_EQ(joined->root_pem, authority.certificate_pem());
  EXPECT_EQ(check_node(store, authority, joined->certificate_pem).value(), joined->key);
  const auto certificate = certificate_from_pem(joined->certificate_pem);
  EXPECT_TRUE(belongs(certificate->get(), key_from_pem(request->private_key_pem)->get()));
}

TEST(Authority, ANodeRenewsUntilItIsRevoked) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  Authority authority(scratch.at("ca"));
  const auto token = store.create_node_token(1, 3600);
  const auto first =
      join_node(store, authority, token->token, make_node_request()->request_pem, 42);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->key, 42u);
  const auto next =
      renew_node(store, authority, first->certificate_pem, make_node_request()->request_pem);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ(next->key, 42u);
  EXPECT_NE(next->certificate_pem, first->certificate_pem);
  const auto never = authority.node_credentials(43);  // signed, but never joined
  EXPECT_FALSE(check_node(store, authority, never->certificate_pem));
  ASSERT_TRUE(store.revoke_node(42));
  EXPECT_EQ(check_node(store, authority, next->certificate_pem).error().kind, Error::Kind::denied);
  EXPECT_FALSE(
      renew_node(store, authority, next->certificate_pem, make_node_request()->request_pem));
}

TEST(Authority, IssuesFromTwoThreads) {
  const Scratch scratch;
  Authority authority(scratch.at("ca"));
  const auto issue = [&](std::uint64_t from) {
    for (std::uint64_t key = from; key < from + 20; ++key) {
      const auto node = authority.node_credentials(key);
      EXPECT_EQ(authority.node_key(node->certificate_pem).value_or(0), key);
      EXPECT_TRUE(authority.server_credentials({"127.0.0.1"}));
    }
  };
  std::thread first([&] { issue(1); }), second([&] { issue(1000); });
  first.join();
  second.join();
}

}  // namespace
}  // namespace chalk::identity
