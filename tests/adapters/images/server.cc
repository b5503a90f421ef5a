#include "tests/adapters/images/server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <stdexcept>

namespace chalk::images::testing {
namespace {

bool send_all(int connection, const std::string& text) {
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t now = send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (now <= 0) return false;
    sent += static_cast<std::size_t>(now);
  }
  return true;
}

Asked parse(const std::string& text) {
  Asked asked;
  std::istringstream lines(text);
  lines >> asked.method >> asked.path;
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    const auto begin = line.find_first_not_of(' ', colon + 1);
    const auto end = line.find_last_not_of("\r\n ");
    if (begin != std::string::npos) asked.headers[name] = line.substr(begin, end - begin + 1);
  }
  return asked;
}

}  // namespace

Server::Server(Handler handler) : handler_(std::move(handler)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("no loopback port");
  port_ = ntohs(address.sin_port);
  accepting_ = std::thread([this] { accept_all(); });
}

Server::~Server() {
  ending_ = true;
  accepting_.join();
  for (std::thread& thread : connections_) thread.join();
  close(listener_);
}

std::string Server::host() const { return "127.0.0.1:" + std::to_string(port_); }

std::vector<Asked> Server::asked() const {
  const std::scoped_lock lock(mutex_);
  return asked_;
}

void Server::accept_all() {
  while (!ending_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (poll(&waiting, 1, 20) <= 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0) connections_.emplace_back([this, connection] { serve(connection); });
  }
}

void Server::serve(int connection) {
  std::string text;
  while (!ending_ && text.find("\r\n\r\n") == std::string::npos) {
    pollfd waiting{connection, POLLIN, 0};
    if (poll(&waiting, 1, 20) <= 0) continue;
    char buffer[4096];
    const ssize_t size = recv(connection, buffer, sizeof buffer, 0);
    if (size <= 0) break;
    text.append(buffer, static_cast<std::size_t>(size));
  }
  if (text.find("\r\n\r\n") != std::string::npos) {
    Answer answer;
    {
      const std::scoped_lock lock(mutex_);
      asked_.push_back(parse(text));
      answer = handler_(asked_.back());
    }
    std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " x\r\nConnection: close\r\n";
    if (!answer.no_length) head += "Content-Length: " + std::to_string(answer.body.size()) + "\r\n";
    for (const std::string& header : answer.headers) head += header + "\r\n";
    const long stop = answer.cut_after >= 0 ? answer.cut_after : answer.stall_after;
    const std::string body =
        stop >= 0 ? answer.body.substr(0, static_cast<std::size_t>(stop)) : answer.body;
    if (send_all(connection, head + "\r\n" + body) && answer.stall_after >= 0)
      while (!ending_) {
        pollfd waiting{connection, POLLIN, 0};
        if (poll(&waiting, 1, 20) > 0) break;  // the client left
      }
  }
  shutdown(connection, SHUT_RDWR);
  close(connection);
}

}  // namespace chalk::images::testing
