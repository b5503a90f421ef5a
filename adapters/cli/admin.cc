// chalk compute nodes and drain, chalk admin: what operators do.
#include <memory>
#include <nlohmann/json.hpp>

#include "adapters/cli/client.h"
#include "adapters/cli/command.h"
#include "adapters/cli/output.h"
#include "adapters/cli/stop.h"
#include "adapters/cli/text.h"

namespace chalk::cli {
namespace {

using nlohmann::json;
namespace wire = chalk::admin::v1;

std::string time_of(const google::protobuf::Timestamp& time) {
  return time.seconds() == 0 ? "" : rfc3339(time.seconds(), time.nanos());
}

json nullable(const google::protobuf::Timestamp& time) {
  return time.seconds() == 0 ? json(nullptr) : json(time_of(time));
}

// ---- nodes

std::string state_of(const wire::Node& node) {
  return !node.connected() ? "lost" : node.draining() ? "draining" : "connected";
}

int nodes(bool as_json) {
  const Client client = Client::from_environment();
  const auto found = client.call<wire::ListNodesRequest, wire::ListNodesResponse>(
      [&](auto... a) { return client.admin().ListNodes(a...); }, {});
  if (as_json) {
    json rows = json::array();
    for (const auto& node : found.nodes()) {
      rows.push_back({{"name", utf8(node.name())},
                      {"node", node.node()},
                      {"state", state_of(node)},
                      {"connected", node.connected()},
                      {"draining", node.draining()},
                      {"sandboxes", node.sandboxes()},
                      {"cpu_millicores", node.cpu_millicores()},
                      {"cpu_millicores_used", node.cpu_millicores_used()},
                      {"memory_bytes", node.memory_bytes()},
                      {"memory_bytes_used", node.memory_bytes_used()},
                      {"disk_bytes", node.disk_bytes()},
                      {"disk_bytes_used", node.disk_bytes_used()},
                      {"gpus", node.gpus()},
                      {"pool", node.pool()},
                      {"zone", node.zone()},
                      {"owner", utf8(node.owner())},
                      {"runtime", utf8(node.runtime())},
                      {"agent_version", utf8(node.agent_version())}});
    }
    print(rows.dump() + "\n");
    return 0;
  }
  Table table({"NAME", "STATE", "SANDBOXES", "CPU", "MEMORY", "DISK", "OWNER", "RUNTIME"});
  for (const auto& node : found.nodes()) {
    table.add({node.name(), state_of(node), std::to_string(node.sandboxes()),
               cpu_text(node.cpu_millicores_used()) + "/" + cpu_text(node.cpu_millicores()),
               bytes_short(node.memory_bytes_used()) + "/" + bytes_short(node.memory_bytes()),
               bytes_short(node.disk_bytes_used()) + "/" + bytes_short(node.disk_bytes()),
               node.owner(), node.runtime()});
  }
  table.print(1);
  return 0;
}

int drain(const std::string& name, bool as_json) {
  const Client client = Client::from_environment();
  wire::DrainNodeRequest request;
  request.set_name(name);
  client.call<wire::DrainNodeRequest, wire::DrainNodeResponse>(
      [&](auto... a) { return client.admin().DrainNode(a...); }, request);
  print(as_json ? json{{"name", name}, {"draining", true}}.dump() + "\n"
                : harmless(name) + " takes no new sandboxes; those on it go on to their end\n");
  return 0;
}

int undrain(const std::string& name, bool as_json) {
  const Client client = Client::from_environment();
  wire::UndrainNodeRequest request;
  request.set_name(name);
  client.call<wire::UndrainNodeRequest, wire::UndrainNodeResponse>(
      [&](auto... a) { return client.admin().UndrainNode(a...); }, request);
  print(as_json ? json{{"name", name}, {"draining", false}}.dump() + "\n"
                : harmless(name) + " takes sandboxes again\n");
  return 0;
}

// ---- environments

json to_json(const wire::Environment& environment) {
  return {{"id", environment.id()},
          {"name", utf8(environment.name())},
          {"created_at", time_of(environment.created_at())}};
}

int create_environment(const std::string& name, const std::string& id, bool as_json) {
  const Client client = Client::from_environment();
  wire::CreateEnvironmentRequest request;
  request.set_name(name);
  request.set_id(id);
  const auto made = client.call<wire::CreateEnvironmentRequest, wire::Environment>(
      [&](auto... a) { return client.admin().CreateEnvironment(a...); }, request, false);
  print((as_json ? to_json(made).dump() : made.id()) + "\n");
  return 0;
}

int list_environments(bool as_json) {
  const Client client = Client::from_environment();
  const auto found = client.call<wire::ListEnvironmentsRequest, wire::ListEnvironmentsResponse>(
      [&](auto... a) { return client.admin().ListEnvironments(a...); }, {});
  json rows = json::array();
  Table table({"ID", "NAME", "AGE"});
  for (const auto& one : found.environments()) {
    rows.push_back(to_json(one));
    table.add({one.id(), one.name(), age(one.created_at().seconds())});
  }
  if (as_json) {
    print(rows.dump() + "\n");
  } else {
    table.print();
  }
  return 0;
}

// ---- clients

struct ClientFlags {
  std::string environment, role = "user", id;
};

int create_client(const ClientFlags& flags, bool as_json) {
  const Client client = Client::from_environment();
  wire::CreateClientRequest request;
  request.set_environment(flags.environment);
  request.set_role(flags.role);
  const auto made = client.call<wire::CreateClientRequest, wire::CreateClientResponse>(
      [&](auto... a) { return client.admin().CreateClient(a...); }, request, false);
  const std::string environment =
      flags.environment.empty() ? client.environment() : flags.environment;
  if (as_json) {
    print(json{{"client_id", made.client_id()},
               {"client_secret", made.client_secret()},
               {"environment", environment},
               {"role", flags.role}}
              .dump() +
          "\n");
  } else {
    print("export CHALK_API_SERVER=" + client.server() + "\nexport CHALK_CLIENT_ID=" +
          made.client_id() + "\nexport CHALK_CLIENT_SECRET=" + made.client_secret() +
          "\nexport CHALK_ENVIRONMENT=" + environment + "\n");
    note("# the secret is shown only now");
  }
  return 0;
}

int list_clients(const ClientFlags& flags, bool as_json) {
  const Client client = Client::from_environment();
  wire::ListClientsRequest request;
  request.set_environment(flags.environment);
  const auto found = client.call<wire::ListClientsRequest, wire::ListClientsResponse>(
      [&](auto... a) { return client.admin().ListClients(a...); }, request);
  json rows = json::array();
  Table table({"CLIENT", "STATE", "ENVIRONMENT", "ROLE", "AGE"});
  for (const auto& one : found.clients()) {
    rows.push_back({{"client_id", one.client_id()},
                    {"environment", one.environment()},
                    {"role", one.role()},
                    {"created_at", time_of(one.created_at())},
                    {"revoked_at", nullable(one.revoked_at())}});
    table.add({one.client_id(), one.revoked_at().seconds() != 0 ? "revoked" : "good",
               one.environment(), one.role(), age(one.created_at().seconds())});
  }
  if (as_json) {
    print(rows.dump() + "\n");
  } else {
    table.print(1);
  }
  return 0;
}

int revoke_client(const ClientFlags& flags, bool as_json) {
  const Client client = Client::from_environment();
  wire::RevokeClientRequest request;
  request.set_client_id(flags.id);
  client.call<wire::RevokeClientRequest, wire::RevokeClientResponse>(
      [&](auto... a) { return client.admin().RevokeClient(a...); }, request);
  if (as_json) print(json{{"client_id", flags.id}, {"revoked", true}}.dump() + "\n");
  return 0;
}

// ---- the rest

struct TokenFlags {
  unsigned uses = 1;
  std::string valid = "1h";
};

int node_token(const TokenFlags& flags, bool as_json) {
  if (flags.uses < 1) throw Stop("--uses: expected 1 or more");
  const auto valid = checked_duration("--valid", flags.valid);
  const Client client = Client::from_environment();
  wire::CreateNodeTokenRequest request;
  request.set_uses(flags.uses);
  request.set_valid_seconds(static_cast<std::uint64_t>(std::max<std::int64_t>(valid.count() / 1000, 1)));
  const auto made = client.call<wire::CreateNodeTokenRequest, wire::CreateNodeTokenResponse>(
      [&](auto... a) { return client.admin().CreateNodeToken(a...); }, request, false);
  print((as_json ? json{{"join_token", made.join_token()}, {"uses", flags.uses}}.dump()
                 : made.join_token()) +
        "\n");
  return 0;
}

int status(bool as_json) {
  const Client client = Client::from_environment();
  const auto now = client.call<wire::ServerStatusRequest, wire::ServerStatusResponse>(
      [&](auto... a) { return client.admin().ServerStatus(a...); }, {});
  if (as_json) {
    print(json{{"server", client.server()},
               {"version", now.version()},
               {"started_at", time_of(now.started_at())},
               {"nodes", now.nodes()},
               {"nodes_connected", now.nodes_connected()},
               {"sandboxes", now.sandboxes()},
               {"pending", now.pending()},
               {"log_first", now.log_first()},
               {"log_next", now.log_next()},
               {"fenced", now.fenced()}}
              .dump() +
          "\n");
    return 0;
  }
  print("Server        " + client.server() + "\nVersion       " + harmless(now.version()) +
        "\nStarted       " + age(now.started_at().seconds()) + " ago\nNodes         " +
        std::to_string(now.nodes_connected()) + " connected of " + std::to_string(now.nodes()) +
        "\nSandboxes     " + std::to_string(now.sandboxes()) + ", of which " +
        std::to_string(now.pending()) + " wait for room\nLog           events " +
        std::to_string(now.log_first()) + " to " + std::to_string(now.log_next()) + "\n");
  if (now.fenced()) note("chalk: another server has taken over the log of this one");
  return 0;
}

int all_sandboxes(bool ended, unsigned limit, bool as_json) {
  if (limit < 1) throw Stop("--limit: expected 1 or more");
  const Client client = Client::from_environment();
  wire::ListAllSandboxesRequest request;
  request.set_include_ended(ended);
  request.set_limit(limit);
  const auto found = client.call<wire::ListAllSandboxesRequest, wire::ListAllSandboxesResponse>(
      [&](auto... a) { return client.admin().ListAllSandboxes(a...); }, request);
  json rows = json::array();
  Table table({"ID", "NAME", "STATUS", "RESTARTS", "ENVIRONMENT", "NODE", "IMAGE", "AGE"});
  for (const auto& one : found.sandboxes()) {
    rows.push_back({{"id", one.id()},
                    {"name", utf8(one.name())},
                    {"status", one.status()},
                    {"status_message", utf8(one.status_message())},
                    {"restarts", one.restarts()},
                    {"environment", one.environment()},
                    {"node", utf8(one.node())},
                    {"image", utf8(one.image())},
                    {"created_at", time_of(one.created_at())}});
    table.add({one.id(), one.name(), one.status(), std::to_string(one.restarts()),
               one.environment(), one.node(), one.image(), age(one.created_at().seconds())});
  }
  if (as_json) {
    print(rows.dump() + "\n");
  } else {
    table.print(2);
  }
  return 0;
}

void choose(CLI::App& app, Invocation& invocation, std::function<int(bool as_json)> work) {
  app.callback([work = std::move(work), &invocation] {
    invocation.chosen = [work, &invocation] { return work(invocation.json); };
  });
}

void add_environments(CLI::App& admin, Invocation& invocation) {
  CLI::App& env = group(admin, "env", "environments: each has its own sandboxes and clients");
  const auto name = std::make_shared<std::string>(), id = std::make_shared<std::string>();
  CLI::App& create = leaf(env, invocation, "create", "make an environment and print its id",
                          "Example:\n  chalk admin env create research\n\n"
                          "JSON: id, name, created_at.\n");
  create.add_option("name", *name, "for people; unique")->required();
  create.add_option("--id", *id, "lower case letters, digits, hyphens; default: drawn");
  choose(create, invocation,
         [name, id](bool as_json) { return create_environment(*name, *id, as_json); });
  choose(leaf(env, invocation, "ls", "list environments",
              "Example:\n  chalk admin env ls\n\nJSON: a list of id, name, created_at.\n"),
         invocation, list_environments);
}

void add_clients(CLI::App& admin, Invocation& invocation) {
  CLI::App& client = group(admin, "client", "who may use an environment");
  const auto flags = std::make_shared<ClientFlags>();
  CLI::App& create =
      leaf(client, invocation, "create", "make a client and print what it logs in with",
           "Example:\n  chalk admin client create --environment research > research.env\n\n"
           "JSON: client_id, client_secret, environment, role.\n");
  create.add_option("--environment", flags->environment, "its environment; default: yours");
  create.add_option("--role", flags->role, "user, or admin for all of the server")
      ->capture_default_str()
      ->check(CLI::IsMember({"user", "admin"}));
  choose(create, invocation, [flags](bool as_json) { return create_client(*flags, as_json); });
  CLI::App& ls = leaf(client, invocation, "ls", "list clients",
                      "Example:\n  chalk admin client ls\n\nJSON: a list of client_id, "
                      "environment, role, created_at, revoked_at (or null).\n");
  ls.add_option("--environment", flags->environment, "only of this one");
  choose(ls, invocation, [flags](bool as_json) { return list_clients(*flags, as_json); });
  CLI::App& revoke = leaf(client, invocation, "revoke", "end a client's access at once",
                          "What it asked for and has never run ends too; what runs stays, and is the "
                          "environment's.\n\nExample:\n  chalk admin client revoke CLIENT\n\n"
                          "JSON: client_id, revoked.\n");
  revoke.add_option("client", flags->id, "its id")->required();
  choose(revoke, invocation, [flags](bool as_json) { return revoke_client(*flags, as_json); });
}

}  // namespace

void add_nodes(CLI::App& compute, Invocation& invocation) {
  choose(leaf(compute, invocation, "nodes", "list the machines (role admin)",
              "Used and offered amounts.\n\nExample:\n  chalk compute nodes\n\n"
              "JSON: a list of name, node, state (connected, draining, lost), connected, draining, "
              "sandboxes,\ncpu_millicores, cpu_millicores_used, memory_bytes, memory_bytes_used, "
              "disk_bytes, disk_bytes_used, gpus,\npool, zone, owner, runtime, agent_version.\n"),
         invocation, nodes);
  const auto name = std::make_shared<std::string>();
  const auto switch_of = [&](const char* command, const char* does, const std::string& more,
                             int (*run)(const std::string&, bool)) {
    CLI::App& app = leaf(compute, invocation, command, std::string(does) + " (role admin)",
                         more + "Example:\n  chalk compute " + command +
                             " node-7\n\nJSON: name, draining.\n");
    app.add_option("node", *name, "its name, or its number from nodes --json")->required();
    choose(app, invocation, [name, run](bool as_json) { return run(*name, as_json); });
  };
  switch_of("drain", "let a machine take no new sandboxes",
            "Those on it go on to their end. It stays so after it was away or booted anew.\n\n",
            drain);
  switch_of("undrain", "let a drained machine take sandboxes again", "", undrain);
}

void add_admin(CLI::App& top, Invocation& invocation) {
  CLI::App& admin = group(top, "admin", "environments, clients and the server (role admin)");
  add_environments(admin, invocation);
  add_clients(admin, invocation);
  const auto token = std::make_shared<TokenFlags>();
  CLI::App& node = leaf(admin, invocation, "node-token", "a token with which a machine joins",
                        "Example:\n  chalk admin node-token --uses 3 --valid 30m\n\n"
                        "JSON: join_token, uses.\n");
  node.add_option("--uses", token->uses, "how many machines may join with it")
      ->capture_default_str();
  node.add_option("--valid", token->valid, "for how long")->capture_default_str();
  choose(node, invocation, [token](bool as_json) { return node_token(*token, as_json); });
  choose(leaf(admin, invocation, "status", "the state of the server",
              "Example:\n  chalk admin status --json\n\nJSON: server, version, started_at, nodes, "
              "nodes_connected, sandboxes, pending, log_first, log_next, fenced.\n"),
         invocation, status);
  const auto ended = std::make_shared<bool>(false);
  const auto limit = std::make_shared<unsigned>(1'000);
  CLI::App& sandboxes = leaf(admin, invocation, "sandboxes", "list sandboxes of all environments",
                             "Example:\n  chalk admin sandboxes --all\n\nJSON: a list of id, name, "
                             "status, status_message, restarts, environment, node, image, created_at.\n");
  sandboxes.add_flag("-a,--all", *ended, "also those that have ended");
  sandboxes.add_option("--limit", *limit, "at most so many, the newest")->capture_default_str();
  choose(sandboxes, invocation, [ended, limit](bool as_json) {
    return all_sandboxes(*ended, *limit, as_json);
  });
}

}  // namespace chalk::cli
