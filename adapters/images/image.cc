#include "adapters/images/image.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "adapters/images/digest.h"

namespace chalk::images {
namespace {

using nlohmann::json;
constexpr std::size_t kMaxStrings = 4096;
constexpr std::size_t kMaxString = 128 << 10;  // Linux' own bound on one argument
constexpr std::size_t kMaxEntries = 4096;      // of an index

std::unexpected<Error> corrupt(const std::string& why) { return fail(Error::Kind::corrupt, why); }

const json* member(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_member(const json& object, const char* key) {
  const json* found = member(object, key);
  return found && found->is_string() ? found->get<std::string>() : std::string();
}

Result<std::string> bounded_text(const json& value, const std::string& place) {
  if (!value.is_string()) return corrupt(place + ": expected a string");
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > kMaxString) return corrupt(place + ": longer than 128 KiB");
  if (text.find('\0') != std::string::npos) return corrupt(place + ": contains a zero byte");
  return text;
}

Result<std::vector<std::string>> texts(const json& object, const char* key,
                                       const std::string& where) {
  std::vector<std::string> all;
  const json* array = member(object, key);
  if (!array) return all;
  const std::string place = where + "." + key;
  if (!array->is_array() || array->size() > kMaxStrings)
    return corrupt(place + ": expected an array of at most 4096 strings");
  for (const json& value : *array) {
    auto text = bounded_text(value, place);
    if (!text) return std::unexpected(text.error());
    all.push_back(std::move(*text));
  }
  return all;
}

Result<std::string> text(const json& object, const char* key, const std::string& where) {
  const json* value = member(object, key);
  return value ? bounded_text(*value, where + "." + key) : std::string();
}

Result<Descriptor> descriptor(const json* value, const std::string& place, std::int64_t most) {
  if (!value || !value->is_object()) return corrupt(place + ": expected a descriptor");
  Descriptor found{text_member(*value, "mediaType"), text_member(*value, "digest"), -1};
  if (!valid_digest(found.digest))
    return corrupt(place + ".digest: \"" + found.digest.substr(0, 100) + "\" is no sha256 digest");
  const json* size = member(*value, "size");
  if (!size || !size->is_number_integer() || *size < 0 || *size > most)
    return corrupt(place + ".size: expected a whole number from 0 to " + std::to_string(most));
  found.size = size->get<std::int64_t>();
  if (found.media_type.size() > 255) return corrupt(place + ".mediaType: longer than 255 bytes");
  return found;
}

enum class Shape { unknown, index, image, schema1 };
Shape shape_of(std::string_view media_type) {
  const auto end = media_type.find_first_of("; ");
  const std::string_view type = media_type.substr(0, end);
  if (type == "application/vnd.oci.image.index.v1+json" ||
      type == "application/vnd.docker.distribution.manifest.list.v2+json")
    return Shape::index;
  if (type == "application/vnd.oci.image.manifest.v1+json" ||
      type == "application/vnd.docker.distribution.manifest.v2+json")
    return Shape::image;
  if (type == "application/vnd.docker.distribution.manifest.v1+json" ||
      type == "application/vnd.docker.distribution.manifest.v1+prettyjws")
    return Shape::schema1;
  return Shape::unknown;
}

Result<Shape> decide_shape(const json& document, std::string_view content_type) {
  const Shape by_header = shape_of(content_type);
  const Shape by_document = shape_of(text_member(document, "mediaType"));
  if (by_header != Shape::unknown && by_document != Shape::unknown && by_header != by_document)
    return corrupt("manifest: the server says it is " + std::string(content_type.substr(0, 100)) +
                   ", the document says " + text_member(document, "mediaType").substr(0, 100));
  const bool manifests = member(document, "manifests");
  const bool layers = member(document, "layers");
  if (manifests && layers) return corrupt("manifest: has both manifests and layers");
  Shape shape = by_header != Shape::unknown ? by_header : by_document;
  if (shape == Shape::unknown)
    shape = manifests ? Shape::index : layers ? Shape::image : Shape::unknown;
  if (shape == Shape::schema1 || (shape == Shape::unknown && member(document, "fsLayers")))
    return fail(Error::Kind::invalid,
                "manifest: docker schema 1 is not supported; push it again "
                "with a tool of this decade");
  if (shape == Shape::unknown)
    return corrupt("manifest: neither an image manifest nor an index (content type \"" +
                   std::string(content_type.substr(0, 100)) + "\")");
  return shape;
}

Result<Manifest> parse_index(const json& document, const Platform& platform) {
  const json* manifests = member(document, "manifests");
  if (!manifests || !manifests->is_array() || manifests->size() > kMaxEntries)
    return corrupt("index.manifests: expected an array of at most 4096 descriptors");
  const json* chosen = nullptr;
  std::string others;
  for (const json& entry : *manifests) {
    const json* about = member(entry, "platform");
    if (!about) continue;
    const std::string os = text_member(*about, "os");
    const std::string architecture = text_member(*about, "architecture");
    const std::string variant = text_member(*about, "variant");
    if (os == platform.os && architecture == platform.architecture) {
      // amd64/v3 and the like need a newer machine: taken only when there is nothing plainer.
      if (variant.empty() || variant == "v1") {
        chosen = &entry;
        break;
      }
      if (!chosen) chosen = &entry;
    } else if (others.size() < 300 && os != "unknown") {
      others += (others.empty() ? "" : ", ") + os.substr(0, 30) + "/" + architecture.substr(0, 30);
    }
  }
  if (!chosen)
    return fail(Error::Kind::not_found, "no image for " + platform.os + "/" +
                                            platform.architecture + "; the index has " +
                                            (others.empty() ? "none at all" : others));
  auto found = descriptor(chosen, "index.manifests", kMaxManifestBytes);
  if (!found) return std::unexpected(found.error());
  Manifest manifest;
  manifest.index = true;
  manifest.manifest = std::move(*found);
  return manifest;
}

Result<Manifest> parse_image_manifest(const json& document) {
  Manifest manifest;
  auto config = descriptor(member(document, "config"), "manifest.config", kMaxConfigBytes);
  if (!config) return std::unexpected(config.error());
  manifest.config = std::move(*config);
  const json* layers = member(document, "layers");
  if (!layers || !layers->is_array()) return corrupt("manifest.layers: expected an array");
  if (layers->size() > kMaxLayers)
    return fail(Error::Kind::invalid, "manifest.layers: " + std::to_string(layers->size()) +
                                          " layers, at most 127 are supported");
  for (std::size_t i = 0; i < layers->size(); ++i) {
    auto layer =
        descriptor(&(*layers)[i], "manifest.layers[" + std::to_string(i) + "]", kMaxLayerBytes);
    if (!layer) return std::unexpected(layer.error());
    if (auto known = layer_compression(layer->media_type); !known)
      return std::unexpected(known.error());
    manifest.layers.push_back(std::move(*layer));
  }
  return manifest;
}

Result<ImageConfig> parse_process(const json& document) {
  ImageConfig config;
  const json* process = member(document, "config");
  if (!process) return config;
  if (!process->is_object()) return corrupt("image configuration: config: expected an object");
  const std::string where = "image configuration: config";
  auto env = texts(*process, "Env", where);
  auto entrypoint = texts(*process, "Entrypoint", where);
  auto cmd = texts(*process, "Cmd", where);
  auto workdir = text(*process, "WorkingDir", where);
  auto user = text(*process, "User", where);
  for (const auto* list : {&env, &entrypoint, &cmd})
    if (!*list) return std::unexpected(list->error());
  for (const auto* value : {&workdir, &user})
    if (!*value) return std::unexpected(value->error());
  for (const std::string& variable : *env)
    if (const auto equals = variable.find('='); equals == 0 || equals == std::string::npos)
      return corrupt(where + ".Env: \"" + variable.substr(0, 60) + "\", expected NAME=value");
  return ImageConfig{std::move(*env), std::move(*entrypoint), std::move(*cmd), std::move(*workdir),
                     std::move(*user)};
}

json process_json(const ImageConfig& config) {
  return {{"Env", config.env},
          {"Entrypoint", config.entrypoint},
          {"Cmd", config.cmd},
          {"WorkingDir", config.workdir},
          {"User", config.user}};
}

}  // namespace

Result<Manifest> parse_manifest(std::string_view text, std::string_view content_type,
                                const Platform& platform) {
  if (text.size() > kMaxManifestBytes) return corrupt("manifest: more than 4 MiB");
  const json document = json::parse(text, nullptr, false);
  if (!document.is_object()) return corrupt("manifest: is not a JSON object");
  const auto shape = decide_shape(document, content_type);
  if (!shape) return std::unexpected(shape.error());
  return *shape == Shape::index ? parse_index(document, platform) : parse_image_manifest(document);
}

Result<Image> assemble_image(const Reference& reference, std::string manifest_digest,
                             const Manifest& manifest, std::string_view config_text,
                             const Platform& platform) {
  if (config_text.size() > kMaxConfigBytes) return corrupt("image configuration: more than 8 MiB");
  const json document = json::parse(config_text, nullptr, false);
  if (!document.is_object()) return corrupt("image configuration: is not a JSON object");
  const std::string os = text_member(document, "os");
  const std::string architecture = text_member(document, "architecture");
  if ((!os.empty() && os != platform.os) ||
      (!architecture.empty() && architecture != platform.architecture))
    return fail(Error::Kind::not_found, "the image is for " + os.substr(0, 30) + "/" +
                                            architecture.substr(0, 30) + ", expected " +
                                            platform.os + "/" + platform.architecture);
  auto config = parse_process(document);
  if (!config) return std::unexpected(config.error());
  const json* rootfs = member(document, "rootfs");
  auto diff_ids =
      texts(rootfs ? *rootfs : json::object(), "diff_ids", "image configuration: rootfs");
  if (!diff_ids) return std::unexpected(diff_ids.error());
  if (diff_ids->size() != manifest.layers.size())
    return corrupt("image configuration: " + std::to_string(diff_ids->size()) +
                   " diff_ids for the manifest's " + std::to_string(manifest.layers.size()) +
                   " layers");
  Image image{reference, std::move(manifest_digest), std::move(*config), {}};
  for (std::size_t i = 0; i < diff_ids->size(); ++i) {
    if (!valid_digest((*diff_ids)[i]))
      return corrupt("image configuration: rootfs.diff_ids[" + std::to_string(i) +
                     "] is no sha256 digest");
    const Descriptor& layer = manifest.layers[i];
    image.layers.push_back({layer.digest, layer.media_type, layer.size, (*diff_ids)[i]});
  }
  return image;
}

Result<Compression> layer_compression(std::string_view type) {
  if (type == "application/vnd.oci.image.layer.v1.tar+gzip" ||
      type == "application/vnd.docker.image.rootfs.diff.tar.gzip")
    return Compression::gzip;
  if (type == "application/vnd.oci.image.layer.v1.tar+zstd" ||
      type == "application/vnd.docker.image.rootfs.diff.tar.zstd")
    return Compression::zstd;
  if (type == "application/vnd.oci.image.layer.v1.tar" ||
      type == "application/vnd.docker.image.rootfs.diff.tar")
    return Compression::none;
  return fail(Error::Kind::invalid, "layer of type \"" + std::string(type.substr(0, 100)) +
                                        "\": expected an OCI or docker layer in tar, gzip or zstd");
}

std::int64_t estimated_unpacked_bytes(const Layer& layer) {
  const auto compression = layer_compression(layer.media_type);
  return compression && *compression == Compression::none ? layer.size : layer.size * 3;
}

std::int64_t estimated_unpacked_bytes(const Image& image) {
  std::int64_t bytes = 0;
  for (const Layer& layer : image.layers) bytes += estimated_unpacked_bytes(layer);
  return bytes;
}

std::int64_t transfer_bytes(const Image& image) {
  std::int64_t bytes = 0;
  for (const Layer& layer : image.layers) bytes += layer.size;
  return bytes;
}

std::string encode_image(const Image& image) {
  json layers = json::array();
  for (const Layer& layer : image.layers)
    layers.push_back({{"digest", layer.digest},
                      {"mediaType", layer.media_type},
                      {"size", layer.size},
                      {"diffId", layer.diff_id}});
  return json{{"reference", to_string(image.reference)},
              {"manifestDigest", image.manifest_digest},
              {"config", process_json(image.config)},
              {"layers", std::move(layers)}}
      .dump();
}

Result<Image> decode_image(std::string_view encoded) {
  if (encoded.size() > kMaxConfigBytes + kMaxManifestBytes)
    return corrupt("image: more than 12 MiB");
  const json document = json::parse(encoded, nullptr, false);
  if (!document.is_object()) return corrupt("image: is not a JSON object");
  auto reference = parse_reference(text_member(document, "reference"));
  if (!reference) return std::unexpected(reference.error());
  auto config = parse_process(document);
  if (!config) return std::unexpected(config.error());
  Image image{
      std::move(*reference), text_member(document, "manifestDigest"), std::move(*config), {}};
  if (!valid_digest(image.manifest_digest))
    return corrupt("image.manifestDigest: no sha256 digest");
  const json* layers = member(document, "layers");
  if (!layers || !layers->is_array() || layers->size() > kMaxLayers)
    return corrupt("image.layers: expected an array of at most 127 layers");
  for (const json& entry : *layers) {
    auto found = descriptor(&entry, "image.layers", kMaxLayerBytes);
    if (!found) return std::unexpected(found.error());
    if (auto known = layer_compression(found->media_type); !known)
      return std::unexpected(known.error());
    std::string diff_id = text_member(entry, "diffId");
    if (!valid_digest(diff_id)) return corrupt("image.layers.diffId: no sha256 digest");
    image.layers.push_back({found->digest, found->media_type, found->size, std::move(diff_id)});
  }
  return image;
}

}  // namespace chalk::images
