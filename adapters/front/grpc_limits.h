// What one gRPC server holds of what its clients send. gRPC reads a whole unary message before it
// asks anybody who sent it, so without these a stranger's half messages fill the memory.
#pragma once
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <cstddef>

namespace chalk::front {

struct GrpcLimits {
  // Of all connections. Beyond it gRPC ends connections without calls, then calls picked at random
  // among the connections (the client sees RESOURCE_EXHAUSTED or a reset stream), until it fits.
  std::size_t memory_bytes = std::size_t{1} << 30;
  int threads = 4'096;             // calls at once; more are answered RESOURCE_EXHAUSTED. 0: any
  int streams_of_connection = 256; // told to the client, whose further calls wait at its side
  int message_bytes = 100 << 20;   // of one message of a client
  std::chrono::milliseconds idle{300'000};  // of a connection without calls
};

inline void set_limits(grpc::ServerBuilder& builder, const char* name, const GrpcLimits& limits) {
  grpc::ResourceQuota quota(name);
  quota.Resize(limits.memory_bytes);
  if (limits.threads > 0) quota.SetMaxThreads(limits.threads);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(limits.message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.streams_of_connection);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                             static_cast<int>(limits.idle.count()));
}

}  // namespace chalk::front
