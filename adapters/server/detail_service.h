// For tenants, what the public API has no call for: how a sandbox's start went, what its main
// process writes, and its files, through chalk-guest inside the sandbox. Only the caller's own
// sandboxes are there; those of others are not found, like those that never were.
#pragma once
#include <atomic>

#include "adapters/records/records.h"
#include "adapters/server/call_watch.h"
#include "adapters/server/context.h"
#include "adapters/server/describe.h"
#include "adapters/server/newest.h"
#include "adapters/server/places.h"
#include "chalk/admin/v1/admin.grpc.pb.h"

namespace chalk::server {

class DetailService final : public admin::v1::SandboxDetailService::Service {
 public:
  explicit DetailService(const Services& services, std::size_t streams_max = kStreamsMax,
                         std::size_t streams_of_tenant_max = kStreamsOfTenantMax);

  grpc::Status Inspect(grpc::ServerContext* context, const admin::v1::InspectRequest* request,
                       admin::v1::InspectResponse* response) override;
  grpc::Status Await(grpc::ServerContext* context, const admin::v1::AwaitRequest* request,
                     grpc::ServerWriter<admin::v1::AwaitNews>* writer) override;
  grpc::Status Logs(grpc::ServerContext* context, const admin::v1::LogsRequest* request,
                    grpc::ServerWriter<admin::v1::LogsChunk>* writer) override;
  grpc::Status File(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<admin::v1::FileChunk, admin::v1::FileRequest>* stream) override;
  // Before the server's end ends calls: that is not their clients' leaving.
  void stop() { stopping_ = true; }

 private:
  static constexpr std::size_t kStreamsMax = 512;       // each holds a thread or two
  static constexpr std::size_t kStreamsOfTenantMax = 64;
  static constexpr std::size_t kAwaitsMax = 1'024, kAwaitsOfTenantMax = 512;

  grpc::Status admit(const grpc::ServerContext& context, identity::Caller& caller) const;
  Result<records::Sandbox> own(const identity::Caller& caller, const std::string& name) const;
  // Waits until it runs; an error that says why where it does not.
  // What its node says of its readiness; does nothing where it has no probe or does not run.
  void ask_readiness(const records::Sandbox& sandbox, const Described& about,
                     admin::v1::InspectResponse& response) const;
  Result<records::Sandbox> started(const grpc::ServerContext& context,
                                   const records::Sandbox& sandbox, bool wait) const;
  // Ends the call as UNAUTHENTICATED within about a second when its caller may not go on.
  CallWatch::Watched watch(grpc::ServerContext& context);

  Services services_;
  Places places_;
  Places awaits_{kAwaitsMax, kAwaitsOfTenantMax, "waits for starts"};
  Newest waiting_;  // Awaits
  std::atomic<bool> stopping_ = false;
  CallWatch watch_;
};

}  // namespace chalk::server
