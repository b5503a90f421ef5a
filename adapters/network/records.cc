#include "adapters/network/records.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "adapters/network/descriptor.h"
#include "adapters/network/network.h"

namespace chalk::network {
namespace {

constexpr std::string_view kFormat = "chalk-network-1";
constexpr std::size_t kBytesMax = 4096;
constexpr const char* kUnfinished = ".new";  // no slot is called so

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const auto end = text.find(' ');
    words.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return words;
}

}  // namespace

bool is_sandbox_id(std::string_view text) {
  if (text.empty() || text.size() > Network::kIdBytesMax) return false;
  return text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
         std::string_view::npos;
}

// One line: format, id, address, and container:host for each port.
std::string text_of(const Record& record) {
  std::string text = std::string(kFormat) + ' ' + record.sandbox + ' ' + text_of(record.address);
  for (const auto& [container, host] : record.published) {
    text += ' ' + std::to_string(container) + ':' + std::to_string(host);
  }
  return text + '\n';
}

std::optional<Record> parse_record(std::string_view text) {
  if (text.size() > kBytesMax || !text.ends_with('\n')) return std::nullopt;
  text.remove_suffix(1);
  const auto words = words_of(text);
  if (words.size() < 3 || words.size() > 3 + Network::kPublishedMax || words[0] != kFormat) {
    return std::nullopt;
  }
  Record record;
  record.sandbox = words[1];
  const auto address = parse_address(words[2]);
  if (!is_sandbox_id(record.sandbox) || !address) return std::nullopt;
  record.address = *address;
  for (std::size_t i = 3; i < words.size(); ++i) {
    const auto colon = words[i].find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto container = parse_port(words[i].substr(0, colon));
    const auto host = parse_port(words[i].substr(colon + 1));
    if (!container || !host) return std::nullopt;
    if (!record.published.emplace(*container, *host).second) return std::nullopt;
  }
  return record;
}

Result<Records> Records::open(std::string folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(Error::Kind::failed, "make folder " + folder + ": " + error.message());
  return Records(std::move(folder));
}

// Not synced: after a crash of the host there is no namespace that it could tell about.
Result<void> Records::write(const std::string& name, const Record& record) const {
  const auto text = text_of(record);
  const auto unfinished = path_of(name) + kUnfinished;
  const auto failed = [&] {
    return fail(Error::Kind::failed, "write " + path_of(name) + ": " + std::strerror(errno));
  };
  Descriptor file(::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file) return failed();
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return failed();
  }
  if (::rename(unfinished.c_str(), path_of(name).c_str()) != 0) return failed();
  return {};
}

std::optional<Record> Records::read(const std::string& name) const {
  const Descriptor file(::open(path_of(name).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return std::nullopt;
  std::string text(kBytesMax + 1, '\0');
  const auto size = ::read(file.get(), text.data(), text.size());
  if (size <= 0) return std::nullopt;
  return parse_record(std::string_view(text).substr(0, static_cast<std::size_t>(size)));
}

void Records::remove(const std::string& name) const { (void)::unlink(path_of(name).c_str()); }

std::set<std::string> Records::names() const {
  std::set<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder_, error), end; !error && entry != end;
       entry.increment(error)) {
    found.insert(entry->path().filename());
  }
  return found;
}

void Records::remove_folder() const { (void)::rmdir(folder_.c_str()); }

}  // namespace chalk::network
