// chalk.sandbox.v2.SandboxFilesystemService: single files to and from a running sandbox, streamed
// through chalk-guest inside it. An upload that does not end properly changes nothing.
#pragma once
#include "adapters/server/places.h"
#include "adapters/server/tenant_sandboxes.h"
#include "chalk/sandbox/v2/filesystem_service.grpc.pb.h"

namespace chalk::server {

class FilesystemService final : public sandbox::v2::SandboxFilesystemService::Service {
 public:
  FilesystemService(TenantSandboxes& sandboxes, Places& places)
      : sandboxes_(sandboxes), places_(places) {}

  grpc::Status UploadFile(grpc::ServerContext* context,
                          grpc::ServerReader<sandbox::v2::UploadFileRequest>* reader,
                          sandbox::v2::UploadFileResponse* response) override;
  grpc::Status DownloadFile(grpc::ServerContext* context,
                            const sandbox::v2::DownloadFileRequest* request,
                            grpc::ServerWriter<sandbox::v2::DownloadFileResponse>* writer) override;

 private:
  TenantSandboxes& sandboxes_;
  Places& places_;
};

}  // namespace chalk::server
