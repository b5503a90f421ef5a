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

#include "chalk/node/v1/node.pb.h"

namespace chalk::agent {
namespace {

using std::chrono::milliseconds;

// The status line is all that counts: "HTTP/1.1 200 OK".
Result<void> http(int connection, const std::string& path, milliseconds timeout) {
  timeval limit{};
  limit.tv_sec = timeout.count() / 1000;
  limit.tv_usec = timeout.count() % 1000 * 1000;
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (path.empty() || path.front() != '/' || path.find_first_of(" \r\n") != std::string::npos) {
    return fail(Error::Kind::invalid, "probe: http path \"" + path + "\": expected /...");
  }
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: sandbox\r\nUser-Agent: chalk-probe\r\n" +
      "Accept: */*\r\nConnection: close\r\n\r\n";
  if (send(connection, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return fail(Error::Kind::unavailable, "probe: the connection does not take the request");
  }
  std::string line;
  std::array<char, 256> buffer;
  while (line.size() < 16) {
    const ssize_t size = recv(connection, buffer.data(), buffer.size(), 0);
    if (size <= 0) break;
    line.append(buffer.data(), static_cast<std::size_t>(size));
  }
  if (!line.starts_with("HTTP/1.") || line.size() < 12 || line[8] != ' ') {
    return fail(Error::Kind::unavailable, "probe: GET " + path + ": no HTTP answer");
  }
  if (line[9] != '2' && line[9] != '3') {
    return fail(Error::Kind::unavailable, "probe: GET " + path + ": status " + line.substr(9, 3));
  }
  return {};
}

// grpc.health.v1.Health/Check by its bytes: {service = 1} -> {status = 1}, 1 means SERVING.
Result<void> grpc_health(int connection, const std::string& service, milliseconds timeout) {
  fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | O_NONBLOCK);
  const auto channel = grpc::CreateInsecureChannelFromFd("sandbox", connection);
  grpc::GenericStub stub(channel);
  std::string request;
  if (!service.empty() && service.size() < 128) {
    request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  }
  const grpc::Slice slice(request);
  const grpc::ByteBuffer asked(&slice, 1);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", asked, &queue);
  call->StartCall();
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->Finish(&answer, &status, &answer);
  void* tag = nullptr;
  bool good = false;
  queue.Next(&tag, &good);
  queue.Shutdown();
  while (queue.Next(&tag, &good)) {
  }
  if (!status.ok()) {
    return fail(Error::Kind::unavailable, "probe: grpc health: " + status.error_message());
  }
  grpc::Slice bytes;
  const bool serving = answer.DumpToSingleSlice(&bytes).ok() && bytes.size() >= 2 &&
                       bytes.begin()[0] == 8 && bytes.begin()[1] == 1;
  if (!serving) return fail(Error::Kind::unavailable, "probe: grpc health: not serving");
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
