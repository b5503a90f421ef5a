// Reads a text file line by line with bounded memory, for readers that must be strict.
//
// A line ends with LF or CRLF; a byte order mark at the start is skipped. A NUL byte, bytes
// that are not UTF-8, a line over the limit and any failure of the file throw InputError.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chalk::sim {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using FileHandle = std::unique_ptr<std::FILE, FileCloser>;

class TextFile {
 public:
  static constexpr std::size_t kLineMax = 1 << 20;

  explicit TextFile(std::string path);
  // The next line without its end; false at the end of the file. Valid until the next call.
  bool next(std::string_view& line);
  std::uint64_t line_number() const { return line_number_; }  // of the last line given
  std::uint64_t line_offset() const { return line_offset_; }  // its first byte in the file
  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  // Throws InputError at the last line given.
  [[noreturn]] void fail(std::string found, std::string expected) const;

 private:
  bool read_more();

  std::string path_;
  FileHandle file_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0;  // unread bytes of buffer_ are [begin_, end_)
  std::size_t end_ = 0;
  std::uint64_t offset_ = 0;  // of buffer_[begin_] in the file
  std::uint64_t line_offset_ = 0;
  std::uint64_t line_number_ = 0;
  std::uint64_t size_ = 0;
};

}  // namespace chalk::sim
