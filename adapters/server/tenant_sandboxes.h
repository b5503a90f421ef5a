// What a caller may do with the sandboxes of its own environment; the services for sandboxes,
// containers, processes and files are made of it. Those of others are not found, like those that
// never were. Thread safe.
#pragma once
#include <chrono>
#include <expected>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "adapters/records/records.h"
#include "adapters/server/call_watch.h"
#include "adapters/server/context.h"
#include "adapters/server/images.h"
#include "adapters/server/places.h"
#include "chalk/container/v1/service.pb.h"
#include "chalk/node/v1/node.pb.h"

namespace chalk::server {

template <class T>
using Answer = std::expected<T, grpc::Status>;

class TenantSandboxes {
 public:
  explicit TenantSandboxes(const Services& services, std::size_t resolving_max = kResolvingMax,
                           std::size_t resolving_of_tenant_max = kResolvingOfTenantMax);

  Answer<identity::Caller> admit(const grpc::ServerContextBase& context) const;
  // Ends the call as UNAUTHENTICATED within about a second when its caller may not go on.
  CallWatch::Watched watch(grpc::ServerContextBase& context);
  // Asks the image's registry, or waits for who asks it: a stranger's, which may take its time.
  // Ends with the call.
  Answer<Result<KnownImage>> resolve(const grpc::ServerContextBase& context,
                                     const identity::Caller& caller, const std::string& image);

  // Accepted and durable; waits a while for its start, so that most clients need not ask again.
  Answer<records::Sandbox> create(const grpc::ServerContextBase& context,
                                  const identity::Caller& caller,
                                  const container::v1::ChalkContainerSpec& spec, bool container);
  Answer<records::Sandbox> find(const identity::Caller& caller, const std::string& id) const;
  // The newest one of that name which lives, else with `ended` the newest.
  Answer<records::Sandbox> find_named(const identity::Caller& caller, const std::string& name,
                                      bool ended) const;
  // One that runs: waits for it while it starts, as long as the call lasts.
  Answer<records::Sandbox> running(const grpc::ServerContextBase& context,
                                   const identity::Caller& caller, const std::string& id) const;
  // Asks for its end and waits a while for it.
  Answer<records::Sandbox> end(const records::Sandbox& sandbox, Duration grace) const;

  // What an agent said went wrong.
  static grpc::Status failed(const node::v1::Failure& failure);
  static grpc::Status not_running(const records::Sandbox& sandbox);
  const Services& services() const { return services_; }

 private:
  // A client that goes away before it is answered, or may not go on, leaves no sandbox.
  Answer<records::Sandbox> begun(const grpc::ServerContextBase& context, SandboxId sandbox) const;
  grpc::Status still_wanted(const grpc::ServerContextBase& context) const;
  grpc::Status check_room(const std::string& gpu, const Resources& ask);

  static constexpr std::size_t kResolvingMax = 1'024, kResolvingOfTenantMax = 512;

  const Services services_;
  Places resolving_;
  CallWatch watch_;
  std::mutex mutex_;
  std::vector<NodeShape> shapes_;  // of the nodes when they were last looked at
};

}  // namespace chalk::server
