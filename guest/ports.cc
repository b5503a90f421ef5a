#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include "guest/commands.h"
#include "guest/report.h"

namespace chalk::guest {
namespace {

constexpr std::int64_t kTimeout = 10'000;  // milliseconds, unless --timeout-ms says otherwise
constexpr int kPause = 20;                 // milliseconds between two tries
constexpr std::size_t kStatusLine = 4096;  // bytes that may come before the first line ends

std::int64_t now_ms() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000;
}

struct Socket {
  explicit Socket(int number = -1) : number(number) {}
  Socket(Socket&& other) noexcept : number(std::exchange(other.number, -1)) {}
  Socket(const Socket&) = delete;
  ~Socket() {
    if (number >= 0) close(number);
  }
  int number;
};

// Waits until the descriptor is ready; 0 or an error number.
int wait_for(int descriptor, short events, std::int64_t deadline) {
  while (true) {
    const std::int64_t left = deadline - now_ms();
    if (left <= 0) return ETIMEDOUT;
    pollfd one = {descriptor, events, 0};
    const int ready = poll(&one, 1, static_cast<int>(left));
    if (ready > 0) return 0;
    if (ready < 0 && errno != EINTR) return errno;
  }
}

// One try; a socket without a number and `error` when nothing listens there.
Socket try_connect(int family, std::uint16_t port, std::int64_t deadline, int& error) {
  Socket made(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  error = made.number < 0 ? errno : 0;
  if (error != 0) return made;
  sockaddr_storage address = {};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    *v4 = {.sin_family = AF_INET,
           .sin_port = htons(port),
           .sin_addr = {htonl(INADDR_LOOPBACK)},
           .sin_zero = {}};
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    v6->sin6_addr = in6addr_loopback;
    size = sizeof(sockaddr_in6);
  }
  if (connect(made.number, reinterpret_cast<sockaddr*>(&address), size) == 0) return made;
  error = errno;
  if (error == EINPROGRESS) error = wait_for(made.number, POLLOUT, deadline);
  socklen_t length = sizeof error;
  if (error == 0) getsockopt(made.number, SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? std::move(made) : Socket();
}

// Tries 127.0.0.1 and ::1 once each; `error` is what was found when neither accepts.
Socket connect_once(std::uint16_t port, std::int64_t deadline, int& error) {
  for (const int family : {AF_INET, AF_INET6}) {
    int found = 0;
    Socket made = try_connect(family, port, deadline, found);
    if (made.number >= 0) return made;
    // IPv6 may be absent altogether; then what IPv4 said counts.
    if (family == AF_INET || found == ECONNREFUSED) error = found;
  }
  return Socket();
}

std::optional<std::uint16_t> port_from(const std::string& text) {
  std::uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || stopped != end || port == 0) return std::nullopt;
  return port;
}

int bad_port(const std::string& text) {
  return misused("expected a port from 1 to 65535, found '" + text + "'");
}

int send_all(int descriptor, std::string_view bytes, std::int64_t deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EINTR) {
      if (const int error = wait_for(descriptor, POLLOUT, deadline)) return error;
    } else {
      return errno;
    }
  }
  return 0;
}

// Reads the answer's first line; 0 or an error number.
int receive_line(int descriptor, std::int64_t deadline, std::string& line) {
  while (line.find('\n') == std::string::npos) {
    if (line.size() >= kStatusLine) return EPROTO;
    if (const int error = wait_for(descriptor, POLLIN, deadline)) return error;
    char buffer[512];
    const ssize_t got = recv(descriptor, buffer, sizeof buffer, 0);
    if (got == 0) return EPROTO;
    if (got < 0 && errno != EAGAIN && errno != EINTR) return errno;
    if (got > 0) line.append(buffer, static_cast<std::size_t>(got));
  }
  return 0;
}

// The status in "HTTP/1.1 200 OK", or 0.
int status_in(const std::string& line) {
  if (!line.starts_with("HTTP/1.") || line.size() < 12 || line[8] != ' ') return 0;
  int status = 0;
  const auto [stopped, error] = std::from_chars(line.data() + 9, line.data() + 12, status);
  return error == std::errc() && stopped == line.data() + 12 && status >= 100 ? status : 0;
}

}  // namespace

int wait_port(const Arguments& arguments) {
  const auto port = port_from(arguments.places[0]);
  if (!port) return bad_port(arguments.places[0]);
  int error = 0;
  const std::int64_t timeout = arguments.get("timeout-ms", kTimeout);
  const std::int64_t deadline = now_ms() + timeout;
  // With a timeout of 0 there is still one try.
  while (true) {
    const std::int64_t this_try = std::max(deadline, now_ms() + kPause);
    if (connect_once(*port, this_try, error).number >= 0) return kDone;
    if (now_ms() + kPause >= deadline) break;
    poll(nullptr, 0, kPause);
  }
  return failed(ETIMEDOUT, "port " + arguments.places[0] + " takes no connection within " +
                               std::to_string(timeout) + " ms, last " + error_name(error));
}

int http_get(const Arguments& arguments) {
  const auto port = port_from(arguments.places[0]);
  if (!port) return bad_port(arguments.places[0]);
  const std::string& path = arguments.places[1];
  const bool clean =
      std::all_of(path.begin(), path.end(), [](char c) { return c > ' ' && c < 127; });
  if (!path.starts_with('/') || !clean || path.size() > 2048) {
    return misused("expected a path that starts with / and holds no space, found '" + path + "'");
  }
  const std::string place = "GET " + path + " of port " + arguments.places[0];
  const std::int64_t deadline = now_ms() + arguments.get("timeout-ms", kTimeout);
  int error = 0;
  // A refused connection is an answer: whether to try again is the caller's decision.
  const Socket made = connect_once(*port, deadline, error);
  if (made.number < 0) return failed(error, place);
  const std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: localhost:" + arguments.places[0] +
      "\r\nUser-Agent: chalk-guest\r\nAccept: */*\r\nConnection: close\r\n\r\n";
  if (const int sent = send_all(made.number, request, deadline)) return failed(sent, place);
  std::string line;
  if (const int got = receive_line(made.number, deadline, line)) return failed(got, place);
  const int status = status_in(line);
  if (status == 0) {
    return failed(EPROTO, place + ": expected an HTTP status line, found '" +
                              line.substr(0, std::min<std::size_t>(line.find('\n'), 80)) + "'");
  }
  if (status < 200 || status > 399) {
    return failed(EPROTO, place + ": expected status 200 to 399, found " + std::to_string(status));
  }
  return Line().number("status", status).print() ? kDone : kFailed;
}

}  // namespace chalk::guest
