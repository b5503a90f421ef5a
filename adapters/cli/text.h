// Amounts as people write them, checked here so that a mistake is told before anything is asked.
#pragma once
#include <chrono>
#include <string>

namespace chalk::cli {

// Each answers what the server takes, or throws Stop naming the option.
std::string checked_cpu(const std::string& text);
std::string checked_bytes(const char* option, const std::string& text);
std::chrono::milliseconds checked_duration(const char* option, const std::string& text);
std::int64_t bytes_of(const char* option, const std::string& text);

std::string cpu_text(std::int64_t millicores);    // "0.5"
std::string bytes_short(std::int64_t bytes);      // "512Mi", "1.5Gi"

}  // namespace chalk::cli
