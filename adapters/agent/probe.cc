#include "adapters/agent/probe.h"

#include <fcntl.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "adapters/agent/checks.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

using std::chrono::milliseconds;

Result<void> http(int connection, const std::string& path, milliseconds timeout) {
  timeval limit{};
  limit.tv_sec = timeout.count() / 1000;
  limit.tv_usec = timeout.count() % 1000 * 1000;
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  const auto request = http_question(path);
  if (!request) return std::unexpected(request.error());
  if (send(connection, request->data(), request->size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request->size())) {
    return fail(Error::Kind::unavailable, "probe: the connection does not take the request");
  }
  std::string line;
  std::array<char, 256> buffer;
  while (line.size() < kStatusLineBytes) {
    const ssize_t size = recv(connection, buffer.data(), buffer.size(), 0);
    if (size <= 0) break;
    line.append(buffer.data(), static_cast<std::size_t>(size));
  }
  const auto answer = http_answer(path, line);
  if (!answer) return std::unexpected(answer.error());
  return {};
}

Result<void> grpc_health(int connection, const std::string& service, milliseconds timeout) {
  fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | O_NONBLOCK);
  const auto channel = grpc::CreateInsecureChannelFromFd("sandbox", connection);
  grpc::GenericStub stub(channel);
  const grpc::ByteBuffer asked = health_question(service);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(&context, kHealthMethod, asked, &queue);
  call->StartCall();
  grpc::ByteBuffer bytes;
  grpc::Status status;
  call->Finish(&bytes, &status, &bytes);
  void* tag = nullptr;
  bool good = false;
  queue.Next(&tag, &good);
  queue.Shutdown();
  while (queue.Next(&tag, &good)) {
  }
  const auto answer = health_answer(status, bytes);
  if (!answer) return std::unexpected(answer.error());
  return {};
}

}  // namespace

ProbeTimes probe_times(const node::v1::Probe& what) {
  ProbeTimes times;
  if (what.period_ms() != 0) times.period = milliseconds(std::clamp(what.period_ms(), 10u, 600'000u));
  if (what.timeout_ms() != 0) {
    times.timeout = milliseconds(std::clamp(what.timeout_ms(), 10u, 600'000u));
  }
  if (what.failure_threshold() != 0) {
    times.failures_max = static_cast<int>(std::min(what.failure_threshold(), 10'000u));
  }
  return times;
}

ProbeTimes readiness_times(const node::v1::Probe& what) {
  ProbeTimes times = probe_times(what);
  if (what.period_ms() == 0) times.period = milliseconds(10'000);
  if (what.failure_threshold() == 0) times.failures_max = 3;
  return times;
}

Result<void> probe(const node::v1::Probe& what, const Dial& dial) {
  const ProbeTimes times = probe_times(what);
  const auto connection = dial(times.timeout);
  if (!connection) return std::unexpected(connection.error());
  switch (what.check_case()) {
    case node::v1::Probe::kHttpPath: {
      const auto done = http(*connection, what.http_path(), times.timeout);
      close(*connection);
      return done;
    }
    case node::v1::Probe::kGrpcService:  // the channel closes the descriptor
      return grpc_health(*connection, what.grpc_service(), times.timeout);
    case node::v1::Probe::kTcp:
    case node::v1::Probe::CHECK_NOT_SET: break;
  }
  close(*connection);
  return {};
}

}  // namespace chalk::agent
