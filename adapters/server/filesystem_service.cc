#include "adapters/server/filesystem_service.h"

#include <google/protobuf/any.pb.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "adapters/api/translate.h"
#include "adapters/server/command.h"
#include "adapters/server/node_hub.h"

namespace chalk::server {
namespace {

namespace wire = sandbox::v2;
using namespace std::chrono_literals;

constexpr std::chrono::milliseconds kLook = 500ms;
constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 30;
constexpr std::size_t kErrorBytesMax = 64u << 10;
constexpr std::size_t kResultBytesMax = 64u << 10;

struct ErrorWord {
  const char* name;
  int number;
  wire::FilesystemError error;
  grpc::StatusCode code;
};
constexpr std::array<ErrorWord, 14> kErrorWords = {{
    {"ENOENT", ENOENT, wire::FILESYSTEM_ERROR_NOT_FOUND, grpc::StatusCode::NOT_FOUND},
    {"ENOTDIR", ENOTDIR, wire::FILESYSTEM_ERROR_FAILED_PRECONDITION,
     grpc::StatusCode::FAILED_PRECONDITION},
    {"EISDIR", EISDIR, wire::FILESYSTEM_ERROR_FAILED_PRECONDITION,
     grpc::StatusCode::FAILED_PRECONDITION},
    {"EACCES", EACCES, wire::FILESYSTEM_ERROR_PERMISSION_DENIED,
     grpc::StatusCode::PERMISSION_DENIED},
    {"EPERM", EPERM, wire::FILESYSTEM_ERROR_PERMISSION_DENIED,
     grpc::StatusCode::PERMISSION_DENIED},
    {"EROFS", EROFS, wire::FILESYSTEM_ERROR_PERMISSION_DENIED,
     grpc::StatusCode::PERMISSION_DENIED},
    {"EEXIST", EEXIST, wire::FILESYSTEM_ERROR_ALREADY_EXISTS, grpc::StatusCode::ALREADY_EXISTS},
    {"ENOSPC", ENOSPC, wire::FILESYSTEM_ERROR_RESOURCE_EXHAUSTED,
     grpc::StatusCode::RESOURCE_EXHAUSTED},
    {"EDQUOT", EDQUOT, wire::FILESYSTEM_ERROR_RESOURCE_EXHAUSTED,
     grpc::StatusCode::RESOURCE_EXHAUSTED},
    {"EFBIG", EFBIG, wire::FILESYSTEM_ERROR_RESOURCE_EXHAUSTED,
     grpc::StatusCode::RESOURCE_EXHAUSTED},
    {"EINVAL", EINVAL, wire::FILESYSTEM_ERROR_INVALID_ARGUMENT,
     grpc::StatusCode::INVALID_ARGUMENT},
    {"ENAMETOOLONG", ENAMETOOLONG, wire::FILESYSTEM_ERROR_INVALID_ARGUMENT,
     grpc::StatusCode::INVALID_ARGUMENT},
    {"ELOOP", ELOOP, wire::FILESYSTEM_ERROR_FAILED_PRECONDITION,
     grpc::StatusCode::FAILED_PRECONDITION},
    {"EIO", EIO, wire::FILESYSTEM_ERROR_INTERNAL, grpc::StatusCode::INTERNAL},
}};

// The client reads the kind of the error from the status' details.
grpc::Status with_details(grpc::StatusCode code, const std::string& message,
                          wire::FilesystemError error, int number) {
  wire::FilesystemErrorDetail detail;
  detail.set_error(error);
  if (number != 0) detail.set_posix_errno(number);
  wire::StatusWithDetails all;
  all.set_code(code);
  all.set_message(message);
  all.add_details()->PackFrom(detail);
  return {code, message, all.SerializeAsString()};
}

grpc::Status invalid(const std::string& message) {
  return with_details(grpc::StatusCode::INVALID_ARGUMENT, message,
                      wire::FILESYSTEM_ERROR_INVALID_ARGUMENT, 0);
}

// What chalk-guest wrote to its standard error: a line of JSON with errno and message.
grpc::Status guest_failed(const std::string& said, const node::v1::Exit& exit) {
  const auto line = nlohmann::json::parse(said, nullptr, false);
  if (!line.is_object() || !line.contains("message") || !line["message"].is_string()) {
    return with_details(grpc::StatusCode::INTERNAL,
                        "the file helper in the sandbox ended with code " +
                            std::to_string(exit.exit_code()) + " and signal " +
                            std::to_string(exit.signal()),
                        wire::FILESYSTEM_ERROR_INTERNAL, 0);
  }
  const std::string message = line["message"].get<std::string>().substr(0, 2'000);
  const std::string name = line.contains("errno") && line["errno"].is_string()
                               ? line["errno"].get<std::string>()
                               : std::string();
  for (const ErrorWord& word : kErrorWords) {
    if (name == word.name) return with_details(word.code, message, word.error, word.number);
  }
  return with_details(grpc::StatusCode::INTERNAL, message, wire::FILESYSTEM_ERROR_INTERNAL, 0);
}

// What a helper says until its end. `output` takes what it writes and may end the call.
grpc::Status hear(Channel& channel, const grpc::ServerContext& context,
                  const std::function<grpc::Status(const std::string&)>& output) {
  std::string errors;
  while (true) {
    auto message = channel.receive(kLook);
    if (context.IsCancelled()) return grpc::Status::CANCELLED;
    if (!message && message.error().kind == Error::Kind::timeout) continue;
    if (!message) return to_status(message.error());
    if (!*message) {
      return {grpc::StatusCode::ABORTED, "the sandbox's node went away during the transfer"};
    }
    const node::v1::ChannelUp& said = **message;
    if (said.has_failure()) return TenantSandboxes::failed(said.failure());
    if (said.has_output() && said.output().stream() == 2) {
      errors += said.output().data().substr(0, kErrorBytesMax - errors.size());
    } else if (said.has_output()) {
      if (auto status = output(said.output().data()); !status.ok()) return status;
    } else if (said.has_exit()) {
      const bool good = said.exit().exit_code() == 0 && said.exit().signal() == 0;
      return good ? grpc::Status::OK : guest_failed(errors, said.exit());
    }
  }
}

Answer<std::shared_ptr<Channel>> open_guest(const TenantSandboxes& sandboxes,
                                            const grpc::ServerContext& context,
                                            const identity::Caller& caller,
                                            const std::string& sandbox_id,
                                            const std::vector<std::string>& words) {
  const auto sandbox = sandboxes.running(context, caller, sandbox_id);
  if (!sandbox) return std::unexpected(sandbox.error());
  node::v1::Open open;
  open.set_sandbox(sandbox->sandbox.value);
  for (const std::string& word : words) open.mutable_guest()->add_arguments(word);
  auto channel = sandboxes.services().nodes.open(sandbox->node, open);
  if (!channel) return std::unexpected(to_status(channel.error()));
  return std::move(*channel);
}

std::string octal(std::uint32_t mode) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, mode, 8);
  return {digits, end.ptr};
}

// The file's bytes, on to the helper; the count. A client that leaves before the end ends it all.
Answer<std::uint64_t> forward(grpc::ServerReader<wire::UploadFileRequest>& reader,
                              const grpc::ServerContext& context, Channel& channel) {
  wire::UploadFileRequest request;
  node::v1::ChannelDown down;
  std::uint64_t bytes = 0;
  while (reader.Read(&request)) {
    if (!request.has_data()) return std::unexpected(invalid("expected data after the metadata"));
    bytes += request.data().size();
    if (bytes > kFileBytesMax) {
      return std::unexpected(invalid("found more than " + std::to_string(kFileBytesMax) +
                                     " bytes, expected a smaller file"));
    }
    for (std::size_t at = 0; at < request.data().size(); at += kPieceBytes) {
      down.set_input(request.data().substr(at, kPieceBytes));
      if (!channel.send(down)) return bytes;  // the helper's last words say why
    }
  }
  if (context.IsCancelled()) return std::unexpected(grpc::Status::CANCELLED);
  down.set_input_end(true);
  channel.send(down);
  return bytes;
}

}  // namespace

grpc::Status FilesystemService::UploadFile(grpc::ServerContext* context,
                                           grpc::ServerReader<wire::UploadFileRequest>* reader,
                                           wire::UploadFileResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const auto place = places_.take(caller->tenant);
  if (!place) return {grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()};
  auto watched = sandboxes_.watch(*context);
  watched.expect_first(kFirstMessageMax);
  wire::UploadFileRequest first;
  if (!reader->Read(&first) || !first.has_metadata()) {
    return invalid("expected metadata as the first message");
  }
  watched.first_came();
  const wire::UploadFileMetadata& about = first.metadata();
  if (auto good = api::check_path("destination", about.destination()); !good) {
    return invalid(good.error().message);
  }
  if (about.mode() > 07777) {
    return invalid("mode: found " + octal(about.mode()) + ", expected at most 7777");
  }
  std::vector<std::string> words = {"write", about.destination(), "--parents"};
  if (about.has_mode()) words.insert(words.end(), {"--mode", octal(about.mode())});
  const auto channel = open_guest(sandboxes_, *context, *caller, about.sandbox_id(), words);
  if (!channel) return channel.error();
  watched.closes(*channel);
  const auto bytes = forward(*reader, *context, **channel);
  if (!bytes) {
    (*channel)->close();
    return bytes.error();
  }
  std::string result;
  const grpc::Status done = hear(**channel, *context, [&](const std::string& data) {
    result += data.substr(0, kResultBytesMax - result.size());
    return grpc::Status::OK;
  });
  (*channel)->close();
  if (!done.ok()) return done;
  const auto line = nlohmann::json::parse(result, nullptr, false);
  const bool counted = line.is_object() && line.contains("size") &&
                       line["size"].is_number_unsigned();
  response->set_bytes_written(counted ? line["size"].get<std::uint64_t>() : *bytes);
  return grpc::Status::OK;
}

grpc::Status FilesystemService::DownloadFile(grpc::ServerContext* context,
                                             const wire::DownloadFileRequest* request,
                                             grpc::ServerWriter<wire::DownloadFileResponse>* writer) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  if (auto good = api::check_path("path", request->path()); !good) {
    return invalid(good.error().message);
  }
  const auto place = places_.take(caller->tenant);
  if (!place) return {grpc::StatusCode::RESOURCE_EXHAUSTED, places_.full()};
  auto watched = sandboxes_.watch(*context);
  const auto channel = open_guest(sandboxes_, *context, *caller, request->sandbox_id(),
                                  {"read", request->path()});
  if (!channel) return channel.error();
  watched.closes(*channel);
  node::v1::ChannelDown end;
  end.set_input_end(true);
  (*channel)->send(end);
  wire::DownloadFileResponse piece;
  const grpc::Status done = hear(**channel, *context, [&](const std::string& data) {
    piece.set_data(data);
    return writer->Write(piece) ? grpc::Status::OK : grpc::Status::CANCELLED;
  });
  (*channel)->close();
  return done;
}

}  // namespace chalk::server
