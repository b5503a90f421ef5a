// Small valid files in the shape of each public trace format, written to a directory of the test.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "model/core/random.h"
#include "sim/workload/source.h"

namespace chalk::sim {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string path = std::filesystem::temp_directory_path() / "chalk-workload-XXXXXX";
    path_ = mkdtemp(path.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  std::string write(const std::string& name, std::string_view text) const {
    std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string read_text(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// Two functions of one app and one of another; minute m of function f has (m * (f + 1)) % 4 calls.
inline std::string azure2019_calls(int minutes = 1440) {
  std::string out = "HashOwner,HashApp,HashFunction,Trigger";
  for (int minute = 1; minute <= minutes; ++minute) out += fmt::format(",{}", minute);
  constexpr const char* kIds[] = {"o1,a1,f1,http", "o1,a1,f2,timer", "o2,a2,f1,queue"};
  for (int f = 0; f < 3; ++f) {
    out += fmt::format("\n{}", kIds[f]);
    for (int minute = 0; minute < minutes; ++minute) {
      out += fmt::format(",{}", minute * (f + 1) % 4);
    }
  }
  return out + "\n";
}
inline constexpr std::string_view kAzure2019Durations =
    "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,"
    "percentile_Average_1,percentile_Average_25,percentile_Average_50,percentile_Average_75,"
    "percentile_Average_99,percentile_Average_100\n"
    "o1,a1,f1,100.0,10,90,200,90,91,95,100,110,190,200\n"
    "o2,a2,f1,5,10,0,10,0,1,2,5,8,9,10\n"
    "o9,a9,f9,5,10,0,10,0,1,2,5,8,9,10\n";
inline constexpr std::string_view kAzure2019Memory =
    "HashOwner,HashApp,SampleCount,AverageAllocatedMb,AverageAllocatedMb_pct1,"
    "AverageAllocatedMb_pct5,AverageAllocatedMb_pct25,AverageAllocatedMb_pct50,"
    "AverageAllocatedMb_pct75,AverageAllocatedMb_pct95,AverageAllocatedMb_pct99,"
    "AverageAllocatedMb_pct100\n"
    "o1,a1,10,100,90,91,95,100,105,110,120,128\n";
inline constexpr std::string_view kAzure2021 =
    "app,func,end_timestamp,duration\n"
    "a,f,10.0,9.0\n"
    "b,f,2.5,0.5\n"
    "a,g,3.25,1.25\n"
    "a,f,3.0,1e-3\n";
inline constexpr std::string_view kAzureLlm =
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:17:03.9799600,4808,10\n"
    "2023-11-16 18:17:04.0319600,3180,8\n"
    "2023-11-17 00:00:00.0000000,0,50\n";
inline constexpr std::string_view kOpenbNodes =
    "sn,cpu_milli,memory_mib,gpu,model\n"
    "n-0,64000,262144,2,P100\n"
    "n-1,64000,262144,2,P100\n"
    "n-2,96000,393216,8,T4\n"
    "n-3,32000,131072,0,\n";
inline constexpr std::string_view kOpenbPods =
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,"
    "deletion_time,scheduled_time\n"
    "p-0,12000,16384,1,460,V100M16|T4,Burstable,Running,200,500,210\n"
    "p-1,6000,12288,2,1000,,LS,Succeeded,100,150,\n"
    "p-2,2000,4096,0,0,,BE,Running,150,,150\n";
inline constexpr std::string_view kJsonl =
    "{\"chalk_trace\":1}\n"
    "{\"tenant\":\"t\"}\n"
    "{\"image\":\"i\"}\n"
    "{\"gpu_model\":\"L4\"}\n"
    "{\"node_group\":\"g\",\"count\":2,\"cpu_millicores\":4000,\"memory_bytes\":8,"
    "\"gpus\":1,\"gpu_model\":\"L4\"}\n"
    "{\"function\":\"f\",\"tenant\":\"t\",\"image\":\"i\",\"cpu_millicores\":500}\n"
    "{\"at_ns\":5,\"call\":\"f\",\"service_ns\":1000,\"input_tokens\":3,\"output_tokens\":4}\n"
    "{\"at_ns\":5,\"sandbox\":{\"tenant\":\"t\",\"image\":\"i\",\"cpu_millicores\":2000,"
    "\"memory_bytes\":1024,\"gpus\":1,\"gpu_millis\":500,\"gpu_models\":[\"L4\"],"
    "\"lifetime_ns\":3600,\"priority\":1},\"service_ns\":7}\n";

// Takes up to `count` arrivals, checking that time does not go back and that indices are known.
inline std::vector<Arrival> take(Source& source, std::size_t count) {
  std::vector<Arrival> out;
  const Catalogue& names = source.catalogue();
  while (out.size() < count) {
    const Arrival* next = source.peek();
    if (!next) break;
    EXPECT_GE(next->at, out.empty() ? Time{0} : out.back().at);
    EXPECT_GE(next->service.nanos, 0);
    if (next->kind == ArrivalKind::request) {
      EXPECT_LT(next->function, names.functions.size());
    } else {
      EXPECT_LT(next->sandbox.tenant, names.tenants.size());
      EXPECT_LT(next->sandbox.image, names.images.size());
    }
    out.push_back(*next);
    source.pop();
  }
  return out;
}

// A digest of what matters in a stream, for "the same seed gives the same bits".
inline std::uint64_t digest_of(const std::vector<Arrival>& arrivals) {
  std::uint64_t digest = 0;
  for (const Arrival& a : arrivals) {
    for (std::uint64_t word :
         {static_cast<std::uint64_t>(a.at.nanos), static_cast<std::uint64_t>(a.service.nanos),
          std::uint64_t{a.function}, std::uint64_t{a.sandbox.tenant},
          std::uint64_t{a.sandbox.image}, static_cast<std::uint64_t>(a.sandbox.lifetime.nanos),
          std::uint64_t{a.client},
          static_cast<std::uint64_t>(a.sandbox.resources.cpu_millicores)}) {
      digest = mix64(digest ^ word) + 0x9E3779B97F4A7C15ULL;
    }
  }
  return digest;
}

}  // namespace chalk::sim
