#include "sim/workload/text_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "sim/workload/input_error.h"

namespace chalk::sim {

TextFile::TextFile(std::string path) : path_(std::move(path)), buffer_(1 << 16) {
  struct stat info {};
  if (path_.find('\0') != std::string::npos) {
    throw InputError(quote(path_), 0, "a NUL in the file's name", "a readable file");
  }
  if (stat(path_.c_str(), &info) != 0) {
    throw InputError(path_, 0, std::strerror(errno), "a readable file");
  }
  if (!S_ISREG(info.st_mode)) throw InputError(path_, 0, "not a regular file", "a regular file");
  size_ = static_cast<std::uint64_t>(info.st_size);
  file_.reset(std::fopen(path_.c_str(), "rbe"));
  if (!file_) throw InputError(path_, 0, std::strerror(errno), "a readable file");
}

bool TextFile::next(std::string_view& line) {
  std::size_t searched = begin_;
  const void* end_of_line = nullptr;
  ++line_number_;
  while (!(end_of_line = std::memchr(&buffer_[searched], '\n', end_ - searched))) {
    std::size_t length = end_ - begin_;
    if (length > kLineMax) {
      fail(fmt::format("a line of more than {} bytes", kLineMax), "a shorter line");
    }
    if (!read_more()) break;
    searched = begin_ + length;
  }
  if (!end_of_line && begin_ == end_) {
    --line_number_;
    return false;
  }
  const char* start = &buffer_[begin_];
  std::size_t length =
      (end_of_line ? static_cast<const char*>(end_of_line) : buffer_.data() + end_) - start;
  line_offset_ = offset_;
  std::size_t taken = length + (end_of_line ? 1 : 0);
  begin_ += taken;
  offset_ += taken;
  line = {start, length};
  if (line.size() > kLineMax) {
    fail(fmt::format("a line of {} bytes", line.size()), "at most 1048576 bytes");
  }
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (line_number_ == 1 && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
    line_offset_ += kByteOrderMark.size();
  }
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.find('\0') != std::string_view::npos) fail("a NUL byte", "text");
  if (const std::size_t at = not_utf8(line); at != std::string_view::npos) {
    fail("the byte " + quote(line.substr(at, 1)), "text in UTF-8");
  }
  return true;
}

bool TextFile::read_more() {
  std::memmove(buffer_.data(), &buffer_[begin_], end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
  if (end_ + (1 << 15) > buffer_.size()) buffer_.resize(buffer_.size() * 2);
  // One byte of the buffer stays free: &buffer_[end_] is always an element.
  std::size_t got = std::fread(&buffer_[end_], 1, buffer_.size() - end_ - 1, file_.get());
  end_ += got;
  if (got == 0 && std::ferror(file_.get())) fail(std::strerror(errno), "a readable file");
  return got > 0;
}

void TextFile::fail(std::string found, std::string expected) const {
  throw InputError(path_, line_number_, std::move(found), std::move(expected));
}

}  // namespace chalk::sim
