#include "tests/adapters/images/layers.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "adapters/images/digest.h"

namespace chalk::images::testing {
namespace {

la_ssize_t append(struct archive*, void* to, const void* data, std::size_t size) {
  static_cast<std::string*>(to)->append(static_cast<const char*>(data), size);
  return static_cast<la_ssize_t>(size);
}

void must(int code, struct archive* archive) {
  if (code < ARCHIVE_WARN)
    throw std::runtime_error(archive_error_string(archive) ? archive_error_string(archive)
                                                           : "libarchive");
}

void add(struct archive* archive, const Item& item) {
  struct archive_entry* entry = archive_entry_new();
  archive_entry_set_pathname(entry, item.path.c_str());
  archive_entry_set_perm(entry, static_cast<mode_t>(item.mode));
  archive_entry_set_uid(entry, item.user);
  archive_entry_set_gid(entry, item.group);
  archive_entry_set_mtime(entry, item.time, 0);
  for (const auto& [name, value] : item.attributes)
    archive_entry_xattr_add_entry(entry, name.c_str(), value.data(), value.size());
  using Type = Item::Type;
  archive_entry_set_size(entry, 0);
  switch (item.type) {
    case Type::file:
      archive_entry_set_filetype(entry, AE_IFREG);
      archive_entry_set_size(entry, static_cast<la_int64_t>(item.content.size()));
      break;
    case Type::directory: archive_entry_set_filetype(entry, AE_IFDIR); break;
    case Type::symlink:
      archive_entry_set_filetype(entry, AE_IFLNK);
      archive_entry_set_symlink(entry, item.content.c_str());
      break;
    case Type::hard_link:
      archive_entry_set_filetype(entry, AE_IFREG);
      archive_entry_set_hardlink(entry, item.content.c_str());
      break;
    case Type::character_device:
      archive_entry_set_filetype(entry, AE_IFCHR);
      archive_entry_set_rdevmajor(entry, 0);
      archive_entry_set_rdevminor(entry, 0);
      break;
    case Type::fifo: archive_entry_set_filetype(entry, AE_IFIFO); break;
  }
  must(archive_write_header(archive, entry), archive);
  if (item.type == Type::file)
    archive_write_data(archive, item.content.data(), item.content.size());
  must(archive_write_finish_entry(archive), archive);
  archive_entry_free(entry);
}

Item make(std::string path, Item::Type type, std::string content, int mode) {
  Item item;
  item.path = std::move(path);
  item.type = type;
  item.content = std::move(content);
  item.mode = mode;
  return item;
}

}  // namespace

Item file(std::string path, std::string content, int mode) {
  return make(std::move(path), Item::Type::file, std::move(content), mode);
}
Item directory(std::string path, int mode) {
  return make(std::move(path), Item::Type::directory, "", mode);
}
Item symlink(std::string path, std::string target) {
  return make(std::move(path), Item::Type::symlink, std::move(target), 0777);
}
Item hard_link(std::string path, std::string target) {
  return make(std::move(path), Item::Type::hard_link, std::move(target), 0644);
}

std::string make_tar(const std::vector<Item>& items) {
  std::string bytes;
  struct archive* archive = archive_write_new();
  must(archive_write_set_format_pax(archive), archive);
  must(archive_write_set_options(archive, "hdrcharset=BINARY"), archive);
  must(archive_write_open(archive, &bytes, nullptr, append, nullptr), archive);
  for (const Item& item : items) add(archive, item);
  must(archive_write_close(archive), archive);
  archive_write_free(archive);
  return bytes;
}

std::string compress(const std::string& bytes, Compression compression) {
  if (compression == Compression::none) return bytes;
  std::string out;
  struct archive* archive = archive_write_new();
  must(archive_write_set_format_raw(archive), archive);
  must(compression == Compression::gzip ? archive_write_add_filter_gzip(archive)
                                        : archive_write_add_filter_zstd(archive),
       archive);
  if (compression == Compression::gzip)
    must(archive_write_set_options(archive, "!timestamp"), archive);
  archive_write_set_bytes_in_last_block(archive, 1);
  must(archive_write_open(archive, &out, nullptr, append, nullptr), archive);
  struct archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  must(archive_write_header(archive, entry), archive);
  archive_write_data(archive, bytes.data(), bytes.size());
  archive_entry_free(entry);
  must(archive_write_close(archive), archive);
  archive_write_free(archive);
  return out;
}

Blob make_blob(const std::string& tar, Compression compression) {
  Blob blob;
  blob.bytes = compress(tar, compression);
  blob.layer.digest = sha256_digest(blob.bytes);
  blob.layer.diff_id = sha256_digest(tar);
  blob.layer.size = static_cast<std::int64_t>(blob.bytes.size());
  blob.layer.media_type = "application/vnd.oci.image.layer.v1.tar";
  if (compression == Compression::gzip) blob.layer.media_type += "+gzip";
  if (compression == Compression::zstd) blob.layer.media_type += "+zstd";
  return blob;
}

Blob make_layer(const std::vector<Item>& items, Compression compression) {
  return make_blob(make_tar(items), compression);
}

Published publish(const std::vector<Blob>& layers, bool docker_types) {
  using nlohmann::json;
  Published published;
  json diff_ids = json::array();
  json descriptors = json::array();
  for (const Blob& blob : layers) {
    published.blobs[blob.layer.digest] = blob.bytes;
    diff_ids.push_back(blob.layer.diff_id);
    descriptors.push_back(
        {{"mediaType", docker_types ? "application/vnd.docker.image.rootfs.diff.tar.gzip"
                                    : blob.layer.media_type},
         {"digest", blob.layer.digest},
         {"size", blob.layer.size}});
  }
  published.config = json{{"os", "linux"},
                          {"architecture", "amd64"},
                          {"config",
                           {{"Env", {"PATH=/usr/bin:/bin", "LANG=C.UTF-8"}},
                            {"Entrypoint", nullptr},
                            {"Cmd", {"python3"}},
                            {"WorkingDir", "/app"},
                            {"User", "1000:1000"}}},
                          {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}}
                         .dump();
  published.blobs[sha256_digest(published.config)] = published.config;
  if (docker_types)
    published.manifest_type = "application/vnd.docker.distribution.manifest.v2+json";
  published.manifest = json{
      {"schemaVersion", 2},
      {"mediaType", published.manifest_type},
      {"config",
       {{"mediaType", docker_types ? "application/vnd.docker.container.image.v1+json"
                                   : "application/vnd.oci.image.config.v1+json"},
        {"digest", sha256_digest(published.config)},
        {"size", published.config.size()}}},
      {"layers",
       descriptors}}.dump();
  return published;
}

}  // namespace chalk::images::testing
