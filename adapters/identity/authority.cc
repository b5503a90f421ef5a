#include "adapters/identity/authority.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <stdexcept>

#include "adapters/identity/certificate.h"
#include "adapters/identity/keys.h"
#include "adapters/identity/private_file.h"

namespace chalk::identity {
namespace {

constexpr std::string_view kNodeUri = "urn:chalk:node:";
constexpr std::size_t kNamesMax = 64;

template <class Value>
Value or_throw(Result<Value> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}
void or_throw(Result<void> result) {
  if (!result) throw std::runtime_error(result.error().message);
}

bool is_address(const std::string& name) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, name.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, name.c_str(), bytes) == 1;
}

bool is_host_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 && name.front() != '.' && name.front() != '-' &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '.' || c == '*';
         });
}

Result<std::string> alternatives(const std::vector<std::string>& names) {
  if (names.empty() || names.size() > kNamesMax) {
    return fail(Error::Kind::invalid, "server names: found " + std::to_string(names.size()) +
                                          ", expected 1 to " + std::to_string(kNamesMax));
  }
  std::string text;
  for (const auto& name : names) {
    const bool address = is_address(name);
    if (!address && !is_host_name(name)) {
      return fail(Error::Kind::invalid, "server name '" + name.substr(0, 64) +
                                            "': expected a host name or an IP address");
    }
    text += (text.empty() ? "" : ",") + std::string(address ? "IP:" : "DNS:") + name;
  }
  return text;
}

}  // namespace

struct Authority::State {
  std::string directory;
  Key key;
  Certificate root;
  std::mutex mutex;  // one at a time makes the server's certificate

  std::string path(const char* name) const { return directory + "/" + name; }
  Certificate node_certificate(EVP_PKEY* node, std::uint64_t key_of_node) const {
    const std::string number = std::to_string(key_of_node);
    return make_certificate(
        {.common_name = "node-" + number,
         .life = kNodeLife,
         .authority = false,
         .client = true,
         .alternatives = "DNS:node-" + number + ",URI:" + std::string(kNodeUri) + number},
        node, root.get(), key.get());
  }
  Result<Credentials> kept_server(const std::vector<std::string>& names, UnixSeconds now) const;
};

Authority::Authority(const std::string& directory) : state_(std::make_unique<State>()) {
  state_->directory = directory;
  or_throw(make_private_directory(directory));
  const std::string key_path = state_->path("authority.key"),
                    root_path = state_->path("authority.crt");
  auto key_text = or_throw(read_private_file(key_path));
  auto root_text = or_throw(read_private_file(root_path));
  if (!key_text && root_text) {
    throw std::runtime_error(key_path + ": not found, but " + root_path +
                             " is there; restore the key from a backup");
  }
  if (!key_text) {
    key_text = private_pem(make_key().get());
    or_throw(write_private_file(key_path, *key_text));
  }
  auto key = key_from_pem(*key_text);
  if (!key) throw std::runtime_error(key_path + ": " + key.error().message);
  state_->key = std::move(*key);
  if (!root_text) {  // first start, or a crash between the two
    root_text =
        to_pem(make_certificate({.common_name = "Chalk private authority " + hex(random_bytes(4)),
                                 .life = kRootLife,
                                 .authority = true,
                                 .client = false,
                                 .alternatives = ""},
                                state_->key.get(), nullptr, state_->key.get())
                   .get());
    or_throw(write_private_file(root_path, *root_text));
  }
  auto root = certificate_from_pem(*root_text);
  if (!root) throw std::runtime_error(root_path + ": " + root.error().message);
  state_->root = std::move(*root);
  if (!belongs(state_->root.get(), state_->key.get())) {
    throw std::runtime_error(root_path + ": is not the certificate of " + key_path);
  }
  certificate_pem_ = *root_text;
  fingerprint_ = digest_of(state_->root.get());
}

Authority::~Authority() = default;

Result<Credentials> Authority::State::kept_server(const std::vector<std::string>& names,
                                                  UnixSeconds now) const {
  const auto absent = [&] { return fail(Error::Kind::not_found, "server certificate: none good"); };
  const auto certificate = read_private_file(path("server.crt"));
  const auto private_key = read_private_file(path("server.key"));
  if (!certificate || !*certificate || !private_key || !*private_key) return absent();
  const auto read = certificate_from_pem(**certificate);
  const auto read_key = key_from_pem(**private_key);
  if (!read || !read_key || !belongs(read->get(), read_key->get()) || !is_for(read->get(), names) ||
      needs_renewal(**certificate, now) ||
      !check_chain(read->get(), root.get(), Purpose::server, now)) {
    return absent();
  }
  return Credentials{**certificate, **private_key, to_pem(root.get())};
}

Result<Credentials> Authority::server_credentials(const std::vector<std::string>& names) {
  const auto text = alternatives(names);
  if (!text) return std::unexpected(text.error());
  const std::lock_guard lock(state_->mutex);
  if (auto kept = state_->kept_server(names, system_seconds())) return kept;
  const Key key = make_key();
  const Certificate made = make_certificate({.common_name = names.front().substr(0, 64),
                                             .life = kServerLife,
                                             .authority = false,
                                             .client = false,
                                             .alternatives = *text},
                                            key.get(), state_->root.get(), state_->key.get());
  Credentials credentials{to_pem(made.get()), private_pem(key.get()), certificate_pem_};
  // A crash between the two leaves a pair that does not belong together: it is made anew.
  for (const auto& [name, content] : {std::pair{"server.key", &credentials.private_key_pem},
                                      std::pair{"server.crt", &credentials.certificate_pem}}) {
    if (const auto written = write_private_file(state_->path(name), *content); !written) {
      return std::unexpected(written.error());
    }
  }
  return credentials;
}

Result<std::string> Authority::issue_node(const std::string& request_pem, std::uint64_t key) {
  if (key == 0) return fail(Error::Kind::invalid, "node key: found 0, expected another number");
  const auto public_key = key_from_request(request_pem);
  if (!public_key) return std::unexpected(public_key.error());
  return to_pem(state_->node_certificate(public_key->get(), key).get());
}

Result<Credentials> Authority::node_credentials(std::uint64_t key) {
  auto request = make_node_request();
  if (!request) return std::unexpected(request.error());
  auto certificate = issue_node(request->request_pem, key);
  if (!certificate) return std::unexpected(certificate.error());
  return Credentials{std::move(*certificate), std::move(request->private_key_pem),
                     certificate_pem_};
}

Result<std::uint64_t> Authority::node_key(const std::string& peer_certificate_pem,
                                          UnixSeconds now) const {
  const auto certificate = certificate_from_pem(peer_certificate_pem);
  if (!certificate) return fail(Error::Kind::denied, certificate.error().message);
  if (const auto good = check_chain(certificate->get(), state_->root.get(), Purpose::client, now);
      !good) {
    return std::unexpected(good.error());
  }
  const auto uris = uris_of(certificate->get());
  std::uint64_t key = 0;
  if (uris.size() == 1 && uris[0].starts_with(kNodeUri)) {
    const char* end = uris[0].data() + uris[0].size();
    const auto [at, code] = std::from_chars(uris[0].data() + kNodeUri.size(), end, key);
    if (code == std::errc() && at == end && key != 0) return key;
  }
  return fail(Error::Kind::denied, "certificate: is not a node's");
}

}  // namespace chalk::identity
