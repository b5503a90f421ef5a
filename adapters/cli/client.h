// The connection to a Chalk server, logged in with what the environment says.
#pragma once
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "chalk/admin/v1/admin.grpc.pb.h"
#include "chalk/sandbox/v2/process_service.grpc.pb.h"
#include "chalk/sandbox/v2/service.grpc.pb.h"

namespace chalk::cli {

// How a call ends whose connection broke; a server that is stopped cancels its own.
bool of_transport(const grpc::Status& status);

class Client {
 public:
  // CHALK_API_SERVER, CHALK_CLIENT_ID, CHALK_CLIENT_SECRET, CHALK_ENVIRONMENT; SSL_CERT_FILE for
  // roots of https. Throws Stop with what is missing.
  static Client from_environment();

  const std::string& server() const { return server_; }
  const std::string& environment() const { return environment_; }

  // Headers of a call, and its deadline where `patience` is not 0.
  void prepare(grpc::ClientContext& context, std::chrono::seconds patience) const;
  // Throws Stop for what is not OK, with what to do about it.
  void check(const grpc::Status& status) const;

  // Waits for so long and connects meanwhile: gRPC goes on with a connection only while somebody
  // waits in it, so that a plain sleep between attempts may never see one. True when it is connected.
  bool wait(std::chrono::milliseconds pause) const;

  // One call with a deadline. A server that cannot be reached now is asked again a few times, unless
  // the call must not be made twice.
  template <class Request, class Response, class Method>
  Response call(Method method, const Request& request, bool again = true,
                std::chrono::seconds patience = std::chrono::seconds(60)) const {
    Response response;
    check(attempt(again, [&] {
      grpc::ClientContext context;
      prepare(context, patience);
      return method(&context, request, &response);
    }));
    return response;
  }

  sandbox::v2::SandboxService::Stub& sandboxes() const { return *sandboxes_; }
  sandbox::v2::SandboxProcessService::Stub& processes() const { return *processes_; }
  admin::v1::SandboxDetailService::Stub& details() const { return *details_; }
  admin::v1::AdminService::Stub& admin() const { return *admin_; }

  admin::v1::InspectResponse inspect(const std::string& id_or_name) const;
  void terminate(const std::string& id, std::chrono::seconds grace) const;

 private:
  void log_in(const std::string& id, const std::string& secret, const std::string& wanted);
  grpc::Status attempt(bool again, const std::function<grpc::Status()>& once) const;

  std::string server_, environment_, token_;
  std::shared_ptr<grpc::Channel> channel_;
  std::shared_ptr<sandbox::v2::SandboxService::Stub> sandboxes_;
  std::shared_ptr<sandbox::v2::SandboxProcessService::Stub> processes_;
  std::shared_ptr<admin::v1::SandboxDetailService::Stub> details_;
  std::shared_ptr<admin::v1::AdminService::Stub> admin_;
};

}  // namespace chalk::cli
