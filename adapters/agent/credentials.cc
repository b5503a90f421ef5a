#include "adapters/agent/credentials.h"

#include <grpcpp/grpcpp.h>

#include <charconv>
#include <chrono>
#include <fstream>
#include <sstream>

#include "adapters/identity/private_file.h"
#include "chalk/node/v1/node.grpc.pb.h"

namespace chalk::agent {
namespace {

constexpr std::size_t kPemBytesMax = 64 * 1024;

Result<std::string> read_pem(const std::string& path) {
  std::ifstream file(path);
  std::string text(kPemBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.empty()) return fail(Error::Kind::not_found, path + ": cannot be read, or is empty");
  if (text.size() > kPemBytesMax) {
    return fail(Error::Kind::invalid, path + ": is longer than any certificate");
  }
  return text;
}

Result<std::string> server_root(const Options& options) {
  if (!options.server_root_file.empty()) return read_pem(options.server_root_file);
  if (!options.server_fingerprint.empty()) {
    return fetch_root(options.server, options.server_fingerprint);
  }
  return fail(Error::Kind::invalid,
              "joining " + options.server +
                  " needs the authority's certificate or its fingerprint: without it the join "
                  "token could be sent to anyone");
}

Result<NodeIdentity> ask(const Options& options, const identity::Credentials& shown,
                         const std::string& join_token) {
  const auto request = identity::make_node_request();
  if (!request) return std::unexpected(request.error());
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = shown.root_pem;
  tls.pem_cert_chain = shown.certificate_pem;
  tls.pem_private_key = shown.private_key_pem;
  grpc::ChannelArguments arguments;
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  const auto channel =
      grpc::CreateCustomChannel(options.server, grpc::SslCredentials(tls), arguments);
  const auto stub = node::v1::NodeLink::NewStub(channel);
  node::v1::JoinRequest asked;
  asked.set_join_token(join_token);
  asked.set_csr_pem(request->request_pem);
  asked.set_node_name(options.node_name);
  node::v1::JoinResponse answer;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  context.set_wait_for_ready(true);
  const grpc::Status status = stub->Join(&context, asked, &answer);
  if (!status.ok()) {
    const bool again = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                       status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    return fail(again ? Error::Kind::unavailable : Error::Kind::denied,
                options.server + ": does not take this node: " + status.error_message());
  }
  if (answer.certificate_pem().empty() || answer.node_key() == 0) {
    return fail(Error::Kind::corrupt, options.server + ": answered a join without a certificate");
  }
  NodeIdentity joined;
  joined.credentials = {answer.certificate_pem(), request->private_key_pem, shown.root_pem};
  joined.key = answer.node_key();
  return joined;
}

Result<void> keep(const std::string& directory, const NodeIdentity& node) {
  // The certificate last: with it the set is complete.
  const std::pair<const char*, const std::string> files[] = {
      {"node.key", node.credentials.private_key_pem + "\n" + node.credentials.certificate_pem},
      {"root.crt", node.credentials.root_pem},
      {"node.number", std::to_string(node.key)}};
  // Key and certificate are one file: a crash between two writes must not part them.
  for (const auto* file : {&files[1], &files[2], &files[0]}) {
    if (auto done = identity::write_private_file(directory + "/" + file->first, file->second);
        !done) {
      return done;
    }
  }
  return {};
}

Result<NodeIdentity> kept(const std::string& directory) {
  NodeIdentity node;
  const auto both = identity::read_private_file(directory + "/node.key");
  const auto root = identity::read_private_file(directory + "/root.crt");
  const auto number = identity::read_private_file(directory + "/node.number");
  for (const auto* file : {&both, &root, &number}) {
    if (!*file) return std::unexpected(file->error());
    if (!**file) return fail(Error::Kind::not_found, directory + ": holds no certificate yet");
  }
  const std::string& text = **both;
  const std::size_t leaf = text.find("-----BEGIN CERTIFICATE-----");
  const std::string& digits = **number;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), node.key);
  if (leaf == std::string::npos || parsed.ec != std::errc{} || node.key == 0) {
    return fail(Error::Kind::corrupt,
                directory + ": is damaged: remove it and join again with a new token");
  }
  node.credentials = {text.substr(leaf), text.substr(0, leaf), **root};
  return node;
}

}  // namespace

Result<NodeIdentity> obtain_identity(const Options& options, const std::string& directory) {
  if (options.credentials) return NodeIdentity{*options.credentials, options.node_key};
  if (auto made = identity::make_private_directory(directory); !made) {
    return std::unexpected(made.error());
  }
  auto node = kept(directory);
  if (node || node.error().kind != Error::Kind::not_found) return node;
  if (options.join_token.empty()) {
    return fail(Error::Kind::invalid, directory + ": holds no certificate and no join token was "
                                                  "given: ask the server's operator for one");
  }
  auto root = server_root(options);
  if (!root) return std::unexpected(root.error());
  node = ask(options, {{}, {}, *root}, options.join_token);
  if (!node) return node;
  if (auto done = keep(directory, *node); !done) return std::unexpected(done.error());
  return node;
}

Result<NodeIdentity> renew_identity(const Options& options, const std::string& directory,
                                    const NodeIdentity& present) {
  auto node = ask(options, present.credentials, {});
  if (!node) return node;
  if (node->key != present.key) {
    return fail(Error::Kind::corrupt, options.server + ": renewed the certificate of node " +
                                          std::to_string(present.key) + " for node " +
                                          std::to_string(node->key));
  }
  if (auto done = keep(directory, *node); !done) return std::unexpected(done.error());
  return node;
}

}  // namespace chalk::agent
