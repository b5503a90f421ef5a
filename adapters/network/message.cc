#include "adapters/network/message.h"

namespace chalk::network {
namespace {

std::uint8_t byte_at(std::string_view message, std::size_t at) {
  return static_cast<std::uint8_t>(message[at]);
}

char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
}

}  // namespace

std::uint16_t number_of(std::string_view message) {
  return static_cast<std::uint16_t>(byte_at(message, 0) << 8 | byte_at(message, 1));
}

void set_number(std::string& message, std::uint16_t number) {
  message[0] = static_cast<char>(number >> 8);
  message[1] = static_cast<char>(number & 255);
}

bool is_query(std::string_view message) {
  return message.size() >= kMessageHeaderBytes && (byte_at(message, 2) & 0x80) == 0;
}

std::size_t question_end(std::string_view message) {
  constexpr std::size_t kNameBytesMax = 255;
  if (message.size() < kMessageHeaderBytes) return 0;
  if (byte_at(message, 4) != 0 || byte_at(message, 5) != 1) return 0;
  std::size_t at = kMessageHeaderBytes;
  for (;;) {
    if (at >= message.size()) return 0;
    const std::size_t label = byte_at(message, at);
    if (label > 63) return 0;  // nothing comes before a question that it could point to
    at += label + 1;
    if (at - kMessageHeaderBytes > kNameBytesMax) return 0;
    if (label == 0) break;
  }
  at += 4;  // type and class
  return at <= message.size() ? at : 0;
}

std::optional<MessageCode> objection_to(std::string_view query) {
  constexpr std::uint16_t kInternetClass = 1, kAnyClass = 255;
  constexpr std::uint16_t kPart = 251, kZone = 252;  // IXFR and AXFR
  if (!is_query(query)) return MessageCode::format_error;
  if ((byte_at(query, 2) & 0x78) != 0) return MessageCode::not_implemented;  // of operations
  const auto end = question_end(query);
  if (end == 0) return MessageCode::format_error;
  const auto type = number_of(query.substr(end - 4));
  const auto of = number_of(query.substr(end - 2));
  const bool plain = (of == kInternetClass || of == kAnyClass) && type != kPart && type != kZone;
  // Answers and authorities. Beyond those a question may say what else its asker understands.
  const bool bare = number_of(query.substr(6)) == 0 && number_of(query.substr(8)) == 0;
  if (plain && bare) return std::nullopt;
  return MessageCode::refused;
}

bool is_answer_to(std::string_view answer, std::string_view query) {
  if (answer.size() < kMessageHeaderBytes || is_query(answer)) return false;
  const auto end = question_end(query);
  if (end == 0 || number_of(answer) != number_of(query) || question_end(answer) != end) {
    return false;
  }
  for (auto at = kMessageHeaderBytes; at < end; ++at) {
    if (lower(answer[at]) != lower(query[at])) return false;
  }
  return true;
}

std::string refuse(std::string_view query, MessageCode code) {
  const auto end = question_end(query);
  std::string answer(query.substr(0, end != 0 ? end : kMessageHeaderBytes));
  answer[2] = static_cast<char>(0x80 | (byte_at(query, 2) & 0x79));  // an answer; same operation
  answer[3] = static_cast<char>(0x80 | static_cast<std::uint8_t>(code));
  answer[5] = end != 0 ? 1 : 0;
  for (const std::size_t count : {4, 6, 7, 8, 9, 10, 11}) answer[count] = 0;
  return answer;
}

}  // namespace chalk::network
