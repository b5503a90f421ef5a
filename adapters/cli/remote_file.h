// Files of a sandbox: one call to chalk-guest inside it.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/cli/client.h"
#include "adapters/cli/stop.h"

namespace chalk::cli {

// The guest's refusal; `error` is "ENOENT" and the like.
class GuestRefused : public Stop {
 public:
  GuestRefused(const std::string& message, std::string error)
      : Stop(message), error_(std::move(error)) {}
  const std::string& error() const { return error_; }

 private:
  std::string error_;
};

struct GuestCall {
  std::string sandbox;  // id or name
  std::vector<std::string> arguments;
  // Bytes for its standard input, empty at the end. None: it has no input.
  std::function<std::string()> input;
  std::function<void(std::string_view)> output;
  grpc::ClientContext* context = nullptr;  // prepared, of who may want to cancel it
};

// Throws GuestRefused with what the guest said where its exit status is not 0.
void call_guest(const Client& client, const GuestCall& call);

// Its standard output as the JSON lines that it is.
std::vector<nlohmann::json> guest_lines(const Client& client, const std::string& sandbox,
                                        const std::vector<std::string>& arguments);

// One file or directory as the guest describes it.
struct RemoteEntry {
  std::string name, type, target, error;
  std::int64_t size = 0, mode = 0, mtime_seconds = 0;
};
RemoteEntry to_entry(const nlohmann::json& line);
RemoteEntry stat_remote(const Client& client, const std::string& sandbox, const std::string& path);

// "sb-1:/tmp/x" and "web:/tmp"; a local path has no colon before its first slash.
struct Place {
  std::string sandbox;  // empty: local
  std::string path;
};
Place parse_place(const std::string& text);
void check_absolute(const std::string& path);

}  // namespace chalk::cli
