// Which sandbox has which slot and which ports, one small file for each slot, written as a whole.
// They are for a restart of the agent and lie in a folder that ends with the host's boot, as the
// namespaces do. A file that cannot be read as written here is taken for none.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "adapters/error.h"
#include "adapters/network/address.h"

namespace chalk::network {

struct Record {
  std::string sandbox;
  Address address = 0;
  std::map<std::uint16_t, std::uint16_t> published;  // container port -> host port
  bool operator==(const Record&) const = default;
};

bool is_sandbox_id(std::string_view text);
std::string text_of(const Record& record);
std::optional<Record> parse_record(std::string_view text);

class Records {
 public:
  // Makes the folder.
  static Result<Records> open(std::string folder);

  Result<void> write(const std::string& name, const Record& record) const;
  std::optional<Record> read(const std::string& name) const;
  void remove(const std::string& name) const;
  std::set<std::string> names() const;
  void remove_folder() const;  // where it is empty

 private:
  explicit Records(std::string folder) : folder_(std::move(folder)) {}
  std::string path_of(const std::string& name) const { return folder_ + '/' + name; }
  std::string folder_;
};

}  // namespace chalk::network
