// From what the public API asks for to what the machines and the nodes take. Strict: every count,
// size and time has a bound, what this server does not do is refused by name and never ignored, and
// an error says the field, what was found and what was expected.
#pragma once
#include <expected>
#include <string>
#include <string_view>

#include "adapters/images/image.h"
#include "adapters/records/records.h"
#include "chalk/container/v1/service.pb.h"
#include "chalk/node/v1/node.pb.h"
#include "model/core/resources.h"
#include "model/protocol/protocol.h"

namespace chalk::api {

// ---- what a specification gets where it says nothing
inline constexpr std::int64_t kCpuMillicoresUsual = 1'000;
inline constexpr std::int64_t kMemoryBytesUsual = std::int64_t{1} << 30;
inline constexpr std::int64_t kDiskBytesUsual = std::int64_t{2} << 30;

// ---- bounds
inline constexpr std::int64_t kCpuMillicoresMin = 10, kCpuMillicoresMax = 1'000'000;
inline constexpr std::int64_t kMemoryBytesMin = std::int64_t{64} << 20;
inline constexpr std::int64_t kDiskBytesMin = std::int64_t{16} << 20;
inline constexpr std::int64_t kBytesMax = std::int64_t{64} << 40;
inline constexpr std::int64_t kLifetimeSecondsMax = 30 * 86'400;
inline constexpr std::size_t kSpecBytesMax = 1u << 20;
inline constexpr std::size_t kArgumentsMax = 1'024;
inline constexpr std::size_t kArgumentBytesMax = (128u << 10) - 1;  // the kernel's own bound
inline constexpr std::size_t kArgumentsBytesMax = 256u << 10;       // all together
inline constexpr std::size_t kVariablesMax = 1'000;
inline constexpr std::size_t kVariableNameBytesMax = 256;
inline constexpr std::size_t kVariableBytesMax = 64u << 10;
inline constexpr std::size_t kVariablesBytesMax = 256u << 10;  // all together
inline constexpr std::size_t kTagsMax = 100;
inline constexpr std::size_t kTagBytesMax = 1'024;  // of a name or a value
inline constexpr std::uint32_t kGangSizeMax = 1'000;
// Of a whole payload, with what its image says. An agent takes no message of more than 16 MiB, and
// an order that it cannot take is one that no later order gets past.
inline constexpr std::size_t kPayloadBytesMax = 4u << 20;

struct Objection {
  enum class Why {
    invalid,       // nobody could do this
    unimplemented  // this server does not
  };
  Why why = Why::invalid;
  std::string message;
};

struct Asked {
  std::string image;  // a reference
  std::string gpu;    // as the request said it, for sentences; empty: none
  Resources resources;
  Duration lifetime;  // 0: until somebody ends it
  bool restart = false;  // by its node, when it ends by itself
  Priority priority = 0;
  Gang gang;
  node::v1::SandboxPayload payload;  // without image, environment, created_by
};

std::expected<Asked, Objection> translate(const container::v1::ChalkContainerSpec& spec);

// The image's own command where the request named none. An error where there is none at all, or
// where image and request together are too large for an order.
std::expected<void, Objection> take_image(const images::Image& image, Asked& asked);

// For commands too: the words of a command line, and variables.
using Words = google::protobuf::RepeatedPtrField<std::string>;
using Variables = google::protobuf::Map<std::string, std::string>;
std::expected<void, Objection> check_words(const std::string& field, const Words& words);
std::expected<void, Objection> check_variables(const char* field, const Variables& variables);
std::expected<void, Objection> check_path(const char* field, const std::string& path);

// Id and name of what a payload describes; for records::Records.
records::Label read_label(SandboxId sandbox, const std::string& payload);
// The specification as it was asked for.
container::v1::ChalkContainerSpec public_spec(const node::v1::SandboxPayload& payload);

}  // namespace chalk::api
