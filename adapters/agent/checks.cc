#include "adapters/agent/checks.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

namespace chalk::agent {
namespace {

constexpr std::size_t kForeignWordsMax = 200;

// What the sandbox said: whatever it likes.
std::string harmless(std::string words) {
  words.resize(std::min(words.size(), kForeignWordsMax));
  for (char& one : words) {
    if (one < ' ' || one > '~') one = '?';
  }
  return words;
}

}  // namespace

Result<std::string> http_question(const std::string& path) {
  if (path.empty() || path.front() != '/' || path.find_first_of(" \r\n") != std::string::npos) {
    return fail(Error::Kind::invalid, "probe: http path \"" + path + "\": expected /...");
  }
  return "GET " + path + " HTTP/1.1\r\nHost: sandbox\r\nUser-Agent: chalk-probe\r\n" +
         "Accept: */*\r\nConnection: close\r\n\r\n";
}

// The status line is all that counts: "HTTP/1.1 200 OK".
Result<std::string> http_answer(const std::string& path, const std::string& line) {
  const std::string status = line.size() < 12 ? "" : line.substr(9, 3);
  if (!line.starts_with("HTTP/1.") || status.empty() || line[8] != ' ' ||
      status.find_first_not_of("0123456789") != std::string::npos) {
    return fail(Error::Kind::unavailable, "probe: GET " + path + ": no HTTP answer");
  }
  std::string words = "GET " + path + ": status " + status;
  if (status[0] != '2' && status[0] != '3') {
    return fail(Error::Kind::unavailable, "probe: " + words);
  }
  return words;
}

// grpc.health.v1.Health/Check by its bytes: {service = 1} -> {status = 1}, 1 means SERVING.
grpc::ByteBuffer health_question(const std::string& service) {
  std::string request;
  if (!service.empty() && service.size() < 128) {
    request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  }
  const grpc::Slice slice(request);
  return {&slice, 1};
}

Result<std::string> health_answer(const grpc::Status& status, const grpc::ByteBuffer& answer) {
  if (!status.ok()) {
    return fail(Error::Kind::unavailable, "probe: grpc health: " + harmless(status.error_message()));
  }
  grpc::Slice bytes;
  const bool serving = answer.DumpToSingleSlice(&bytes).ok() && bytes.size() >= 2 &&
                       bytes.begin()[0] == 8 && bytes.begin()[1] == 1;
  if (!serving) return fail(Error::Kind::unavailable, "probe: grpc health: not serving");
  return std::string("grpc health: serving");
}

}  // namespace chalk::agent
