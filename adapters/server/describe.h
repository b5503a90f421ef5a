// What is kept of a sandbox, read for people: its payload and notes taken apart, its status in one
// word, the timeline of its start.
#pragma once
#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>
#include <vector>

#include "adapters/api/translate.h"
#include "adapters/records/records.h"
#include "adapters/server/waits.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::server {

struct Described {
  node::v1::SandboxPayload payload;
  node::v1::SandboxNote note;  // of its end where it has ended, its start's times filled in
  node::v1::SandboxNote last_exit;  // its last end after which its node started it again
  std::string image;           // as docker writes it
  std::string image_digest;
};
Described describe(const records::Sandbox& sandbox);

// pending, running, stopping; after the end: succeeded, failed, terminated or error.
std::string status_word(const records::Sandbox& sandbox, const node::v1::SandboxNote& note);
// Why it is so, in a sentence; empty while there is nothing to say.
// `waits`: what is known of why some wait (waits.h).
std::string status_sentence(const records::Sandbox& sandbox, const Described& about,
                            const Waits& waits = {});
// How a process ended: "exit code 3", "signal 9", or why a start failed; empty where it has not.
std::string exit_text(const node::v1::SandboxNote& note);

struct Phase {
  std::string name;
  std::int64_t at = 0;   // nanoseconds since 1970
  bool of_node = false;  // by the node's clock
};
// In the order in which a start goes, without what has not come.
std::vector<Phase> timeline(const records::Sandbox& sandbox, const node::v1::SandboxNote& note);

void set_time(std::int64_t nanoseconds, google::protobuf::Timestamp* out);

// What the answers of both public services say alike. In lists the variables stay away: they may be
// large, and secrets travel in them.
template <class Answer>
void write_common(const records::Sandbox& from, const Described& about, bool listed, Answer* to) {
  to->set_id(from.id);
  to->set_name(from.name);
  *to->mutable_spec() = api::public_spec(about.payload);
  if (listed) to->mutable_spec()->clear_env_vars();
  set_time(from.created.nanos, to->mutable_created_at());
  if (!about.note.web_url().empty() && from.ended.nanos == 0) to->set_web_url(about.note.web_url());
  if (!about.payload.created_by().empty()) to->set_created_by(about.payload.created_by());
}

}  // namespace chalk::server
