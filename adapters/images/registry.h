// Client of the OCI distribution protocol over libcurl: resolves references and downloads blobs.
// Tries a registry's mirrors in order, then itself; answers basic and bearer challenges; follows
// redirects without taking credentials to another host; retries what may pass (connection lost,
// 408, 429, 5xx) a bounded number of times with backoff. Bytes are checked against their digest
// before anyone sees them. Thread-safe: each call uses a handle of its own; idle ones keep
// connections.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "adapters/error.h"
#include "adapters/images/image.h"
#include "adapters/images/reference.h"
#include "adapters/images/registries.h"

namespace chalk::images {

class Registry {
 public:
  // Bytes of the blob that have arrived so far, and in all. Called from the calling thread.
  using Received = std::function<void(std::int64_t bytes, std::int64_t total)>;

  // Throws std::runtime_error if libcurl does not start.
  explicit Registry(Registries configuration);
  ~Registry();

  // Manifest (through an index to the platform's), configuration, layers. Errors: not_found (no
  // such repository, tag or platform), denied (credentials), unavailable/timeout (after all
  // retries), corrupt (digest or size differ, not a manifest), invalid (an image that we cannot
  // run). Blocks.
  Result<Image> resolve(const Reference& reference, std::stop_token stop = {}) const;

  // Streams a blob into `file` (a descriptor open for reading and writing; truncated first),
  // checking size and digest. After a cut it goes on from where it was by Range if the server can,
  // else from the start. Nothing of a failed download may be used. A stop request ends it with
  // Error::unavailable.
  Result<void> download(const Reference& repository, const Layer& layer, int file,
                        const Received& received = {}, std::stop_token stop = {}) const;

  const Registries& configuration() const;

 private:
  struct Client;
  std::unique_ptr<Client> client_;
};

}  // namespace chalk::images
