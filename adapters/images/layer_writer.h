// Writes the entries of one layer below a directory, in the form that overlayfs reads. The rules
// are in unpack.h; this is where they are kept: every step is relative to an open descriptor, and
// no call follows a symlink.
#pragma once
#include <archive_entry.h>
#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/tree.h"
#include "adapters/images/unpack.h"

namespace chalk::images {

class LayerWriter {
 public:
  // The next bytes of an entry's content and where they belong; false at the end or on an error.
  using Content =
      std::function<Result<bool>(const void** data, std::size_t* size, std::int64_t* offset)>;

  LayerWriter(int root, const UnpackLimits& limits, Room::Share* share);

  // Errors name no entry: the caller does.
  Result<void> write(const std::string& path, struct archive_entry* entry, const Content& content);
  // Directories' times, which writing below them had changed.
  Result<void> finish();
  const Unpacked& counts() const { return counts_; }

 private:
  struct Place {
    int parent;  // of the cached directory
    std::string name;
  };

  Result<Place> locate(const std::vector<std::string>& parts);
  Result<File> walk(const std::vector<std::string>& parts, bool create);
  Result<File> enter(int parent, const std::string& name, bool create);
  Result<void> white_out(const Place& place, const std::string& hidden);
  // Removes what stands where an entry goes. True: a whiteout stood there.
  Result<bool> make_room(const Place& place, bool for_directory);
  Result<void> make_directory(const Place& place, struct archive_entry* entry,
                              const std::vector<std::string>& parts);
  Result<void> make_file(const Place& place, struct archive_entry* entry, const Content& content);
  Result<void> make_symlink(const Place& place, struct archive_entry* entry);
  Result<void> make_hard_link(const Place& place, const std::string& target);
  Result<void> copy_content(int file, const Content& content);
  Result<void> remember_time(const std::vector<std::string>& parts, struct archive_entry* entry);
  Result<void> account(std::int64_t bytes, std::int64_t files = 0);
  Result<void> account_name(const std::string& name);
  Result<void> account_entry(const std::string& name, std::int64_t bytes);

  int root_;
  const UnpackLimits& limits_;
  Room::Share* const share_;
  Unpacked counts_;
  std::int64_t logical_bytes_ = 0;
  std::int64_t name_bytes_ = 0;  // of names, beyond the blocks that are counted
  std::size_t remembered_bytes_ = 0;
  std::map<std::vector<std::string>, timespec> directory_times_;
  // The directory that the last entry went to: archives list a directory's entries together.
  std::vector<std::string> current_parts_;
  File current_;
  bool current_known_ = false;
};

}  // namespace chalk::images
