#include "adapters/network/network.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "adapters/network/parts.h"

namespace chalk::network {
namespace {
constexpr std::chrono::seconds kAcquireTimeout{10};
}

Network::Network(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Network::~Network() = default;

Result<Endpoint> Network::acquire(std::string_view id) {
  auto& parts = *parts_;
  const std::string sandbox(id.substr(0, kIdBytesMax + 1));
  if (!is_sandbox_id(sandbox)) {
    return fail(Error::Kind::invalid, parts.where() + "sandbox id '" + sandbox +
                                          "': expected 1 to 64 of A-Z a-z 0-9 _ . -");
  }
  {
    const std::lock_guard lock(parts.mutex);
    if (!parts.sandboxes.emplace(sandbox, Sandbox{}).second) {
      return fail(Error::Kind::invalid,
                  parts.where() + "sandbox " + sandbox + " has a namespace already");
    }
  }
  const auto slot = parts.supply->take(kAcquireTimeout);
  const std::lock_guard lock(parts.mutex);
  const auto entry = parts.sandboxes.find(sandbox);
  if (!slot) {
    parts.sandboxes.erase(entry);
    return std::unexpected(slot.error());
  }
  entry->second.slot = *slot;
  if (auto written = parts.write_record(sandbox, entry->second); !written) {
    parts.give_up(entry);
    return std::unexpected(written.error());
  }
  entry->second.ready = true;
  return parts.endpoint(sandbox, *slot);
}

Result<void> Network::release(std::string_view sandbox) {
  auto& parts = *parts_;
  const std::lock_guard lock(parts.mutex);
  const auto found = parts.find(sandbox);
  if (!found) return std::unexpected(found.error());
  parts.give_up(*found);
  return {};
}

Result<Endpoint> Network::endpoint(std::string_view sandbox) const {
  const std::lock_guard lock(parts_->mutex);
  const auto found = parts_->find(sandbox);
  if (!found) return std::unexpected(found.error());
  return parts_->endpoint((*found)->first, (*found)->second.slot);
}

Result<std::uint16_t> Network::publish(std::string_view id, std::uint16_t container_port,
                                       std::uint16_t host_port, bool open) {
  auto& parts = *parts_;
  const std::lock_guard lock(parts.mutex);
  const auto found = parts.find(id);
  if (!found) return std::unexpected(found.error());
  auto& sandbox = (*found)->second;
  const auto where = parts.where() + "publish port " + std::to_string(container_port) +
                     " of sandbox " + (*found)->first + ": ";
  if (container_port == 0) return fail(Error::Kind::invalid, where + "expected 1 to 65535");
  if (const auto before = sandbox.published.find(container_port);
      before != sandbox.published.end()) {
    if (host_port == 0 || host_port == before->second) return before->second;
    return fail(Error::Kind::invalid,
                where + "it is host port " + std::to_string(before->second) + " already");
  }
  if (sandbox.published.size() >= kPublishedMax) {
    return fail(Error::Kind::exhausted, where + "it has " + std::to_string(kPublishedMax) +
                                            " published ports, which is the limit");
  }
  auto port = parts.proxy->publish(parts.supply->address_of(sandbox.slot), container_port,
                                   host_port, open);
  if (!port) return fail(port.error().kind, where + port.error().message);
  sandbox.published.emplace(container_port, *port);
  if (auto written = parts.write_record((*found)->first, sandbox); !written) {
    parts.proxy->unpublish(*port);
    sandbox.published.erase(container_port);
    return std::unexpected(written.error());
  }
  return port;
}

Result<void> Network::unpublish(std::string_view id, std::uint16_t container_port) {
  auto& parts = *parts_;
  const std::lock_guard lock(parts.mutex);
  const auto found = parts.find(id);
  if (!found) return std::unexpected(found.error());
  auto& published = (*found)->second.published;
  const auto port = published.find(container_port);
  if (port == published.end()) {
    return fail(Error::Kind::not_found, parts.where() + "port " + std::to_string(container_port) +
                                            " of sandbox " + (*found)->first + " is not published");
  }
  parts.proxy->unpublish(port->second);
  published.erase(port);
  return parts.write_record((*found)->first, (*found)->second);
}

void Network::set_open(std::string_view id, std::uint16_t container_port, bool open) {
  auto& parts = *parts_;
  const std::lock_guard lock(parts.mutex);
  const auto found = parts.find(id);
  if (!found) return;
  const auto port = (*found)->second.published.find(container_port);
  if (port != (*found)->second.published.end()) parts.proxy->set_open(port->second, open);
}

std::vector<Published> Network::published() const {
  const std::lock_guard lock(parts_->mutex);
  std::vector<Published> all;
  for (const auto& [id, sandbox] : parts_->sandboxes) {
    for (const auto& [container, host] : sandbox.published) all.push_back({id, container, host});
  }
  return all;
}

Result<int> Network::begin_connect(std::string_view sandbox, std::uint16_t port) const {
  Address address = 0;
  {
    const std::lock_guard lock(parts_->mutex);
    const auto found = parts_->find(sandbox);
    if (!found) return std::unexpected(found.error());
    address = parts_->supply->address_of((*found)->second.slot);
  }
  const auto where = parts_->where() + "connect to port " + std::to_string(port) + " of sandbox " +
                     std::string(sandbox) + ": ";
  Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail(Error::Kind::exhausted, where + std::strerror(errno));
  const auto target = socket_address(address, port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0 &&
      errno != EINPROGRESS) {
    return fail(Error::Kind::unavailable, where + std::strerror(errno));
  }
  return socket.release();
}

Result<int> Network::connect(std::string_view sandbox, std::uint16_t port,
                             std::chrono::milliseconds timeout) const {
  const auto begun = begin_connect(sandbox, port);
  if (!begun) return std::unexpected(begun.error());
  Descriptor socket(*begun);
  const auto where = parts_->where() + "connect to port " + std::to_string(port) + " of sandbox " +
                     std::string(sandbox) + ": ";
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int error = EINPROGRESS;
  while (error == EINPROGRESS) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return fail(Error::Kind::timeout,
                  where + "no answer within " + std::to_string(timeout.count()) + " ms");
    }
    pollfd waiting{socket.get(), POLLOUT, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<long>(left.count(), 60'000)));
    if (ready < 0 && errno != EINTR) return fail(Error::Kind::failed, where + std::strerror(errno));
    if (ready <= 0) continue;
    socklen_t size = sizeof error;
    error = 0;
    (void)::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0) return fail(Error::Kind::unavailable, where + std::strerror(error));
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return fail(Error::Kind::failed, where + std::strerror(errno));
  }
  return socket.release();
}

Statistics Network::statistics() const {
  Statistics result;
  const auto supply = parts_->supply->counts();
  result.spares = supply.spares;
  result.addresses_free = supply.free;
  result.namespaces_made = supply.made;
  result.failures = supply.failures;
  result.last_failure = supply.last_failure;
  const auto proxy = parts_->proxy->counts();
  result.connections = proxy.connections;
  result.connections_refused = proxy.refused;
  result.dns_queries = parts_->names->queries();
  result.dns_failures = parts_->names->failures();
  const std::lock_guard lock(parts_->mutex);
  result.sandboxes = parts_->sandboxes.size();
  for (const auto& [id, sandbox] : parts_->sandboxes) result.published += sandbox.published.size();
  return result;
}

bool Network::settle(std::chrono::milliseconds timeout) const {
  return parts_->supply->settle(timeout);
}

Result<Sandboxes::iterator> Network::Parts::find(std::string_view sandbox) {
  const auto found = sandboxes.find(sandbox);
  if (found != sandboxes.end() && found->second.ready) return found;
  return fail(Error::Kind::not_found,
              where() + "sandbox '" + std::string(sandbox.substr(0, kIdBytesMax)) +
                  "' has no namespace");
}

Endpoint Network::Parts::endpoint(const std::string& id, Slot slot) const {
  Endpoint endpoint;
  endpoint.sandbox = id;
  endpoint.namespace_path = supply->path_of(slot);
  endpoint.address = text_of(supply->address_of(slot));
  endpoint.gateway = text_of(settings.gateway);
  endpoint.resolv_conf = "nameserver " + endpoint.gateway + "\noptions timeout:5 attempts:2\n";
  endpoint.hosts = "127.0.0.1\tlocalhost\n" + endpoint.address + "\t" + id + "\n";
  return endpoint;
}

Result<void> Network::Parts::write_record(const std::string& id, const Sandbox& sandbox) const {
  return records.write(supply->name_of(sandbox.slot),
                       {id, supply->address_of(sandbox.slot), sandbox.published});
}

void Network::Parts::give_up(Sandboxes::iterator sandbox) {
  for (const auto& [container, host] : sandbox->second.published) proxy->unpublish(host);
  records.remove(supply->name_of(sandbox->second.slot));
  supply->destroy(sandbox->second.slot);
  sandboxes.erase(sandbox);
}

}  // namespace chalk::network
