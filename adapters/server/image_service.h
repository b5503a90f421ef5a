// chalk.sandbox.v1.CustomImageService. Images are not built here: a request without build steps is
// answered with its base image, one with steps fails with a sentence that says what to do.
#pragma once
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/sandbox/v1/service.grpc.pb.h"

namespace chalk::server {

class ImageService final : public sandbox::v1::CustomImageService::Service {
 public:
  explicit ImageService(TenantSandboxes& sandboxes) : sandboxes_(sandboxes) {}

  grpc::Status GetOrBuildCustomImage(
      grpc::ServerContext* context, const sandbox::v1::GetOrBuildCustomImageRequest* request,
      sandbox::v1::GetOrBuildCustomImageResponse* response) override;
  grpc::Status GetCustomImage(grpc::ServerContext* context,
                              const sandbox::v1::GetCustomImageRequest* request,
                              sandbox::v1::GetCustomImageResponse* response) override;

 private:
  TenantSandboxes& sandboxes_;
};

}  // namespace chalk::server
