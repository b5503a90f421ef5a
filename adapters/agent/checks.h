// What a probe asks and what it takes for a good answer, whoever carries the bytes.
#pragma once
#include <string>

#include "adapters/error.h"

namespace grpc {
class ByteBuffer;
class Status;
}  // namespace grpc

namespace chalk::agent {

inline constexpr std::size_t kStatusLineBytes = 16;  // so much of an HTTP answer is enough
inline constexpr const char* kHealthMethod = "/grpc.health.v1.Health/Check";

// Each answer is what came, in words; an error says what was expected and what came.
Result<std::string> http_question(const std::string& path);  // all bytes of the request
Result<std::string> http_answer(const std::string& path, const std::string& line);
grpc::ByteBuffer health_question(const std::string& service);
Result<std::string> health_answer(const grpc::Status& status, const grpc::ByteBuffer& answer);

}  // namespace chalk::agent
