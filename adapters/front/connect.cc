#include "adapters/front/connect.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/type_resolver_util.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "adapters/front/peer.h"

namespace chalk::front {
namespace {

namespace protobuf = google::protobuf;

constexpr std::string_view kProto = "application/proto";
constexpr std::string_view kJson = "application/json";
constexpr std::string_view kTypePrefix = "type.googleapis.com/";

struct Code {
  std::string_view name;
  int http;
};
// By number of grpc::StatusCode.
constexpr std::array<Code, 17> kCodes{{{"ok", 200},
                                       {"canceled", 499},
                                       {"unknown", 500},
                                       {"invalid_argument", 400},
                                       {"deadline_exceeded", 504},
                                       {"not_found", 404},
                                       {"already_exists", 409},
                                       {"permission_denied", 403},
                                       {"resource_exhausted", 429},
                                       {"failed_precondition", 400},
                                       {"aborted", 409},
                                       {"out_of_range", 400},
                                       {"unimplemented", 501},
                                       {"internal", 500},
                                       {"unavailable", 503},
                                       {"data_loss", 500},
                                       {"unauthenticated", 401}}};

const protobuf::MethodDescriptor* find_method(std::string_view path) {
  std::string name(path.substr(1));
  std::ranges::replace(name, '/', '.');
  return protobuf::DescriptorPool::generated_pool()->FindMethodByName(name);
}

protobuf::util::TypeResolver& resolver() {
  static const std::unique_ptr<protobuf::util::TypeResolver> made(
      protobuf::util::NewTypeResolverForDescriptorPool("type.googleapis.com",
                                                       protobuf::DescriptorPool::generated_pool()));
  return *made;
}

std::string type_url(const protobuf::Descriptor* type) {
  return std::string(kTypePrefix) + type->full_name();
}

// The media type without its parameters, in lower case.
std::string media_type(std::string_view value) {
  std::string type(value.substr(0, value.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  std::ranges::transform(type, type.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return type;
}

bool printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c <= 0x7E; });
}

// gRPC aborts the process on metadata that is not legal, so only this goes through.
bool may_forward(std::string_view name, std::string_view value) {
  const bool wanted = name == "authorization" || name.starts_with("x-chalk-");
  return wanted && !name.ends_with("-bin") && value.size() <= 8192 && printable(value) &&
         std::ranges::all_of(name, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
         });
}

grpc::ByteBuffer to_buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string to_string(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const auto& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// A streaming client waits for an envelope that ends the stream, whatever the HTTP status says.
Response streaming_refused(const std::string& content_type) {
  const std::string end =
      nlohmann::json{
          {"error",
           {{"code", "unimplemented"},
            {"message", "streaming over Connect is not offered here; use gRPC for this method"}}}}
          .dump();
  Response response;
  response.content_type = content_type;
  response.body = std::string("\x02\0\0\0", 4) + static_cast<char>(end.size()) + end;
  return response;
}

}  // namespace

bool is_rpc_path(std::string_view path) {
  const auto slash = path.find('/', 1);
  const auto legal = [](std::string_view part, bool dots) {
    return !part.empty() && std::ranges::all_of(part, [&](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || (dots && c == '.');
    });
  };
  if (path.empty() || path[0] != '/' || slash == path.npos || path.size() > 512) return false;
  const auto service = path.substr(1, slash - 1);
  return service.find('.') != service.npos && legal(service, true) &&
         legal(path.substr(slash + 1), false);
}

Response connect_error(std::string_view code, std::string_view message) {
  const auto at = std::ranges::find(kCodes, code, &Code::name);
  Response response;
  response.status = at == kCodes.end() ? 500 : at->http;
  response.content_type = kJson;
  response.body = nlohmann::json{{"code", code}, {"message", message}}.dump(
      -1, ' ', false, nlohmann::json::error_handler_t::replace);
  return response;
}

Response connect_error(const grpc::Status& status) {
  const int number = status.error_code();
  const bool known = number > 0 && number < static_cast<int>(kCodes.size());
  return connect_error(known ? kCodes[static_cast<std::size_t>(number)].name : "unknown",
                       status.error_message());
}

std::unique_ptr<Response> refuse_call(const Request& request) {
  const auto refuse = [](Response response) {
    return std::make_unique<Response>(std::move(response));
  };
  if (request.method != "POST") {
    Response response = connect_error("unimplemented", "calls are made with POST");
    response.status = 405;
    response.headers.emplace_back("allow", "POST");
    return refuse(std::move(response));
  }
  const std::string type = media_type(request.header("content-type"));
  if (type == "application/connect+proto" || type == "application/connect+json") {
    return refuse(streaming_refused(type));
  }
  const auto encoding = request.header("content-encoding");
  if ((type != kProto && type != kJson) || (!encoding.empty() && encoding != "identity")) {
    Response response = connect_error(
        "unimplemented",
        "expected content-type application/proto or application/json without content-encoding");
    response.status = 415;
    response.headers.emplace_back("accept-post", "application/proto, application/json");
    return refuse(std::move(response));
  }
  const auto* method = find_method(request.path);
  if (method != nullptr && (method->client_streaming() || method->server_streaming())) {
    return refuse(connect_error("unimplemented", "this method streams; use gRPC for it"));
  }
  if (method == nullptr && type == kJson) {
    return refuse(connect_error("unimplemented", "there is no such method"));
  }
  return nullptr;
}

ConnectCall::ConnectCall(Request request, std::chrono::milliseconds longest)
    : request_(std::move(request)),
      longest_(longest),
      json_(media_type(request_.header("content-type")) == kJson) {}

void ConnectCall::forward_headers() {
  for (const auto& [name, value] : request_.headers) {
    if (may_forward(name, value)) context_.AddMetadata(name, value);
  }
  context_.AddMetadata(kPeerMetadata, request_.peer);
}

std::optional<Response> ConnectCall::prepare() {
  const auto timeout = request_.header("connect-timeout-ms");
  auto longest = longest_;
  if (!timeout.empty()) {
    std::uint64_t asked = 0;
    const auto [end, code] =
        std::from_chars(timeout.data(), timeout.data() + timeout.size(), asked);
    if (code != std::errc() || end != timeout.data() + timeout.size() || timeout.size() > 10) {
      return connect_error("invalid_argument",
                           "connect-timeout-ms: expected a number of at most 10 digits");
    }
    longest = std::chrono::milliseconds(asked);
  }
  context_.set_deadline(std::chrono::system_clock::now() + longest);
  if (json_) {
    const auto* method = find_method(request_.path);
    std::string binary;
    protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;  // newer clients
    const auto status = protobuf::util::JsonToBinaryString(
        &resolver(), type_url(method->input_type()),
        request_.body.empty() ? std::string("{}") : request_.body, &binary, options);
    if (!status.ok()) {
      return connect_error("invalid_argument", "JSON of " + method->input_type()->full_name() +
                                                   ": " + std::string(status.message()));
    }
    request_.body = std::move(binary);
  }
  forward_headers();
  sent_ = to_buffer(request_.body);
  request_.body = std::string();
  return std::nullopt;
}

void ConnectCall::start(grpc::GenericStub& stub, std::function<void(grpc::Status)> done) {
  stub.UnaryCall(&context_, request_.path, grpc::StubOptions(), &sent_, &received_,
                 std::move(done));
}

Response ConnectCall::finish(const grpc::Status& status) {
  Response response;
  if (status.ok() && json_) {
    const auto* method = find_method(request_.path);
    const auto written = protobuf::util::BinaryToJsonString(
        &resolver(), type_url(method->output_type()), to_string(received_), &response.body);
    response.content_type = kJson;
    if (!written.ok()) response = connect_error("internal", std::string(written.message()));
  } else if (status.ok()) {
    response.content_type = kProto;
    response.body = to_string(received_);
  } else {
    response = connect_error(status);
  }
  for (const auto& [name, value] : context_.GetServerTrailingMetadata()) {
    const std::string_view key(name.data(), name.size()), text(value.data(), value.size());
    if (key.starts_with("x-chalk-") && may_forward(key, text)) {
      response.headers.emplace_back("trailer-" + std::string(key), text);
    }
  }
  return response;
}

}  // namespace chalk::front
