#include "adapters/server/describe.h"

#include "adapters/images/image.h"
#include "adapters/records/words.h"

namespace chalk::server {
namespace {

// Docker Hub's official images lose the parts that nobody writes.
std::string short_name(const images::Reference& reference) {
  std::string text = images::to_string(reference);
  for (const std::string_view prefix : {"docker.io/library/", "docker.io/"}) {
    if (text.starts_with(prefix)) return text.substr(prefix.size());
  }
  return text;
}

// A start that failed leaves its times only in the note of its end.
void fill(node::v1::SandboxNote& note, const node::v1::SandboxNote& started) {
  if (note.accepted_at() == 0) note.set_accepted_at(started.accepted_at());
  if (note.layers_ready_at() == 0) note.set_layers_ready_at(started.layers_ready_at());
  if (note.network_ready_at() == 0) note.set_network_ready_at(started.network_ready_at());
  if (note.created_at() == 0) note.set_created_at(started.created_at());
  if (note.started_at() == 0) note.set_started_at(started.started_at());
  if (note.first_byte_at() == 0) note.set_first_byte_at(started.first_byte_at());
  if (note.ready_at() == 0) note.set_ready_at(started.ready_at());
  if (note.web_url().empty()) note.set_web_url(started.web_url());
  if (note.address().empty()) note.set_address(started.address());
  if (note.node_name().empty()) note.set_node_name(started.node_name());
}

}  // namespace

Described describe(const records::Sandbox& sandbox) {
  Described out;
  // Bytes of our own making; what cannot be read stays empty, which every reader copes with.
  if (!out.payload.ParseFromString(sandbox.payload)) out.payload.Clear();
  node::v1::SandboxNote started;
  if (!started.ParseFromString(sandbox.started_note)) started.Clear();
  if (!out.note.ParseFromString(sandbox.ended_note)) out.note.Clear();
  if (!out.last_exit.ParseFromString(sandbox.exit_note)) out.last_exit.Clear();
  node::v1::SandboxNote again;
  if (again.ParseFromString(sandbox.again_note)) {  // its timeline stays that of the first start
    if (out.note.web_url().empty()) out.note.set_web_url(again.web_url());
    if (out.note.address().empty()) out.note.set_address(again.address());
  }
  // Where it waited for its next start when it was ended, its last exit is all there was.
  if (sandbox.status == records::Status::ended && out.note.ended_at() == 0) {
    out.note.set_exit_code(out.last_exit.exit_code());
    out.note.set_signal(out.last_exit.signal());
  }
  fill(out.note, started);
  if (const auto image = images::decode_image(out.payload.image())) {
    out.image = short_name(image->reference);
    out.image_digest = image->manifest_digest;
  }
  return out;
}

std::string status_word(const records::Sandbox& sandbox, const node::v1::SandboxNote& note) {
  switch (sandbox.status) {
    case records::Status::pending: return "pending";
    case records::Status::running: return "running";
    case records::Status::ending: return "stopping";
    case records::Status::refused: return "error";
    case records::Status::ended: break;
  }
  if (sandbox.stop_asked) return "terminated";
  switch (sandbox.reason) {
    case EndReason::exited:
      return note.exit_code() == 0 && note.signal() == 0 ? "succeeded" : "failed";
    case EndReason::terminated:
    case EndReason::preempted:
    case EndReason::gang_ended:
    case EndReason::lifetime_reached: return "terminated";
    case EndReason::out_of_memory: return "failed";
    default: return "error";
  }
}

std::string exit_text(const node::v1::SandboxNote& note) {
  if (note.ended_at() == 0) return {};
  const bool said = note.signal() != 0 || note.exit_code() != 0;
  if (!said && !note.detail().empty()) return note.detail();
  const std::string text = note.signal() != 0 ? "signal " + std::to_string(note.signal())
                                        : "exit code " + std::to_string(note.exit_code());
  return note.detail().empty() ? text : text + ": " + note.detail();
}

std::string status_sentence(const records::Sandbox& sandbox, const Described& about,
                            const Waits& waits) {
  const node::v1::SandboxNote& note = about.note;
  if (sandbox.status == records::Status::refused) return sandbox.refusal;
  if (sandbox.status == records::Status::running && sandbox.restarts > 0) {
    const std::string count = std::to_string(sandbox.restarts);
    const std::string last = exit_text(about.last_exit);
    return (sandbox.waits ? "it waits for restart " + count : "restarted, " + count + " in all") +
           (last.empty() ? "" : ", the last after " + last);
  }
  if (sandbox.status == records::Status::pending) {
    const auto why = waits.find(sandbox.sandbox);
    return why == waits.end() ? "" : why->second;
  }
  if (sandbox.status != records::Status::ended) return {};
  std::string text = records::end_reason_text(sandbox.reason);
  if (sandbox.reason == EndReason::exited) {
    text += note.signal() != 0 ? " by signal " + std::to_string(note.signal())
                               : " with exit code " + std::to_string(note.exit_code());
  }
  if (!note.detail().empty()) text += ": " + note.detail();
  return text;
}

std::vector<Phase> timeline(const records::Sandbox& sandbox, const node::v1::SandboxNote& note) {
  const std::vector<Phase> all = {
      {"asked", sandbox.created.nanos, false},
      {"placed", sandbox.placed.nanos, false},
      {"accepted", note.accepted_at(), true},
      {"layers ready", note.layers_ready_at(), true},
      {"network ready", note.network_ready_at(), true},
      {"created", note.created_at(), true},
      {"started", note.started_at(), true},
      {"first byte", note.first_byte_at(), true},
      {"ready", note.ready_at(), true},
      {"running", sandbox.running.nanos, false},
      {"ended", note.ended_at() != 0 ? note.ended_at() : sandbox.ended.nanos,
       note.ended_at() != 0},
  };
  std::vector<Phase> out;
  for (const Phase& phase : all) {
    if (phase.at > 0) out.push_back(phase);
  }
  return out;
}

void set_time(std::int64_t nanoseconds, google::protobuf::Timestamp* out) {
  out->set_seconds(nanoseconds / 1'000'000'000);
  out->set_nanos(static_cast<std::int32_t>(nanoseconds % 1'000'000'000));
}

}  // namespace chalk::server
