#include "adapters/images/registry.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <random>

#include "adapters/images/authorize.h"
#include "adapters/images/digest.h"
#include "adapters/images/http.h"

namespace chalk::images {
namespace {

constexpr std::string_view kAccept =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json";
// A download that got this much further than ever before earns its full number of attempts again.
constexpr std::int64_t kProgressThatCounts = 8 << 20;

// What a server wrote may go to a log or a terminal: one line, printable, short.
std::string shown(std::string_view text) {
  std::string line(text.substr(0, 200));
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) >= 127) c = ' ';
  return line;
}

Error error_of(const Reply& reply, const std::string& what) {
  if (reply.refused || reply.code == CURLE_PEER_FAILED_VERIFICATION)
    return {Error::Kind::denied, what + ": " + shown(reply.problem)};
  if (reply.code == CURLE_OPERATION_TIMEDOUT)
    return {Error::Kind::timeout, what + ": " + shown(reply.problem)};
  if (reply.code != CURLE_OK) return {Error::Kind::unavailable, what + ": " + shown(reply.problem)};
  const std::string found = what + ": the server answers " + std::to_string(reply.status) +
                            (reply.body.empty() ? "" : ", " + shown(reply.body));
  if (reply.status == 404) return {Error::Kind::not_found, found};
  if (reply.status == 401 || reply.status == 403) return {Error::Kind::denied, found};
  return {reply.passing() ? Error::Kind::unavailable : Error::Kind::failed, found};
}

Error stopped(const std::string& what) { return {Error::Kind::unavailable, what + ": stopped"}; }

bool write_all(int file, std::string_view data, std::int64_t at) {
  while (!data.empty()) {
    const ssize_t written = pwrite(file, data.data(), data.size(), at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(written));
    at += written;
  }
  return true;
}

struct Document {
  std::string body;
  std::string content_type;
  std::string digest;
};

// Bytes of one blob on their way into a file, over any number of connections.
struct Incoming {
  const Layer& layer;
  int file;
  const Registry::Received& received;
  Sha256 hash{};
  std::int64_t bytes = 0;
  std::int64_t farthest = 0;
  int write_error = 0;
  bool too_long = false;

  bool restart() {
    hash = Sha256();
    bytes = 0;
    if (ftruncate(file, 0) == 0) return true;
    write_error = errno;
    return false;
  }
  bool begin(long status, std::int64_t first) {
    if (status == 206) return first == bytes;
    return bytes == 0 || restart();
  }
  bool take(std::string_view data) {
    if (static_cast<std::int64_t>(data.size()) > layer.size - bytes) {
      too_long = true;
      return false;
    }
    if (!write_all(file, data, bytes)) {
      write_error = errno;
      return false;
    }
    hash.update(data.data(), data.size());
    bytes += static_cast<std::int64_t>(data.size());
    if (received) received(bytes, layer.size);
    return true;
  }
};

}  // namespace

struct Registry::Client {
  Registries configuration;
  Http http{configuration};
  Authorizer authorizer{configuration, http};

  // Sleeps before try number `failures` + 1. False: a stop was asked for.
  bool pause(int failures, std::chrono::milliseconds retry_after, std::stop_token stop) const {
    thread_local std::minstd_rand random{std::random_device{}()};
    auto wait = configuration.backoff;
    for (int i = 1; i < failures && wait < configuration.backoff_max; ++i) wait *= 2;
    wait = std::min(std::max(wait, retry_after), configuration.backoff_max);
    wait = wait / 2 + wait * static_cast<int>(random() % 512) / 1024;
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait_for(lock, stop, wait, [] { return false; });
    return !stop.stop_requested();
  }

  Result<Reply> authorized(const Endpoint& endpoint, const std::string& repository,
                           Get request) const {
    request.authorization = authorizer.known(endpoint, repository);
    Reply reply = http.get(request);
    if (reply.code != CURLE_OK || reply.status != 401 || reply.challenge.empty()) return reply;
    auto answer = authorizer.answer(endpoint, repository, reply.challenge, request.stop);
    if (!answer) return std::unexpected(answer.error());
    request.authorization = std::move(*answer);
    return http.get(request);
  }

  // Whether to try the same endpoint again. One that does not even accept connections is left at
  // once when there is another.
  bool again(const Reply& reply, int failures, bool last) const {
    if (!last && (reply.code == CURLE_COULDNT_CONNECT || reply.code == CURLE_COULDNT_RESOLVE_HOST))
      return false;
    return reply.passing() && failures < configuration.attempts;
  }

  static std::string url(const Endpoint& endpoint, const std::string& repository,
                         const std::string& rest) {
    return (endpoint.insecure ? "http://" : "https://") + endpoint.host + "/v2/" + repository +
           "/" + rest;
  }

  Result<Document> fetch(const Endpoint& endpoint, bool last, const std::string& repository,
                         const std::string& rest, std::size_t most, std::stop_token stop) const {
    Document document;
    bool too_long = false;
    Get request;
    request.url = url(endpoint, repository, rest);
    request.insecure = endpoint.insecure;
    request.stop = stop;
    request.headers = {std::string(kAccept)};
    request.sink = [&](std::string_view data) {
      too_long = data.size() > most - document.body.size();
      if (!too_long) document.body += data;
      return !too_long;
    };
    for (int failures = 1;; ++failures) {
      document.body.clear();
      auto reply = authorized(endpoint, repository, request);
      if (stop.stop_requested()) return std::unexpected(stopped(request.url));
      if (!reply &&
          (reply.error().kind != Error::Kind::unavailable || failures >= configuration.attempts))
        return std::unexpected(reply.error());
      if (too_long)
        return fail(Error::Kind::corrupt,
                    request.url + ": longer than " + std::to_string(most) + " bytes");
      if (reply && reply->worked()) {
        document.content_type = reply->content_type;
        document.digest = sha256_digest(document.body);
        if (valid_digest(reply->content_digest) && reply->content_digest != document.digest)
          return fail(Error::Kind::corrupt, request.url + ": the server says " +
                                                reply->content_digest + ", its bytes are " +
                                                document.digest);
        return document;
      }
      if (reply && !again(*reply, failures, last))
        return std::unexpected(error_of(*reply, request.url));
      if (!pause(failures, reply ? reply->retry_after : std::chrono::milliseconds(0), stop))
        return std::unexpected(stopped(request.url));
    }
  }

  // The same, for content whose digest is known.
  Result<Document> fetch_known(const Endpoint& endpoint, bool last, const std::string& repository,
                               const char* kind, const Descriptor& descriptor,
                               std::stop_token stop) const {
    auto document = fetch(endpoint, last, repository, kind + descriptor.digest,
                          static_cast<std::size_t>(descriptor.size), stop);
    if (!document) return document;
    const std::string where = url(endpoint, repository, kind + descriptor.digest);
    if (document->digest != descriptor.digest)
      return fail(Error::Kind::corrupt, where + ": its bytes are " + document->digest);
    if (static_cast<std::int64_t>(document->body.size()) != descriptor.size)
      return fail(Error::Kind::corrupt, where + ": " + std::to_string(document->body.size()) +
                                            " bytes, its descriptor says " +
                                            std::to_string(descriptor.size));
    return document;
  }

  Result<Image> resolve(const Endpoint& endpoint, bool last, const Reference& reference,
                        std::stop_token stop) const {
    const std::string& repository = reference.repository;
    const std::string& version = reference.digest.empty() ? reference.tag : reference.digest;
    auto top = fetch(endpoint, last, repository, "manifests/" + version, kMaxManifestBytes, stop);
    if (!top) return std::unexpected(top.error());
    if (!reference.digest.empty() && top->digest != reference.digest)
      return fail(Error::Kind::corrupt, url(endpoint, repository, "manifests/" + version) +
                                            ": its bytes are " + top->digest);
    auto manifest = parse_manifest(top->body, top->content_type, configuration.platform);
    std::string digest = top->digest;
    if (manifest && manifest->index) {
      const Descriptor chosen = manifest->manifest;
      auto own = fetch_known(endpoint, last, repository, "manifests/", chosen, stop);
      if (!own) return std::unexpected(own.error());
      digest = own->digest;
      manifest = parse_manifest(own->body, own->content_type, configuration.platform);
      if (manifest && manifest->index)
        return fail(Error::Kind::invalid, to_string(reference) + ": an index within an index");
    }
    if (!manifest) return std::unexpected(manifest.error());
    auto config = fetch_known(endpoint, last, repository, "blobs/", manifest->config, stop);
    if (!config) return std::unexpected(config.error());
    return assemble_image(reference, std::move(digest), *manifest, config->body,
                          configuration.platform);
  }

  // Of a blob. What a server trickles for ever others may wait for.
  std::chrono::milliseconds longest(std::int64_t size) const {
    return 2 * configuration.request_timeout +
           std::chrono::seconds(size / configuration.slowest_bytes_per_second);
  }

  Result<void> download(const Endpoint& endpoint, bool last, const std::string& repository,
                        Incoming& incoming, std::stop_token stop) const {
    Get request;
    request.url = url(endpoint, repository, "blobs/" + incoming.layer.digest);
    request.insecure = endpoint.insecure;
    request.stream = true;
    request.stop = stop;
    request.begin = [&](long status, std::int64_t first) { return incoming.begin(status, first); };
    request.sink = [&](std::string_view data) { return incoming.take(data); };
    const std::int64_t size = incoming.layer.size;
    const auto until = std::chrono::steady_clock::now() + longest(size);
    for (int failures = 1;; ++failures) {
      request.offset = incoming.bytes;
      request.longest = std::chrono::duration_cast<std::chrono::milliseconds>(
          until - std::chrono::steady_clock::now());
      if (request.longest.count() <= 0)
        return fail(Error::Kind::timeout, request.url + ": has sent " +
                                              std::to_string(incoming.bytes) + " of " +
                                              std::to_string(size) + " bytes within " +
                                              std::to_string(longest(size).count() / 1000) + " s");
      auto reply = authorized(endpoint, repository, request);
      if (stop.stop_requested()) return std::unexpected(stopped(request.url));
      if (incoming.write_error)
        return fail(incoming.write_error == ENOSPC || incoming.write_error == EDQUOT
                        ? Error::Kind::exhausted
                        : Error::Kind::failed,
                    request.url + ": cannot be written: " + std::strerror(incoming.write_error));
      if (incoming.too_long)
        return fail(Error::Kind::corrupt, request.url + ": longer than the " +
                                              std::to_string(size) + " bytes of its descriptor");
      if (!reply &&
          (reply.error().kind != Error::Kind::unavailable || failures >= configuration.attempts))
        return std::unexpected(reply.error());
      if (incoming.bytes == size && reply && (reply->worked() || size > 0)) {
        const std::string digest = incoming.hash.digest();
        if (digest == incoming.layer.digest) return {};
        return fail(Error::Kind::corrupt, request.url + ": its bytes are " + digest);
      }
      // Here the connection was cut, or the server had no more than this.
      Reply cut = reply ? *reply : Reply{};
      if (reply && reply->worked()) cut.code = CURLE_PARTIAL_FILE;
      if (reply && (reply->status == 416 || (reply->refused && incoming.bytes > 0))) {
        if (!incoming.restart()) continue;
        cut = {};
        cut.code = CURLE_RANGE_ERROR;
      }
      if (incoming.bytes >= incoming.farthest + kProgressThatCounts) {
        incoming.farthest = incoming.bytes;
        failures = 1;
      }
      if (reply && !again(cut, failures, last)) {
        if (cut.problem.empty() && cut.code != CURLE_OK)
          cut.problem = "ended after " + std::to_string(incoming.bytes) + " of " +
                        std::to_string(size) + " bytes";
        return std::unexpected(error_of(cut, request.url));
      }
      if (!pause(failures, cut.retry_after, stop)) return std::unexpected(stopped(request.url));
    }
  }

  // Tries the endpoints in order; the error tells of all, its kind is the last one's.
  template <class Try>
  auto each_endpoint(const Reference& reference, std::stop_token stop, const Try& attempt) const
      -> decltype(attempt(Endpoint{}, true)) {
    const std::vector<Endpoint> endpoints = configuration.endpoints(reference.registry);
    if (endpoints.empty())
      return fail(Error::Kind::denied, to_string(reference) + ": registry " + reference.registry +
                                           " has no mirror and may not be asked itself");
    Error all;
    for (std::size_t i = 0; i < endpoints.size(); ++i) {
      auto result = attempt(endpoints[i], i + 1 == endpoints.size());
      if (result) return result;
      all.kind = result.error().kind;
      all.message += (i ? "; " : "") + result.error().message;
      if (stop.stop_requested() || all.kind == Error::Kind::exhausted) break;
    }
    return std::unexpected(std::move(all));
  }
};

Registry::Registry(Registries configuration)
    : client_(std::make_unique<Client>(std::move(configuration))) {}
Registry::~Registry() = default;

const Registries& Registry::configuration() const { return client_->configuration; }

Result<Image> Registry::resolve(const Reference& reference, std::stop_token stop) const {
  return client_->each_endpoint(reference, stop, [&](const Endpoint& endpoint, bool last) {
    return client_->resolve(endpoint, last, reference, stop);
  });
}

Result<void> Registry::download(const Reference& repository, const Layer& layer, int file,
                                const Received& received, std::stop_token stop) const {
  if (!valid_digest(layer.digest) || layer.size < 0 || layer.size > kMaxLayerBytes)
    return fail(Error::Kind::invalid, "layer \"" + shown(layer.digest) + "\" of " +
                                          std::to_string(layer.size) + " bytes: no valid layer");
  bool may_pass = false;  // with one of them: then what the last one lacks is not all there is
  auto done = client_->each_endpoint(
      repository, stop, [&](const Endpoint& endpoint, bool last) -> Result<void> {
        Incoming incoming{layer, file, received};
        if (!incoming.restart())
          return fail(Error::Kind::failed,
                      std::string("blob file: cannot be emptied: ") + std::strerror(errno));
        auto got = client_->download(endpoint, last, repository.repository, incoming, stop);
        may_pass = may_pass || (!got && (got.error().kind == Error::Kind::unavailable ||
                                         got.error().kind == Error::Kind::timeout));
        return got;
      });
  if (!done && may_pass && done.error().kind != Error::Kind::exhausted &&
      done.error().kind != Error::Kind::timeout) {
    done.error().kind = Error::Kind::unavailable;
  }
  return done;
}

}  // namespace chalk::images
