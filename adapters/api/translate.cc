#include "adapters/api/translate.h"

#include <charconv>
#include <optional>

#include "adapters/api/ids.h"
#include "adapters/api/shown.h"
#include "adapters/api/tags.h"
#include "adapters/api/unsupported.h"
#include "model/core/digest.h"

namespace chalk::api {
namespace {

namespace wire = container::v1;
using Checked = std::expected<void, Objection>;

constexpr std::size_t kNameBytesMax = 63;
constexpr std::size_t kProbePathBytesMax = 1'024;
constexpr std::size_t kProbeServiceBytesMax = 127;
constexpr std::int64_t kProbeSecondsMax = 600;
constexpr std::int64_t kProbeFailuresMax = 10'000;

std::unexpected<Objection> invalid(std::string message) {
  return std::unexpected(Objection{Objection::Why::invalid, std::move(message)});
}

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

Checked check_name(const std::string& name) {
  if (name.empty()) return {};
  bool good = name.size() <= kNameBytesMax && is_lower(name.front()) && name.back() != '-';
  for (const char c : name) good = good && (is_lower(c) || is_digit(c) || c == '-');
  if (good) return {};
  return invalid("name: found " + shown(name) +
                 ", expected 1 to 63 lower case letters, digits and hyphens that begin with a letter "
                 "and do not end with a hyphen");
}

// "found X, expected between A and B" for an amount that has its own notation.
struct Amount {
  const char* field;
  const char* example;
  std::int64_t least, most;
  std::string (*text)(std::int64_t);
};

std::string millicores_text(std::int64_t value) { return std::to_string(value) + "m"; }

std::expected<std::int64_t, Objection> amount(const Amount& rule, const std::string& found,
                                              std::optional<std::int64_t> parsed) {
  if (!parsed) {
    return invalid(std::string("resources.") + rule.field + ": found " + shown(found) +
                   ", expected an amount such as " + rule.example);
  }
  if (*parsed < rule.least || *parsed > rule.most) {
    return invalid(std::string("resources.") + rule.field + ": found " + shown(found) +
                   ", expected from " + rule.text(rule.least) + " to " + rule.text(rule.most));
  }
  return *parsed;
}

Checked read_gpu(const std::string& text, Asked& asked) {
  const auto gpu = parse_gpu(text);
  if (!gpu || text.size() > 128 || gpu->count > kGpusPerNodeMax) {
    return invalid("resources.gpu: found " + shown(text) +
                   ", expected \"A100\" or \"2:nvidia-a100\" with at most " +
                   std::to_string(kGpusPerNodeMax) + " GPUs");
  }
  asked.resources.gpus = gpu->count;
  asked.resources.gpu_millis = 1'000;
  asked.gpu = std::to_string(gpu->count) + " x " + gpu->model;
  return {};
}

Checked read_resources(const wire::ResourceLimits& limits, Asked& asked) {
  static constexpr Amount kCpu{"cpu", "\"2\" or \"500m\"", kCpuMillicoresMin, kCpuMillicoresMax,
                               millicores_text};
  static constexpr Amount kMemory{"memory", "\"4Gi\" or \"512Mi\"", kMemoryBytesMin, kBytesMax,
                                  bytes_text};
  static constexpr Amount kDisk{"disk", "\"10Gi\"", kDiskBytesMin, kBytesMax, bytes_text};
  asked.resources.cpu_millicores = kCpuMillicoresUsual;
  asked.resources.memory_bytes = kMemoryBytesUsual;
  asked.resources.disk_bytes = kDiskBytesUsual;
  if (limits.has_cpu()) {
    const auto cpu = amount(kCpu, limits.cpu(), parse_cpu_millicores(limits.cpu()));
    if (!cpu) return std::unexpected(cpu.error());
    asked.resources.cpu_millicores = *cpu;
  }
  if (limits.has_memory()) {
    const auto memory = amount(kMemory, limits.memory(), parse_bytes(limits.memory()));
    if (!memory) return std::unexpected(memory.error());
    asked.resources.memory_bytes = *memory;
  }
  if (limits.has_disk()) {
    const auto disk = amount(kDisk, limits.disk(), parse_bytes(limits.disk()));
    if (!disk) return std::unexpected(disk.error());
    asked.resources.disk_bytes = *disk;
  }
  if (limits.has_gpu() && !limits.gpu().empty()) return read_gpu(limits.gpu(), asked);
  return {};
}

Checked read_lifetime(const wire::ChalkContainerSpec& spec, Asked& asked) {
  if (!spec.has_lifetime()) return {};
  const std::int64_t seconds = spec.lifetime().seconds();
  const std::int64_t nanos = spec.lifetime().nanos();
  const bool whole = seconds >= 0 && nanos >= 0 && nanos < 1'000'000'000 && seconds + nanos > 0;
  if (!whole || seconds > kLifetimeSecondsMax || (seconds == kLifetimeSecondsMax && nanos > 0)) {
    return invalid("lifetime: found " + std::to_string(seconds) + " s and " +
                   std::to_string(nanos) + " ns, expected more than nothing and at most " +
                   std::to_string(kLifetimeSecondsMax) + " s (30 days)");
  }
  asked.lifetime = Duration{seconds * 1'000'000'000 + nanos};
  return {};
}

Checked check_tags(const Variables& tags) {
  if (tags.size() > kTagsMax) {
    return invalid("tags: found " + std::to_string(tags.size()) + ", expected at most " +
                   std::to_string(kTagsMax));
  }
  for (const auto& [name, value] : tags) {
    if (name.empty() || name.size() > kTagBytesMax || value.size() > kTagBytesMax) {
      return invalid("tags: found " + shown(name) + " with " + std::to_string(value.size()) +
                     " bytes, expected names and values of at most " +
                     std::to_string(kTagBytesMax) + " bytes");
    }
  }
  return {};
}

// A whole number without sign or anything behind it.
std::optional<std::uint32_t> read_whole(std::string_view text) {
  std::uint32_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

Checked read_gang(const std::string& text, Asked& asked) {
  const std::size_t slash = text.rfind('/');
  const auto size = read_whole(slash == std::string::npos ? "" : text.substr(slash + 1));
  if (slash == 0 || !size || *size < 2 || *size > kGangSizeMax) {
    return invalid("tags: " + std::string(kGangTag) + ": found " + shown(text) +
                   ", expected NAME/SIZE with a size of 2 to " + std::to_string(kGangSizeMax));
  }
  Digest name;
  name.add(std::string_view(text).substr(0, slash));
  asked.gang = {name.value(), *size};
  return {};
}

Checked read_reserved_tags(const Variables& tags, Asked& asked) {
  for (const auto& [name, value] : tags) {
    if (!name.starts_with(kTagsReserved)) continue;
    if (name == kGangTag) {
      if (auto good = read_gang(value, asked); !good) return good;
    } else if (name == kPriorityTag) {
      const auto priority = read_whole(value);
      if (!priority || *priority > kPriorityMax) {
        return invalid("tags: " + name + ": found " + shown(value) +
                       ", expected a whole number of 0 to " + std::to_string(kPriorityMax));
      }
      asked.priority = static_cast<Priority>(*priority);
    } else if (name == kWorkdirTag) {
      if (!value.starts_with('/')) {
        return invalid("tags: " + name + ": found " + shown(value) +
                       ", expected a path that begins with /");
      }
      if (auto good = check_path(kWorkdirTag.data(), value); !good) return good;
      asked.payload.set_workdir(value);
    } else if (name != kCreationTag) {
      return invalid("tags: found " + shown(name) + "; of the names that begin with " +
                     std::string(kTagsReserved) + " there are " + std::string(kPriorityTag) + ", " +
                     std::string(kGangTag) + ", " + std::string(kWorkdirTag) + " and " +
                     std::string(kCreationTag));
    }
  }
  return {};
}

// ---- probes

Checked read_http(const char* field, const wire::HttpProbe& http, node::v1::Probe& out) {
  const std::string path = http.path().empty() ? "/" : http.path();
  bool good = path.front() == '/' && path.size() <= kProbePathBytesMax;
  for (const char c : path) good = good && c > ' ' && c < 0x7f;
  if (!good) {
    return invalid(std::string(field) + ".http.path: found " + shown(path) +
                   ", expected a path such as \"/ready\" of printable ASCII");
  }
  out.set_http_path(path);
  return {};
}

Checked read_grpc(const char* field, const std::string& service, node::v1::Probe& out) {
  if (service.size() > kProbeServiceBytesMax || service.find('\0') != std::string::npos) {
    return invalid(std::string(field) + ".grpc: found " + shown(service) +
                   ", expected a service's name of at most " +
                   std::to_string(kProbeServiceBytesMax) + " bytes");
  }
  out.set_grpc_service(service);
  return {};
}

// 0 where it is not said: the node has its own.
std::expected<std::uint32_t, Objection> bounded(const char* field, bool said, std::int64_t value,
                                                std::int64_t most) {
  if (!said) return 0;
  if (value < 1 || value > most) {
    return invalid(std::string(field) + ": found " + std::to_string(value) +
                   ", expected from 1 to " + std::to_string(most));
  }
  return static_cast<std::uint32_t>(value);
}

Checked read_readiness(const wire::ReadinessProbe& probe, node::v1::Probe& out) {
  const auto period = bounded("readiness_probe.period_seconds", probe.has_period_seconds(),
                              probe.period_seconds(), kProbeSecondsMax);
  if (!period) return std::unexpected(period.error());
  const auto timeout = bounded("readiness_probe.timeout_seconds", probe.has_timeout_seconds(),
                               probe.timeout_seconds(), kProbeSecondsMax);
  if (!timeout) return std::unexpected(timeout.error());
  const auto failures = bounded("readiness_probe.failure_threshold", probe.has_failure_threshold(),
                                probe.failure_threshold(), kProbeFailuresMax);
  if (!failures) return std::unexpected(failures.error());
  out.set_period_ms(*period * 1'000);
  out.set_timeout_ms(*timeout * 1'000);
  out.set_failure_threshold(*failures);
  return probe.has_http() ? read_http("readiness_probe", probe.http(), out)
                          : read_grpc("readiness_probe", probe.grpc().service(), out);
}

Checked read_port(const wire::ChalkContainerSpec& spec, node::v1::SandboxPayload& payload) {
  if (spec.has_port()) {
    if (spec.port() < 1 || spec.port() > 65'535) {
      return invalid("port: found " + std::to_string(spec.port()) +
                     ", expected from 1 to 65535");
    }
    payload.set_port(spec.port());
  }
  const bool startup = spec.startup_probe().check_case() != wire::StartupProbe::CHECK_NOT_SET;
  const bool readiness = spec.readiness_probe().check_case() != wire::ReadinessProbe::CHECK_NOT_SET;
  if ((startup || readiness) && !spec.has_port()) {
    return invalid(std::string(startup ? "startup_probe" : "readiness_probe") +
                   ": found no port, expected one that the probe can ask");
  }
  if (startup) {
    const auto& probe = spec.startup_probe();
    node::v1::Probe& out = *payload.mutable_startup_probe();
    auto read = probe.has_http() ? read_http("startup_probe", probe.http(), out)
                                 : read_grpc("startup_probe", probe.grpc().method(), out);
    if (!read) return read;
  }
  if (readiness) return read_readiness(spec.readiness_probe(), *payload.mutable_readiness_probe());
  return {};
}

}  // namespace

Checked check_words(const std::string& field, const Words& words) {
  std::size_t bytes = 0;
  for (const std::string& word : words) {
    bytes += word.size() + 1;
    if (word.size() > kArgumentBytesMax || word.find('\0') != std::string::npos) {
      return invalid(field + ": found " + shown(word) + ", expected at most " +
                     std::to_string(kArgumentBytesMax) + " bytes without a zero byte");
    }
  }
  if (static_cast<std::size_t>(words.size()) > kArgumentsMax || bytes > kArgumentsBytesMax) {
    return invalid(field + ": found " + std::to_string(words.size()) + " words with " +
                   std::to_string(bytes) + " bytes, expected at most " +
                   std::to_string(kArgumentsMax) + " with " + std::to_string(kArgumentsBytesMax));
  }
  return {};
}

Checked check_variables(const char* field, const Variables& variables) {
  std::size_t bytes = 0;
  if (variables.size() > kVariablesMax) {
    return invalid(std::string(field) + ": found " + std::to_string(variables.size()) +
                   " variables, expected at most " + std::to_string(kVariablesMax));
  }
  for (const auto& [name, value] : variables) {
    bytes += name.size() + value.size() + 2;
    if (name.empty() || name.size() > kVariableNameBytesMax ||
        name.find('=') != std::string::npos || name.find('\0') != std::string::npos) {
      return invalid(std::string(field) + ": found the name " + shown(name) + ", expected 1 to " +
                     std::to_string(kVariableNameBytesMax) + " bytes without = and zero bytes");
    }
    if (value.size() > kVariableBytesMax || value.find('\0') != std::string::npos) {
      return invalid(std::string(field) + ": " + shown(name) + ": found " +
                     std::to_string(value.size()) + " bytes, expected at most " +
                     std::to_string(kVariableBytesMax) + " without a zero byte");
    }
  }
  if (bytes > kVariablesBytesMax) {
    return invalid(std::string(field) + ": found " + std::to_string(bytes) +
                   " bytes of variables, expected at most " + std::to_string(kVariablesBytesMax));
  }
  return {};
}

Checked check_path(const char* field, const std::string& path) {
  if (path.empty() || path.size() > 4'095 || path.find('\0') != std::string::npos) {
    return invalid(std::string(field) + ": found " + shown(path) +
                   ", expected a path of 1 to 4095 bytes without a zero byte");
  }
  return {};
}

std::expected<Asked, Objection> translate(const wire::ChalkContainerSpec& spec) {
  if (spec.ByteSizeLong() > kSpecBytesMax) {
    return invalid("the specification: found " + std::to_string(spec.ByteSizeLong()) +
                   " bytes, expected at most " + std::to_string(kSpecBytesMax));
  }
  Asked asked;
  node::v1::SandboxPayload& payload = asked.payload;
  if (auto good = check_name(spec.name()); !good) return std::unexpected(good.error());
  const auto reference = images::parse_reference(spec.image());
  if (!reference) return invalid("image: " + reference.error().message);
  if (auto good = check_words("entrypoint", spec.entrypoint()); !good) {
    return std::unexpected(good.error());
  }
  if (!spec.entrypoint().empty() && spec.entrypoint(0).empty()) {
    return invalid("entrypoint: found an empty first word, expected the program to run");
  }
  if (auto good = check_variables("env_vars", spec.env_vars()); !good) {
    return std::unexpected(good.error());
  }
  if (auto good = check_tags(spec.tags()); !good) return std::unexpected(good.error());
  if (auto good = read_reserved_tags(spec.tags(), asked); !good) {
    return std::unexpected(good.error());
  }
  if (auto good = read_resources(spec.resources(), asked); !good) {
    return std::unexpected(good.error());
  }
  if (auto good = read_lifetime(spec, asked); !good) return std::unexpected(good.error());
  if (auto good = read_port(spec, payload); !good) return std::unexpected(good.error());
  if (auto good = check_supported(spec); !good) return std::unexpected(good.error());
  asked.restart = spec.restart_policy() == wire::RESTART_POLICY_ALWAYS;
  asked.image = spec.image();
  payload.set_hostname(spec.name());
  *payload.mutable_argv() = spec.entrypoint();
  *payload.mutable_env() = spec.env_vars();
  payload.set_disk_bytes(asked.resources.disk_bytes);
  payload.set_public_spec(spec.SerializeAsString());
  return asked;
}

// Its environment, directory and user are put under the request's by the node.
Checked take_image(const images::Image& image, Asked& asked) {
  const std::string name = "the image " + shown(asked.image, 200);
  node::v1::SandboxPayload& payload = asked.payload;
  payload.set_image(images::encode_image(image));
  if (payload.argv().empty()) {
    for (const auto* words : {&image.config.entrypoint, &image.config.cmd}) {
      for (const std::string& word : *words) payload.add_argv(word);
    }
    if (payload.argv().empty()) {
      return invalid("entrypoint: found none, and " + name +
                     " names no command either; expected the program to run");
    }
    if (auto good = check_words("entrypoint: none, and that of " + name, payload.argv()); !good) {
      return good;
    }
  }
  if (payload.ByteSizeLong() > kPayloadBytesMax) {
    return invalid(name + ": found " + std::to_string(payload.ByteSizeLong()) +
                   " bytes for a node to know, of which the image's command, environment and "
                   "layers are " + std::to_string(payload.image().size()) +
                   ", expected at most " + std::to_string(kPayloadBytesMax) +
                   "; use an image with a smaller configuration");
  }
  return {};
}

records::Label read_label(SandboxId sandbox, const std::string& payload) {
  records::Label label;
  label.id = sandbox_text_id(sandbox);
  node::v1::SandboxPayload read;
  if (read.ParseFromString(payload)) label.name = public_spec(read).name();
  return label;
}

wire::ChalkContainerSpec public_spec(const node::v1::SandboxPayload& payload) {
  wire::ChalkContainerSpec spec;
  if (!spec.ParseFromString(payload.public_spec())) spec.Clear();
  return spec;
}

}  // namespace chalk::api
