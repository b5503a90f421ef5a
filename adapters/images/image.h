// What an image is once its registry was asked: the digests of its manifest and layers, and what of
// its configuration starts a process. Parsing takes bytes that anybody may have written: every
// count and size has a bound; an error names the field, what was found and what was expected.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/reference.h"

namespace chalk::images {

inline constexpr std::size_t kMaxManifestBytes = 4u << 20;
inline constexpr std::size_t kMaxConfigBytes = 8u << 20;
inline constexpr std::size_t kMaxLayers = 127;  // docker's own bound; overlayfs takes 500
inline constexpr std::int64_t kMaxLayerBytes = std::int64_t{64} << 30;  // compressed

enum class Compression : std::uint8_t { none, gzip, zstd };

struct Layer {
  std::string digest;      // of the blob, as transferred
  std::string media_type;  // as the manifest says
  std::int64_t size = 0;   // of the blob
  std::string diff_id;     // digest of the uncompressed tar: the layer's name in a Store

  bool operator==(const Layer&) const = default;
};

struct ImageConfig {
  std::vector<std::string> env;  // "NAME=value"
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::string workdir;  // empty: "/"
  std::string user;     // as written: "", "1000", "1000:1000", "name"; empty: root

  bool operator==(const ImageConfig&) const = default;
};

struct Image {
  Reference reference;          // what was asked for
  std::string manifest_digest;  // of the linux/amd64 manifest, not of an index
  ImageConfig config;
  std::vector<Layer> layers;  // the lowest first

  bool operator==(const Image&) const = default;
};

// A content descriptor of a manifest.
struct Descriptor {
  std::string media_type;
  std::string digest;
  std::int64_t size = 0;

  bool operator==(const Descriptor&) const = default;
};

struct Platform {
  std::string os = "linux";
  std::string architecture = "amd64";
};

// A manifest is either an index (then `manifest` names the one for the platform) or an image's own.
struct Manifest {
  bool index = false;
  Descriptor manifest;             // index only
  Descriptor config;               // image only
  std::vector<Descriptor> layers;  // image only
};

// OCI image manifest, OCI index, docker schema 2 manifest and manifest list. `content_type`
// decides; where it is empty or generic, the document's own mediaType or its shape. An index
// without the platform is Error::not_found and names the platforms that it has.
Result<Manifest> parse_manifest(std::string_view text, std::string_view content_type,
                                const Platform& platform);

// The configuration blob. Its rootfs.diff_ids must be one for each layer of the manifest.
Result<Image> assemble_image(const Reference& reference, std::string manifest_digest,
                             const Manifest& manifest, std::string_view config_text,
                             const Platform& platform);

// gzip, zstd or none by media type; anything else (encrypted, foreign) is Error::invalid.
Result<Compression> layer_compression(std::string_view media_type);

// Bytes on disk expected after unpacking. No manifest says the uncompressed size, so this is an
// estimate: three times the blob for gzip and zstd (Debian, Python and CUDA layers measure 2
// to 3.5), the blob itself for plain tar. Store::bytes says the true number after the pull.
std::int64_t estimated_unpacked_bytes(const Layer& layer);
std::int64_t estimated_unpacked_bytes(const Image& image);
std::int64_t transfer_bytes(const Image& image);

// A resolved image as one line of JSON, for an order to a node, and back. decode_image checks
// everything again: what it accepts is safe to pull.
std::string encode_image(const Image& image);
Result<Image> decode_image(std::string_view text);

}  // namespace chalk::images
