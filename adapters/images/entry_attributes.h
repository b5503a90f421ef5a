// Owner, mode, extended attributes and times of an archive's entry, put on what was made for it.
// The rules are in unpack.h.
#pragma once
#include <archive_entry.h>
#include <time.h>

#include <string>

#include "adapters/error.h"
#include "adapters/images/unpack.h"

namespace chalk::images {

timespec time_of(struct archive_entry* entry);
Result<void> set_attributes(int file, struct archive_entry* entry, const UnpackLimits& limits);
// Names and values of what set_attributes keeps, without the small ones that fit into an inode.
std::int64_t attribute_bytes(struct archive_entry* entry);
// A symlink has neither a mode nor attributes that users may set.
Result<void> set_symlink_attributes(int parent, const std::string& name,
                                    struct archive_entry* entry);

}  // namespace chalk::images
