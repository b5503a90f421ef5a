// One command in a sandbox with all it writes gathered, for the unary calls that run commands.
#pragma once
#include <google/protobuf/duration.pb.h>

#include <optional>
#include <string>

#include "adapters/api/translate.h"
#include "adapters/server/places.h"
#include "adapters/server/tenant_sandboxes.h"

namespace chalk::server {

class Channel;

inline constexpr std::size_t kCommandOutputBytesMax = 16u << 20;  // both streams together
inline constexpr std::size_t kCommandInputBytesMax = 16u << 20;
inline constexpr std::size_t kPieceBytes = 256u << 10;  // of what goes to a node in one message

struct CommandAsk {
  api::Words words;
  api::Variables variables;
  std::string workdir;
  std::optional<google::protobuf::Duration> timeout;
  std::string input;
};
struct CommandDone {
  std::string output, error_output;
  int exit_code = 0;  // 128 and more: ended by the signal above 128
};

// Waits for the sandbox to run, then for the command. A command over its time is DEADLINE_EXCEEDED,
// with more output than fits RESOURCE_EXHAUSTED; a caller that leaves or is revoked ends it.
Answer<CommandDone> run_command(TenantSandboxes& sandboxes, Places& places,
                                grpc::ServerContextBase& context,
                                const identity::Caller& caller, const std::string& id,
                                const CommandAsk& ask);

// The same over a channel where the command runs already; closes it.
Answer<CommandDone> converse(Channel& channel, const grpc::ServerContextBase& context,
                             const CommandAsk& ask);

// What a command may be, for sessions too.
grpc::Status check_command(const CommandAsk& ask);

}  // namespace chalk::server
