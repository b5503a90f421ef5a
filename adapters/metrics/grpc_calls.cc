#include "adapters/metrics/grpc_calls.h"

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "adapters/metrics/metrics.h"

namespace chalk::metrics {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class Call : public Interceptor {
 public:
  Call(Metrics& metrics, const ServerRpcInfo* info) : metrics_(metrics), info_(info) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
      metrics_.call(info_->method(), static_cast<int>(methods->GetSendStatus().error_code()),
                    took.count());
    }
    methods->Proceed();
  }

 private:
  Metrics& metrics_;
  const ServerRpcInfo* info_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

class Calls : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Calls(Metrics& metrics) : metrics_(metrics) {}
  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    return new Call(metrics_, info);  // the call owns it
  }

 private:
  Metrics& metrics_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> count_calls(
    Metrics& metrics) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> out;
  out.push_back(std::make_unique<Calls>(metrics));
  return out;
}

}  // namespace chalk::metrics
