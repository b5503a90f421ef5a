#include "adapters/metrics/grpc_calls.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "adapters/metrics/metrics.h"
#include "chalk/admin/v1/admin.grpc.pb.h"

namespace chalk::metrics {
namespace {

class Details final : public admin::v1::SandboxDetailService::Service {
  grpc::Status Inspect(grpc::ServerContext*, const admin::v1::InspectRequest*,
                       admin::v1::InspectResponse*) override {
    return {grpc::StatusCode::NOT_FOUND, "none"};
  }
  grpc::Status Logs(grpc::ServerContext*, const admin::v1::LogsRequest*,
                    grpc::ServerWriter<admin::v1::LogsChunk>* writer) override {
    writer->Write({});
    return grpc::Status::OK;
  }
};

TEST(GrpcCalls, EveryCallIsCountedWithItsStatus) {
  Metrics metrics;
  Details details;
  grpc::ServerBuilder builder;
  builder.RegisterService(&details);
  builder.experimental().SetInterceptorCreators(count_calls(metrics));
  const auto server = builder.BuildAndStart();
  ASSERT_TRUE(server);
  const auto channel = server->InProcessChannel({});
  const auto stub = admin::v1::SandboxDetailService::NewStub(channel);
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    admin::v1::InspectResponse response;
    EXPECT_EQ(stub->Inspect(&context, {}, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  }
  grpc::ClientContext context;
  const auto reader = stub->Logs(&context, {});
  admin::v1::LogsChunk chunk;
  while (reader->Read(&chunk)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  const auto admin = admin::v1::AdminService::NewStub(channel);  // not served here
  grpc::ClientContext other;
  admin::v1::ServerStatusResponse status;
  EXPECT_EQ(admin->ServerStatus(&other, {}, &status).error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  server->Shutdown();
  const std::string text = metrics.text();
  EXPECT_NE(text.find("chalk_grpc_calls_total{code=\"NOT_FOUND\",method=\"chalk.admin.v1."
                      "SandboxDetailService/Inspect\"} 3\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("{code=\"OK\",method=\"chalk.admin.v1.SandboxDetailService/Logs\"} 1\n"),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("ServerStatus"), std::string::npos) << "a method that is not served";
}

}  // namespace
}  // namespace chalk::metrics
