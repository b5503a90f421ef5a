#include "adapters/images/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "adapters/images/layer_writer.h"
#include "adapters/images/tar_stream.h"

namespace chalk::images {
namespace {

// libarchive converts names into the locale's character set, and would replace what that lacks.
// With UTF-8 names stay the bytes they are. Of this thread only, and only meanwhile.
class Utf8Names {
 public:
  Utf8Names() : locale_(newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_) before_ = uselocale(locale_);
  }
  ~Utf8Names() {
    if (!locale_) return;
    uselocale(before_);
    freelocale(locale_);
  }
  Utf8Names(const Utf8Names&) = delete;
  Utf8Names& operator=(const Utf8Names&) = delete;

 private:
  locale_t locale_;
  locale_t before_ = nullptr;
};

std::string shown(std::string text) {
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return text;
}

Error archive_error(struct archive* tar, const TarStream& stream) {
  if (!stream.state()) return stream.state().error();
  const char* text = archive_error_string(tar);
  return {Error::Kind::corrupt, std::string("layer: ") + shown(text ? text : "unreadable")};
}

Result<void> write_entries(struct archive* tar, const TarStream& stream, LayerWriter& writer) {
  const LayerWriter::Content content = [&](const void** data, std::size_t* size,
                                           std::int64_t* offset) -> Result<bool> {
    la_int64_t at = 0;
    const int code = archive_read_data_block(tar, data, size, &at);
    *offset = at;
    if (code == ARCHIVE_EOF) return false;
    if (code == ARCHIVE_OK) return true;
    return std::unexpected(archive_error(tar, stream));
  };
  while (true) {
    struct archive_entry* entry = nullptr;
    const int code = archive_read_next_header(tar, &entry);
    if (code == ARCHIVE_EOF) break;
    // A warning is about something that we do not need, such as the name of an owner.
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN)
      return std::unexpected(archive_error(tar, stream));
    const char* name = archive_entry_pathname(entry);
    if (!name) return fail(Error::Kind::corrupt, "layer: an entry without a readable name");
    const std::string path = name;
    if (auto written = writer.write(path, entry, content); !written)
      return fail(written.error().kind,
                  "layer: entry \"" + shown(path) + "\": " + shown(written.error().message));
  }
  if (!stream.state()) return std::unexpected(stream.state().error());
  return writer.finish();
}

}  // namespace

Result<Unpacked> unpack_layer(int blob, Compression compression, int root,
                              const std::string& diff_id, const UnpackLimits& limits,
                              std::stop_token stop, Room::Share* share) {
  const Utf8Names names;
  TarStream stream(blob, compression, limits, stop);
  if (auto opened = stream.open(); !opened) return std::unexpected(opened.error());
  LayerWriter writer(root, limits, share);
  {
    const auto tar = stream.open_tar();
    if (!tar) return std::unexpected(tar.error());
    if (auto written = write_entries(tar->get(), stream, writer); !written)
      return std::unexpected(written.error());
  }
  auto digest = stream.finish();
  if (!digest) return std::unexpected(digest.error());
  if (!diff_id.empty() && *digest != diff_id)
    return fail(Error::Kind::corrupt, "layer: unpacks to " + *digest + ", expected " + diff_id);
  Unpacked unpacked = writer.counts();
  unpacked.diff_id = std::move(*digest);
  return unpacked;
}

}  // namespace chalk::images
