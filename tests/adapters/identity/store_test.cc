#include "adapters/identity/store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <thread>

#include "tests/adapters/identity/scratch.h"

namespace chalk::identity {
namespace {

TEST(IdentityStore, EnvironmentsGetDenseTenantsAndSurviveReopening) {
  const Scratch scratch;
  {
    Store store(scratch.at("identity.db"));
    EXPECT_EQ(store.create_environment("first", "alpha")->tenant, 1u);
    EXPECT_FALSE(store.create_environment("first", "other"));
    EXPECT_EQ(store.create_environment("second")->tenant, 2u);
  }
  Store store(scratch.at("identity.db"));
  EXPECT_EQ(store.create_environment("third", "gamma")->tenant, 3u);
  const auto all = store.list_environments();
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ((*all)[0].id, "alpha");
  EXPECT_EQ(store.environment("alpha")->name, "first");
  EXPECT_EQ(store.environment_of_tenant(3)->id, "gamma");
  EXPECT_EQ(store.environment("delta").error().kind, Error::Kind::not_found);
}

TEST(IdentityStore, BadEnvironmentNamesAreRefused) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  for (const std::string id : {"Upper", "with space", "-a", "a-", "semi;colon", "a\"b"}) {
    const auto made = store.create_environment("name of " + id, id);
    ASSERT_FALSE(made) << id;
    EXPECT_EQ(made.error().kind, Error::Kind::invalid);
  }
  EXPECT_FALSE(store.create_environment("x", std::string(64, 'a')));
  EXPECT_FALSE(store.create_environment(""));
  EXPECT_FALSE(store.create_environment("line\nbreak"));
  EXPECT_FALSE(store.create_environment(std::string(129, 'n')));
  EXPECT_TRUE(store.list_environments()->empty());
}

TEST(IdentityStore, FilesAreForTheirOwnerOnly) {
  const Scratch scratch;
  std::ofstream(scratch.at("identity.db")).close();  // made by somebody with a common umask
  std::filesystem::permissions(scratch.at("identity.db"), std::filesystem::perms(0644));
  Store store(scratch.at("identity.db"));
  ASSERT_TRUE(store.create_environment("one"));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path)) {
    EXPECT_EQ(mode_of(entry.path()), 0600u) << entry.path();
    ++files;
  }
  EXPECT_EQ(files, 3) << "the file, its -wal and its -shm";
}

TEST(IdentityStore, SecretsAreNotInTheFile) {
  const Scratch scratch;
  std::string secret, join;
  {
    Store store(scratch.at("identity.db"));
    ASSERT_TRUE(store.create_environment("one", "one"));
    secret = store.create_client("one", Role::user)->secret;
    join = store.create_node_token()->token;
  }
  std::ifstream file(scratch.at("identity.db"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  ASSERT_GT(bytes.size(), 1000u);
  EXPECT_EQ(bytes.find(secret), bytes.npos);
  EXPECT_EQ(bytes.find(secret.substr(10)), bytes.npos);
  EXPECT_EQ(bytes.find(join.substr(join.size() - 30)), bytes.npos);
  EXPECT_NE(bytes.find("scrypt:"), bytes.npos);
}

TEST(IdentityStore, ClientsAreListedAndRevokedForGood) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  ASSERT_TRUE(store.create_environment("one", "one"));
  ASSERT_TRUE(store.create_environment("two", "two"));
  const auto user = store.create_client("one", Role::user);
  const auto admin = store.create_client("two", Role::admin);
  ASSERT_TRUE(user && admin);
  EXPECT_NE(user->secret, admin->secret);
  EXPECT_EQ(store.create_client("three", Role::user).error().kind, Error::Kind::not_found);
  EXPECT_EQ(store.list_clients()->size(), 2u);
  EXPECT_EQ(store.list_clients("two")->at(0).client_id, admin->client_id);
  EXPECT_EQ(store.client(admin->client_id)->role, Role::admin);
  const auto before = store.version();
  ASSERT_TRUE(store.revoke_client(user->client_id));
  EXPECT_NE(store.version(), before);
  const auto when = store.client(user->client_id)->revoked;
  EXPECT_GT(when, 0);
  ASSERT_TRUE(store.revoke_client(user->client_id));
  EXPECT_EQ(store.client(user->client_id)->revoked, when);
  EXPECT_EQ(store.revoke_client("nobody").error().kind, Error::Kind::not_found);
}

TEST(IdentityStore, AnotherStoreOnTheSameFileIsNoticed) {
  const Scratch scratch;
  Store store(scratch.at("identity.db")), other(scratch.at("identity.db"));
  ASSERT_TRUE(store.create_environment("one", "one"));
  store.version();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // past the look it just took
  const auto before = store.version();
  ASSERT_TRUE(other.create_environment("two", "two"));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (store.version() == before && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_NE(store.version(), before);
  EXPECT_EQ(store.list_environments()->size(), 2u);
}

TEST(IdentityStore, TwoThreadsAndTwoStoresNeverGiveOneTenantTwice) {
  const Scratch scratch;
  Store store(scratch.at("identity.db")), other(scratch.at("identity.db"));
  const auto fill = [](Store& into, const char* prefix) {
    for (int i = 0; i < 20; ++i) {
      const auto made = into.create_environment(prefix + std::to_string(i));
      EXPECT_TRUE(made) << made.error().message;
    }
  };
  std::thread first([&] { fill(store, "a"); }), second([&] { fill(store, "b"); });
  std::thread third([&] { fill(other, "c"); });
  first.join(), second.join(), third.join();
  std::set<std::uint32_t> tenants;
  const auto all = store.list_environments();
  for (const auto& one : *all) tenants.insert(one.tenant);
  EXPECT_EQ(tenants.size(), 60u);
  EXPECT_EQ(*tenants.rbegin(), 60u);
}

TEST(IdentityStore, AProcessKilledWhileCreatingLeavesWholeRowsOnly) {
  const Scratch scratch;
  const std::string path = scratch.at("identity.db");
  { Store store(path); }
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Store store(path);
    for (int i = 0; i < 10'000; ++i) {
      if (!store.create_environment("e" + std::to_string(i))) _exit(1);
      if (write(pipe_ends[1], "x", 1) != 1) _exit(1);
    }
    _exit(0);
  }
  close(pipe_ends[1]);
  std::size_t told = 0;
  char byte;
  while (told < 5 && read(pipe_ends[0], &byte, 1) == 1) ++told;
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  while (read(pipe_ends[0], &byte, 1) == 1) ++told;
  close(pipe_ends[0]);
  Store store(path);
  const auto all = store.list_environments();
  ASSERT_TRUE(all);
  EXPECT_GE(all->size(), told) << "what was answered is there";
  EXPECT_GE(told, 5u);
  EXPECT_EQ(all->back().tenant, all->size());
}

TEST(IdentityStore, AFileThatIsNoDatabaseIsRefusedByName) {
  const Scratch scratch;
  std::ofstream(scratch.at("identity.db")) << std::string(5000, 'x');
  try {
    Store store(scratch.at("identity.db"));
    FAIL() << "it opened";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("identity.db"), std::string::npos) << error.what();
  }
}

TEST(IdentityStore, AJoinTokenWorksAsOftenAsItSays) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  const auto token = store.create_node_token(2, 3600);
  ASSERT_TRUE(token);
  const auto first = store.redeem_node_token(token->token, 0, "a");
  ASSERT_TRUE(first);
  EXPECT_NE(*first, 0u);
  EXPECT_EQ(store.redeem_node_token(token->token, 0, "a").value(), *first) << "a lost answer";
  EXPECT_EQ(store.redeem_node_token(token->token, *first, "b").error().kind, Error::Kind::denied)
      << "another machine's key";
  const std::uint64_t large = 0xFFFF'FFFF'FFFF'FFFFull;
  EXPECT_EQ(store.redeem_node_token(token->token, large, "b").value(), large);
  EXPECT_EQ(store.redeem_node_token(token->token, 0, "c").error().kind, Error::Kind::denied);
  EXPECT_EQ(store.list_nodes()->size(), 2u);
  EXPECT_EQ(store.node(large)->revoked, 0);
  ASSERT_TRUE(store.revoke_node(large));
  EXPECT_GT(store.node(large)->revoked, 0);
  EXPECT_FALSE(store.redeem_node_token(token->token, 0, "b")) << "revoked, and used up";
}

TEST(IdentityStore, JoinTokensThatAreWrongExpiredOrRevokedAreDenied) {
  const Scratch scratch;
  Store store(scratch.at("identity.db"));
  const auto token = store.create_node_token(5, 3600), brief = store.create_node_token(1, 1);
  ASSERT_TRUE(token && brief);
  for (std::size_t i = 0; i < token->token.size(); ++i) {
    std::string wrong = token->token;
    wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
    EXPECT_EQ(store.redeem_node_token(wrong, 0, "a").error().kind, Error::Kind::denied) << i;
  }
  EXPECT_FALSE(store.redeem_node_token("", 0, "a"));
  while (system_seconds() <= brief->expires) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_EQ(store.redeem_node_token(brief->token, 0, "a").error().kind, Error::Kind::denied);
  ASSERT_TRUE(store.revoke_node_token(token->id));
  EXPECT_EQ(store.redeem_node_token(token->token, 0, "a").error().kind, Error::Kind::denied);
  EXPECT_FALSE(store.create_node_token(0, 10));
  EXPECT_FALSE(store.create_node_token(1, 31 * 86'400));
}

}  // namespace
}  // namespace chalk::identity
