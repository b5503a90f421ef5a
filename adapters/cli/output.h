// What a command prints: JSON, tables, colours. Text that comes from a sandbox or from other users
// is made harmless before it goes into a table: no byte of it can steer the terminal.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chalk::cli {

// Control characters as \xNN, bytes that are not UTF-8 as U+FFFD.
std::string harmless(std::string_view text);
bool is_utf8(std::string_view bytes);
// Bytes that are not UTF-8 as U+FFFD, so that JSON can hold the text.
std::string utf8(std::string_view bytes);

enum class Colour : std::uint8_t { none, green, yellow, red, faint };
// Only on a terminal, and not where NO_COLOR is set.
std::string coloured(std::string_view text, Colour colour);
Colour status_colour(std::string_view status);

class Table {
 public:
  explicit Table(std::vector<std::string> head) { rows_.push_back(std::move(head)); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // Aligned columns on standard output; the head in faint. The column `status` has colours.
  void print(int status_column = -1) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "5 s", "3 min", "2 h", "4 d"; "-" for none.
std::string age(std::int64_t seconds_since_1970);
std::string rfc3339(std::int64_t seconds, std::int32_t nanos = 0);

void print(std::string_view text);  // to standard output; stops the program's output when it is shut
void note(std::string_view text);   // a line on standard error
bool is_terminal(int descriptor);

}  // namespace chalk::cli
