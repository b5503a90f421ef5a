// Files that a reader never sees half written, also when the writer is killed.
#pragma once
#include <string>

namespace chalk::sim {

// Written beside its place under a name of its own, synced, and renamed: several processes may
// write the same path at a time, and the last one wins. What a killed writer leaves ends in
// ".partial". Throws std::runtime_error that names the path and what could not be done.
void write_file(const std::string& path, const std::string& text);

// Throws std::runtime_error that names the path.
std::string read_file(const std::string& path);

}  // namespace chalk::sim
