#include "adapters/server/image_service.h"

#include "adapters/api/shown.h"
#include "adapters/server/images.h"

namespace chalk::server {
namespace {

namespace wire = sandbox::v1;

// What of the request would need a build; empty: nothing.
std::string needs_build(const wire::ImageSpec& spec) {
  std::string what;
  const auto add = [&](const std::string& part) { what += (what.empty() ? "" : ", ") + part; };
  if (!spec.steps().empty()) add(std::to_string(spec.steps_size()) + " build steps");
  if (!spec.entrypoint().empty()) add("an entrypoint");
  if (!spec.cmd().empty()) add("a command");
  if (spec.has_workdir() && !spec.workdir().empty()) add("a working directory");
  if (!spec.env().empty()) add("variables");
  return what;
}

}  // namespace

grpc::Status ImageService::GetOrBuildCustomImage(grpc::ServerContext* context,
                                                 const wire::GetOrBuildCustomImageRequest* request,
                                                 wire::GetOrBuildCustomImageResponse* response) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  const wire::ImageSpec& spec = request->image_spec();
  if (const std::string what = needs_build(spec); !what.empty()) {
    response->set_status("failed");
    response->set_error("this server does not build images yet, and the image has " + what +
                        "; name a base image that has them, such as \"python:3.12-slim\", and pass "
                        "entrypoint and env to the sandbox");
    return grpc::Status::OK;
  }
  const auto resolved = sandboxes_.resolve(*context, *caller, spec.base_image());
  if (!resolved) return resolved.error();
  const Result<KnownImage>& image = *resolved;
  if (!image) {
    response->set_status("failed");
    response->set_error("image " + api::shown(spec.base_image(), 200) + ": " +
                        image.error().message);
    return grpc::Status::OK;
  }
  response->set_status("exists");
  response->set_image(spec.base_image());
  response->set_content_hash(image->image.manifest_digest);
  return grpc::Status::OK;
}

grpc::Status ImageService::GetCustomImage(grpc::ServerContext* context,
                                          const wire::GetCustomImageRequest* request,
                                          wire::GetCustomImageResponse*) {
  const auto caller = sandboxes_.admit(*context);
  if (!caller) return caller.error();
  return {grpc::StatusCode::NOT_FOUND,
          "no build has the id " + api::shown(request->build_id()) +
              ": this server does not build images yet"};
}

}  // namespace chalk::server
