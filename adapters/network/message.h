// The little that a forwarder has to know of a DNS message: its header and its one question.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace chalk::network {

constexpr std::size_t kMessageHeaderBytes = 12;
enum class MessageCode : std::uint8_t {
  format_error = 1,
  server_failure = 2,
  not_implemented = 4,
  refused = 5
};

std::uint16_t number_of(std::string_view message);  // at least a header
void set_number(std::string& message, std::uint16_t number);
bool is_query(std::string_view message);  // at least a header, and not an answer

// The bytes of header and question; 0 where it has not exactly one well-formed question.
std::size_t question_end(std::string_view message);

// Why a query is not passed on. Resolvers take the forwarder for the host, which may be allowed
// more than a sandbox is: to change a zone, or to have all of it. So only plain questions pass.
std::optional<MessageCode> objection_to(std::string_view query);

// That it answers this query: the same number, the same question in whatever case.
bool is_answer_to(std::string_view answer, std::string_view query);

// An answer without records. Header and, if there is one, question are those of the query.
std::string refuse(std::string_view query, MessageCode code);

}  // namespace chalk::network
