// The commands of chalk-guest; each returns the exit status. Main's table says which options each
// reads.
#pragma once
#include "guest/arguments.h"

namespace chalk::guest {

// A file whose write is not finished carries one of these at the start of its name; watch hides
// them. They go with their write, also when it is killed.
constexpr char kReplacing[] = ".chalk-replace-";  // its target existed
constexpr char kCreating[] = ".chalk-create-";    // its target did not

// content.cc: bytes of regular files only, so that no command hangs on a pipe or never ends on a
// device.
int read_file(const Arguments&);
int write_file(const Arguments&);

// tree.cc: names. Symbolic links are described, renamed and removed themselves, never followed.
int list(const Arguments&);
int stat(const Arguments&);
int remove(const Arguments&);
int make_directory(const Arguments&);
int rename(const Arguments&);
// Makes every missing directory above path; 0 or an error number.
int make_parents(const std::string& path);

// watch.cc: changes below a place until standard input closes.
int watch(const Arguments&);

// ports.cc: whether something in this sandbox listens, and whether it answers.
int wait_port(const Arguments&);
int http_get(const Arguments&);

}  // namespace chalk::guest
