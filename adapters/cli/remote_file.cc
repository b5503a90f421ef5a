#include "adapters/cli/remote_file.h"

#include <cstdlib>

#include "adapters/cli/output.h"

namespace chalk::cli {
namespace {

constexpr std::size_t kLineBytesMax = 1u << 20;
constexpr std::size_t kLinesBytesMax = 256u << 20;
constexpr std::size_t kErrorBytesMax = 64u << 10;

// What the guest said on standard error: {"errno":"ENOENT","message":"..."}.
[[noreturn]] void refuse(const std::string& said, int code) {
  const auto parsed = nlohmann::json::parse(said, nullptr, false);
  if (parsed.is_object()) {
    const auto message = parsed.find("message"), error = parsed.find("errno");
    if (message != parsed.end() && message->is_string()) {
      throw GuestRefused(harmless(message->get<std::string>()),
                         error != parsed.end() && error->is_string() ? error->get<std::string>()
                                                                     : "");
    }
  }
  std::string_view text = said;
  while (text.ends_with('\n')) text.remove_suffix(1);
  throw GuestRefused(
      text.empty() ? "it failed with exit code " + std::to_string(code) : harmless(text), "");
}

std::int64_t number(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::string text(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : "";
}

// Names that are no UTF-8 come in hexadecimal, too.
std::string bytes(const nlohmann::json& line, const std::string& key) {
  const std::string hex = text(line, (key + "_hex").c_str());
  if (hex.empty() || hex.size() % 2 != 0) return text(line, key.c_str());
  std::string out;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    out += static_cast<char>(std::strtol(hex.substr(i, 2).c_str(), nullptr, 16));
  }
  return out;
}

}  // namespace

void call_guest(const Client& client, const GuestCall& call) {
  grpc::ClientContext own;
  if (call.context == nullptr) client.prepare(own, std::chrono::seconds(0));
  grpc::ClientContext& context = call.context == nullptr ? own : *call.context;
  const auto stream = client.details().File(&context);
  // Whatever is thrown from here on ends the call.
  struct AtEnd {
    grpc::ClientContext& context;
    ~AtEnd() { context.TryCancel(); }
  } at_end{context};
  admin::v1::FileRequest request;
  request.mutable_open()->set_id(call.sandbox);
  for (const std::string& one : call.arguments) request.mutable_open()->add_arguments(one);
  bool open = stream->Write(request);
  while (open && call.input) {
    std::string piece = call.input();
    const bool end = piece.empty();
    if (end) {
      request.set_input_end(true);
    } else {
      request.set_input(std::move(piece));
    }
    open = stream->Write(request);
    if (end) break;
  }
  admin::v1::FileChunk chunk;
  std::string error;
  int code = -1;
  while (stream->Read(&chunk)) {
    if (chunk.has_output() && call.output) call.output(chunk.output());
    if (chunk.has_error() && error.size() < kErrorBytesMax) error += chunk.error();
    if (chunk.has_exit_code()) code = chunk.exit_code();
  }
  client.check(stream->Finish());
  if (code != 0) refuse(error, code);
}

std::vector<nlohmann::json> guest_lines(const Client& client, const std::string& sandbox,
                                        const std::vector<std::string>& arguments) {
  std::string all;
  GuestCall call;
  call.sandbox = sandbox;
  call.arguments = arguments;
  call.output = [&](std::string_view piece) {
    if (all.size() + piece.size() > kLinesBytesMax) {
      throw Stop("the sandbox's answer is longer than 256 MiB");
    }
    all += piece;
  };
  call_guest(client, call);
  std::vector<nlohmann::json> out;
  std::string_view rest = all;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.size() > kLineBytesMax) throw Stop("the sandbox answered a line longer than 1 MiB");
    auto parsed = nlohmann::json::parse(line, nullptr, false);
    if (!parsed.is_object()) throw Stop("the sandbox answered something that is not JSON");
    out.push_back(std::move(parsed));
  }
  return out;
}

RemoteEntry to_entry(const nlohmann::json& line) {
  RemoteEntry entry;
  entry.name = bytes(line, "name");
  entry.type = text(line, "type");
  entry.target = bytes(line, "target");
  entry.error = text(line, "error");
  entry.size = number(line, "size");
  entry.mode = number(line, "mode") & 07777;
  entry.mtime_seconds = number(line, "mtime_ns") / 1'000'000'000;
  return entry;
}

RemoteEntry stat_remote(const Client& client, const std::string& sandbox,
                        const std::string& path) {
  const auto lines = guest_lines(client, sandbox, {"stat", "--follow", "--", path});
  if (lines.size() != 1) throw Stop("the sandbox said nothing of " + harmless(path));
  return to_entry(lines[0]);
}

Place parse_place(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || text.find('/') < colon) return {"", text};
  Place place{text.substr(0, colon), text.substr(colon + 1)};
  check_absolute(place.path);
  return place;
}

void check_absolute(const std::string& path) {
  if (!path.starts_with('/')) {
    throw Stop("found the path \"" + harmless(path) +
               "\" in the sandbox, expected one that begins with /");
  }
}

}  // namespace chalk::cli
