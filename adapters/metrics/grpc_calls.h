// Counts and times every call that a gRPC server answers.
#pragma once
#include <grpcpp/support/server_interceptor.h>

#include <memory>
#include <vector>

namespace chalk::metrics {

class Metrics;

// For ServerBuilder::experimental().SetInterceptorCreators(); `metrics` must outlive the server.
std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> count_calls(
    Metrics& metrics);

}  // namespace chalk::metrics
