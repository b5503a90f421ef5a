#include "sim/workload/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "sim/workload/generate.h"
#include "sim/workload/input_error.h"
#include "tests/sim/workload/trace_files.h"

namespace chalk::sim {
namespace {

constexpr std::size_t kAll = ~std::size_t{0};

// Opens and drains; returns what the error says, or "" where there is none.
std::string error_of(const std::string& spec) {
  try {
    auto source = open_trace(spec, {});
    while (source->peek()) source->pop();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
}

std::string changed(std::string_view text, std::string_view from, std::string_view to) {
  std::string out(text);
  replace(out, from, to);
  return out;
}

class Azure2019 : public ::testing::Test {
 protected:
  void write(int minutes = 1440) {
    files_.write("invocations.csv", azure2019_calls(minutes));
    files_.write("durations.csv", kAzure2019Durations);
    files_.write("memory.csv", kAzure2019Memory);
  }
  std::string spec() const { return "azure2019:" + files_.path(); }
  TemporaryDirectory files_;
};

TEST_F(Azure2019, GivesEachMinuteItsCallsAndEachFunctionItsService) {
  write();
  auto source = open_trace(spec(), {});
  const Catalogue& names = source->catalogue();
  ASSERT_EQ(names.functions.size(), 3u);
  EXPECT_EQ(names.functions[1].name, "o1/a1/f2");
  EXPECT_EQ(names.functions[1].tenant, names.functions[0].tenant);
  EXPECT_EQ(names.functions[1].image, names.functions[0].image);
  EXPECT_EQ(names.functions[1].memory_bytes, 128 << 20);
  EXPECT_EQ(names.functions[2].memory_bytes, 0);
  std::map<std::pair<std::int64_t, std::uint32_t>, int> counts;
  std::vector<double> slowest(3), sum(3), calls(3);
  for (const Arrival& a : take(*source, kAll)) {
    ++counts[{a.at.nanos / 60'000'000'000, a.function}];
    double milliseconds = static_cast<double>(a.service.nanos) / 1e6;
    slowest[a.function] = std::max(slowest[a.function], milliseconds);
    sum[a.function] += milliseconds;
    ++calls[a.function];
  }
  for (std::int64_t minute = 0; minute < 1440; ++minute) {
    for (std::uint32_t f = 0; f < 3; ++f) {
      auto count = counts[{minute, f}];
      ASSERT_EQ(count, minute * (f + 1) % 4) << minute << " " << f;
    }
  }
  EXPECT_NEAR(sum[0] / calls[0], 108, 4);
  EXPECT_LE(slowest[0], 200.001);
  EXPECT_NEAR(sum[1] / calls[1], 684, 1e-6);  // no row: the default
  EXPECT_LE(slowest[2], 10.001);
  EXPECT_TRUE(source->exhausted());
  EXPECT_EQ(source->progress(), 1.0);
}

TEST_F(Azure2019, PlacesCallsUniformlyWithinTheMinute) {
  write();
  auto source = open_trace(spec(), {});
  double sum = 0, squares = 0, count = 0;
  for (const Arrival& a : take(*source, kAll)) {
    double place = static_cast<double>(a.at.nanos % 60'000'000'000) / 60e9;
    sum += place;
    squares += place * place;
    ++count;
  }
  EXPECT_NEAR(sum / count, 0.5, 0.015);
  EXPECT_NEAR(squares / count, 1.0 / 3, 0.015);
}

TEST_F(Azure2019, SeedDecidesThePlacesAndNothingElse) {
  write(60);
  TraceOptions other;
  other.seed = 2;
  auto a = take(*open_trace(spec(), {}), kAll);
  EXPECT_EQ(a, take(*open_trace(spec(), {}), kAll));
  auto b = take(*open_trace(spec(), other), kAll);
  EXPECT_EQ(a.size(), b.size());
  EXPECT_NE(a, b);
}

TEST_F(Azure2019, ReadsSeveralDaysWithGapsAndCrlf) {
  std::string calls = azure2019_calls();
  std::string crlf;
  for (char c : calls) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  for (const char* day : {"01", "03"}) {
    std::string end = std::string(".anon.d") + day + ".csv";
    files_.write("invocations_per_function_md" + end, day[1] == '1' ? calls : crlf);
    files_.write("function_durations_percentiles" + end, kAzure2019Durations);
  }
  files_.write("app_memory_percentiles.anon.d01.csv", kAzure2019Memory);
  auto arrivals = take(*open_trace(spec(), {}), kAll);
  constexpr std::int64_t kDay = 86'400'000'000'000;
  std::vector<std::size_t> days(3);
  for (const Arrival& a : arrivals) ++days[a.at.nanos / kDay];
  EXPECT_GT(days[0], 5'000u);
  EXPECT_EQ(days[1], 0u);
  EXPECT_EQ(days[2], days[0]);
}

TEST_F(Azure2019, NamesWhatIsWrongAndWhere) {
  write(60);
  files_.write("invocations.csv",
               changed(azure2019_calls(60), "a1,f2,timer,0,2", "a1,f2,timer,0,-2"));
  EXPECT_EQ(error_of(spec()), files_.path() +
                                  "/invocations.csv:3: found \"-2\" in column \"2\", "
                                  "expected an integer from 0 to 10000000");
  files_.write("invocations.csv", azure2019_calls(60) + azure2019_calls(60));  // joined by cat
  EXPECT_NE(error_of(spec()).find("invocations.csv:5: found the header a second time"),
            std::string::npos)
      << error_of(spec());
  files_.write("invocations.csv", azure2019_calls(60));
  const std::string twice = std::string(kAzure2019Durations) + std::string(kAzure2019Durations);
  files_.write("durations.csv", twice);
  EXPECT_NE(error_of(spec()).find("durations.csv:5: found the header a second time"),
            std::string::npos)
      << error_of(spec());
  files_.write("durations.csv", kAzure2019Durations);
  files_.write("memory.csv", std::string(kAzure2019Memory) + std::string(kAzure2019Memory));
  EXPECT_NE(error_of(spec()).find("memory.csv:3: found the header a second time"),
            std::string::npos)
      << error_of(spec());
  files_.write("memory.csv", kAzure2019Memory);
  files_.write("invocations.csv", changed(azure2019_calls(60), "HashApp", "App"));
  EXPECT_NE(error_of(spec()).find("expected HashOwner,HashApp,HashFunction"), std::string::npos);
  files_.write("invocations.csv", changed(azure2019_calls(60), "a1,f2,timer,0", "a1,f2,timer"));
  EXPECT_NE(error_of(spec()).find("63 fields, expected 64 fields"), std::string::npos);
  write(60);
  files_.write("durations.csv", changed(kAzure2019Durations, "95,100,110", "95,-100,110"));
  EXPECT_NE(error_of(spec()).find("durations.csv:2: found \"-100\""), std::string::npos);
  files_.write("durations.csv", changed(kAzure2019Durations, "percentile_Average_50", "p50"));
  EXPECT_NE(error_of(spec()).find("expected a column \"percentile_Average_50\""),
            std::string::npos);
  std::filesystem::remove(files_.path() + "/durations.csv");
  EXPECT_NE(error_of(spec()).find("no file of durations"), std::string::npos);
  EXPECT_NE(error_of("azure2019:" + files_.path() + "/nowhere").find("no directory"),
            std::string::npos);
}

TEST(Azure2021, PutsCallsInOrderOfTheirStart) {
  TemporaryDirectory files;
  std::string path = files.write("t.csv", kAzure2021);
  auto source = open_trace("azure2021:" + path, {});
  auto arrivals = take(*source, kAll);
  ASSERT_EQ(arrivals.size(), 4u);
  const std::int64_t kStarts[] = {1'000'000'000, 2'000'000'000, 2'000'000'000, 2'999'000'000};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(arrivals[i].at.nanos, kStarts[i]);
  EXPECT_EQ(arrivals[0].service, seconds(9));
  EXPECT_EQ(source->catalogue().functions[arrivals[1].function].name, "b/f");  // file order
  EXPECT_EQ(source->catalogue().functions.size(), 3u);
  EXPECT_EQ(source->catalogue().tenants.size(), 2u);
}

TEST(Azure2021, SortsOnDiskToTheSameOrderAsInMemory) {
  TemporaryDirectory files;
  std::string text = "app,func,end_timestamp,duration\n";
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    text += fmt::format("a{},f,{},{}\n", random_at(1, i) % 7, 100 + random_at(2, i) % 5'000,
                        random_at(3, i) % 100);
  }
  std::string spec = "azure2021:" + files.write("t.csv", text);
  auto in_memory = take(*open_trace(spec, {}), kAll);
  TraceOptions small;
  small.sort_memory_bytes = 10'000;  // some 60 runs
  EXPECT_EQ(in_memory.size(), 20'000u);
  EXPECT_EQ(take(*open_trace(spec, small), kAll), in_memory);
}

TEST(Azure2021, MovesAStartBeforeZeroToZero) {
  TemporaryDirectory files;
  std::string path = files.write("t.csv", "app,func,end_timestamp,duration\na,f,1,3\nb,f,5,1\n");
  auto arrivals = take(*open_trace("azure2021:" + path, {}), kAll);
  ASSERT_EQ(arrivals.size(), 2u);
  EXPECT_EQ(arrivals[0].at.nanos, 0);
  EXPECT_EQ(arrivals[1].at, Time{} + seconds(6));
}

TEST(Azure2021, NamesWhatIsWrongAndWhere) {
  TemporaryDirectory files;
  auto error = [&](std::string_view text) {
    return error_of("azure2021:" + files.write("t.csv", text));
  };
  std::string at = files.path() + "/t.csv:";
  std::string header = "app,func,end_timestamp,duration\n";
  EXPECT_EQ(
      error(header + "a,f,x,1\n"),
      at + "2: found \"x\" in column \"end_timestamp\", expected a number from 0 to 300000000");
  EXPECT_EQ(error(""), at + "1: found no header, expected a line of column names");
  EXPECT_NE(error(header + "a,f,1,-1\n").find(":2: found \"-1\""), std::string::npos);
  EXPECT_NE(error(header + "a,f,inf,1\n").find(":2: found \"inf\""), std::string::npos);
  EXPECT_NE(error(header + "a,f,1e300,1\n").find(":2: found \"1e300\""), std::string::npos);
  EXPECT_NE(error(header + ",f,1,1\n").find("expected a name"), std::string::npos);
  EXPECT_NE(error(header + "a,f,1\n").find("3 fields, expected 4"), std::string::npos);
  EXPECT_NE(error(header + "\"a,f,1,1\n").find("an open quote"), std::string::npos);
  EXPECT_NE(error(header + "a\"b,f,1,1\n").find("a quote inside"), std::string::npos);
  EXPECT_NE(error(header + std::string("a\0b,f,1,1\n", 10)).find("a NUL byte"), std::string::npos);
  EXPECT_NE(error(header + std::string(2 << 20, 'a')).find("more than 1048576 bytes"),
            std::string::npos);
  EXPECT_NE(error("app,func,app\n").find("column \"app\" twice"), std::string::npos);
  EXPECT_NE(error("app,func,end,duration\n").find("a column \"end_timestamp\""), std::string::npos);
  EXPECT_EQ(error(header + "\"a\"\"b\",\"f,g\",1,1\r\n\r\n"), "");
  EXPECT_EQ(error("\xEF\xBB\xBF" + header + "a,f,1,1"), "");
}

TEST(AzureLlm, TurnsTokensIntoServiceAndStampsIntoTime) {
  TemporaryDirectory files;
  std::string path = files.write("t.csv", kAzureLlm);
  TraceOptions options;
  options.prefill_tokens_per_second = 1000;
  options.decode_tokens_per_second = 10;
  auto arrivals = take(*open_trace("azurellm:" + path, options), kAll);
  ASSERT_EQ(arrivals.size(), 3u);
  EXPECT_EQ(arrivals[0].at.nanos, 0);
  EXPECT_EQ(arrivals[1].at.nanos, 52'000'000);
  EXPECT_EQ(arrivals[2].at.nanos, 20'576'020'040'000);
  EXPECT_EQ(arrivals[0].service.nanos, 4'808'000'000 + 1'000'000'000);
  EXPECT_EQ(arrivals[0].input_tokens, 4808);
  EXPECT_EQ(arrivals[2].output_tokens, 50);
}

TEST(AzureLlm, NamesWhatIsWrongAndWhere) {
  TemporaryDirectory files;
  auto error = [&](std::string_view from, std::string_view to) {
    return error_of("azurellm:" + files.write("t.csv", changed(kAzureLlm, from, to)));
  };
  EXPECT_NE(error("2023-11-17", "2023-02-30").find(":4: found \"2023-02-30 00"), std::string::npos);
  EXPECT_NE(error("2023-11-17", "2023-11-15").find("not before that of the row above"),
            std::string::npos);
  EXPECT_NE(error("18:17:04", "18:77:04").find(":3: found"), std::string::npos);
  EXPECT_NE(error(",3180,", ",-3180,").find(":3: found \"-3180\""), std::string::npos);
  EXPECT_NE(error(",3180,", ",99999999999999999999,").find("expected an integer"),
            std::string::npos);
  EXPECT_EQ(error("2023-11-17 00:00:00.0000000", "2023-11-17T00:00:00.000001+00:00"), "");
}

TEST(Openb, ReadsNodesAndPods) {
  TemporaryDirectory files;
  files.write("openb_node_list_all_node.csv", kOpenbNodes);
  files.write("openb_pod_list_default.csv", kOpenbPods);
  auto source = open_trace("openb:" + files.path(), {});
  const Catalogue& names = source->catalogue();
  ASSERT_EQ(names.nodes.size(), 3u);
  EXPECT_EQ(names.nodes[0].count, 2u);
  EXPECT_EQ(names.nodes[0].gpu_model, "P100");
  EXPECT_EQ(names.nodes[1].shape.gpus, 8);
  EXPECT_EQ(names.nodes[2].shape.memory_bytes, 131072ll << 20);
  EXPECT_EQ(names.gpu_models, (std::vector<std::string>{"P100", "T4", "V100M16"}));
  auto arrivals = take(*source, kAll);
  ASSERT_EQ(arrivals.size(), 3u);
  EXPECT_EQ(arrivals[0].at, Time{} + seconds(100));
  EXPECT_EQ(arrivals[0].sandbox.resources.gpus, 2);
  EXPECT_EQ(arrivals[0].sandbox.resources.gpu_models, 0u);
  EXPECT_EQ(arrivals[0].sandbox.lifetime, seconds(50));  // never scheduled: from its creation
  EXPECT_EQ(arrivals[0].sandbox.priority, 0);
  TraceOptions options;
  options.qos_priorities = true;
  EXPECT_EQ(take(*open_trace("openb:" + files.path(), options), kAll)[0].sandbox.priority, 2);
  EXPECT_EQ(arrivals[1].sandbox.lifetime, seconds(0));    // never deleted: not given
  EXPECT_EQ(arrivals[2].sandbox.lifetime, seconds(290));  // from its scheduling
  EXPECT_EQ(arrivals[2].sandbox.resources.gpu_millis, 460);
  EXPECT_EQ(arrivals[2].sandbox.resources.gpu_models, 0b110u);
}

TEST(Openb, NamesWhatIsWrongAndWhere) {
  TemporaryDirectory files;
  files.write("openb_node_list_gpu_node.csv", kOpenbNodes);
  auto error = [&](std::string_view from, std::string_view to) {
    files.write("openb_pod_list_default.csv", changed(kOpenbPods, from, to));
    return error_of("openb:" + files.path());
  };
  EXPECT_NE(error(",1,460,", ",1,1460,").find(":2: found \"1460\""), std::string::npos);
  EXPECT_NE(error(",1,460,", ",17,1000,").find(":2: found \"17\""), std::string::npos);
  EXPECT_NE(error(",1,460,", ",2,460,").find("1000 of several"), std::string::npos);
  EXPECT_NE(error("V100M16|T4", "V100M16||T4").find("names of GPU models"), std::string::npos);
  EXPECT_NE(error("200,500,210", "200,100,210").find("column \"deletion_time\""),
            std::string::npos);
  EXPECT_NE(error("p-1,6000", "p-1,").find("3: found \"\" in column \"cpu_milli\""),
            std::string::npos)
      << error("p-1,6000", "p-1,");
  files.write("openb_node_list_other.csv", kOpenbNodes);
  EXPECT_NE(error("p-1", "p-1").find("2 files openb_node_list*.csv"), std::string::npos);
}

TEST(Jsonl, ReadsCallsAndSandboxes) {
  TemporaryDirectory files;
  auto source = open_trace("jsonl:" + files.write("t.jsonl", kJsonl), {});
  EXPECT_EQ(source->catalogue().nodes[0].count, 2u);
  EXPECT_EQ(source->catalogue().functions[0].cpu_millicores, 500);
  auto arrivals = take(*source, kAll);
  ASSERT_EQ(arrivals.size(), 2u);
  EXPECT_EQ(arrivals[0].input_tokens, 3);
  EXPECT_EQ(arrivals[1].kind, ArrivalKind::sandbox);
  EXPECT_EQ(arrivals[1].sandbox.resources.gpu_models, 1u);
  EXPECT_EQ(arrivals[1].sandbox.lifetime.nanos, 3600);
  EXPECT_EQ(arrivals[1].service.nanos, 7);
}

TEST(Jsonl, WritesWhatItReadsBack) {
  TemporaryDirectory files;
  Requests mix;
  mix.functions = 5;
  mix.tenants = 2;
  mix.service = Distribution::exponential(seconds(1));
  Sandboxes boxes;
  boxes.shapes = {{1, {1000, 5, 0, 1, 250, 2}}, {1, {2000, 6, 7, 0, 0, 0}}};
  boxes.gpu_models = {"A \"quoted\" model", "L4"};
  boxes.lifetime = Distribution::exponential(seconds(9));
  boxes.priority = 7;
  boxes.gang = 3;
  auto made = [&] {
    std::vector<std::unique_ptr<Source>> parts;
    parts.push_back(open_loop(Poisson{10}, mix, 1));
    parts.push_back(open_loop(Poisson{10}, boxes, 2));
    return cut(merge(std::move(parts)), {.arrivals_max = 500});
  };
  std::ostringstream out;
  write_jsonl(*made(), out);
  auto back = open_trace("jsonl:" + files.write("t.jsonl", out.str()), {});
  auto original = made();
  EXPECT_EQ(back->catalogue(), original->catalogue());
  EXPECT_EQ(take(*back, kAll), take(*original, kAll));
}

TEST(Jsonl, NamesWhatIsWrongAndWhere) {
  TemporaryDirectory files;
  auto error = [&](std::string_view from, std::string_view to) {
    return error_of("jsonl:" + files.write("t.jsonl", changed(kJsonl, from, to)));
  };
  EXPECT_EQ(error("\"call\":\"f\"", "\"call\":\"g\""),
            files.path() + "/t.jsonl:7: found \"g\" in a line, expected a function declared above");
  EXPECT_NE(error("chalk_trace\":1", "chalk_trace\":2").find(":1: found"), std::string::npos);
  EXPECT_NE(error("\"priority\":1", "\"priorty\":1").find("the key \"priorty\" in \"sandbox\""),
            std::string::npos);
  EXPECT_NE(error("\"priority\":1", "\"priority\":-1").find("-1"), std::string::npos);
  EXPECT_NE(error("\"priority\":1", "\"gang\":1001").find("1001"), std::string::npos);
  EXPECT_NE(error("\"priority\":1", "\"gpus\":1").find("the key \"gpus\" twice"),
            std::string::npos);
  EXPECT_NE(error("\"service_ns\":1000", "\"service_ns\":-1").find(":7: found"), std::string::npos);
  EXPECT_NE(error("\"service_ns\":1000", "\"service_ns\":1.5").find(":7: found"),
            std::string::npos);
  EXPECT_NE(error("\"service_ns\":1000", "\"service_ns\":18446744073709551615").find(":7: found"),
            std::string::npos);
  EXPECT_NE(error("\"service_ns\":1000,", "").find("expected a key \"service_ns\""),
            std::string::npos);
  EXPECT_NE(error("{\"at_ns\":5,\"sandbox\"", "{\"at_ns\":4,\"sandbox\"").find("at least 5"),
            std::string::npos);
  EXPECT_NE(error("\"cpu_millicores\":500", "\"cpu_millicores\":100000001").find(":6: found"),
            std::string::npos);
  EXPECT_NE(error("\"memory_bytes\":8,", "\"memory_bytes\":1125899906842625,").find(":5: found"),
            std::string::npos);
  EXPECT_NE(error("\"count\":2", "\"count\":100001").find(":5: found"), std::string::npos);
  EXPECT_NE(error("{\"tenant\":\"t\"}", "[1]").find(":2: found array"), std::string::npos);
  EXPECT_NE(error("{\"tenant\":\"t\"}", "{\"tenant\":\"t\"").find(":2: found"), std::string::npos);
  EXPECT_NE(error("{\"tenant\":\"t\"}", std::string(100'000, '[')).find("8 levels"),
            std::string::npos);
}

TEST(OpenTrace, DigestIsOfTheContentAndNotOfThePlace) {
  const TemporaryDirectory one, other;
  for (const TemporaryDirectory* files : {&one, &other}) {
    files->write("invocations.csv", azure2019_calls(60));
    files->write("durations.csv", kAzure2019Durations);
    files->write("trace.jsonl", kJsonl);
    files->write("large.jsonl", std::string(100 << 20, 'x'));  // only parts of it are read
  }
  const auto digest = [](const TemporaryDirectory& files, const std::string& format,
                         const std::string& name) {
    return trace_digest(format + ":" + files.path() + name);
  };
  for (const char* name : {"/trace.jsonl", "/large.jsonl"}) {
    EXPECT_EQ(digest(one, "jsonl", name), digest(other, "jsonl", name));
  }
  EXPECT_EQ(digest(one, "azure2019", ""), digest(other, "azure2019", ""));
  other.write("large.jsonl", std::string((100 << 20) + 1, 'x'));
  EXPECT_NE(digest(one, "jsonl", "/large.jsonl"), digest(other, "jsonl", "/large.jsonl"));
  other.write("large.jsonl", std::string((100 << 20) - 1, 'x') + "y");
  EXPECT_NE(digest(one, "jsonl", "/large.jsonl"), digest(other, "jsonl", "/large.jsonl"));
  other.write("trace.jsonl", changed(kJsonl, "1024", "1025"));
  EXPECT_NE(digest(one, "jsonl", "/trace.jsonl"), digest(other, "jsonl", "/trace.jsonl"));
  other.write("notes.txt", "beside the trace");
  EXPECT_EQ(digest(one, "azure2019", ""), digest(other, "azure2019", ""));
  other.write("durations.csv", changed(kAzure2019Durations, "95,100,110", "95,101,110"));
  EXPECT_NE(digest(one, "azure2019", ""), digest(other, "azure2019", ""));
  EXPECT_THROW(trace_digest("jsonl:" + one.path() + "/none"), InputError);
}

TEST(OpenTrace, RefusesUnknownFormatsAndMissingFiles) {
  for (const char* spec : {"", "azure2021", "azure2021:", "zip:/tmp", ":x"}) {
    EXPECT_NE(error_of(spec).find("expected FORMAT:PATH"), std::string::npos) << spec;
  }
  TemporaryDirectory bytes;
  EXPECT_NE(error_of("jsonl:" + bytes.write("u.jsonl", "{\"tenant\":\"\xE9\"}\n"))
                .find("u.jsonl:1: found the byte \"\\xe9\", expected text in UTF-8"),
            std::string::npos);
  EXPECT_NE(error_of("jsonl:/nonexistent/file").find("No such file"), std::string::npos);
  EXPECT_NE(error_of("azure2021:/tmp").find("not a regular file"), std::string::npos);
  EXPECT_NE(error_of(std::string("jsonl:/tmp/a\0b", 14)).find("NUL"), std::string::npos);
}

// The public samples, where a checkout has them beside it.
class SharedTraces : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kPath)) GTEST_SKIP() << "no public traces in " << kPath;
  }
  static constexpr const char* kPath = "../shared/traces";
  static std::string path(const char* name) { return std::string(kPath) + "/" + name; }
};

TEST_F(SharedTraces, Azure2019HasAllCallsOfItsCountsFile) {
  auto source = open_trace("azure2019:" + path("invitro"), {});
  EXPECT_EQ(source->catalogue().functions.size(), 4u);
  EXPECT_GT(source->catalogue().functions[0].memory_bytes, 100 << 20);
  EXPECT_EQ(take(*source, kAll).size(), 4'525u);
}

TEST_F(SharedTraces, Azure2021HasAllRowsInOrder) {
  auto source = open_trace("azure2021:" + path("invitro/Azure2021_200.csv"), {});
  EXPECT_EQ(take(*source, kAll).size(), 199u);
  EXPECT_EQ(source->catalogue().functions.size(), 31u);
  EXPECT_EQ(take(*open_trace("azure2021:" + path("invitro/Azure2021_30.csv"), {}), kAll).size(),
            29u);
}

TEST_F(SharedTraces, AzureLlmHasAllRows) {
  for (auto [name, count] : {std::pair{"code", 8'819u}, {"conv", 19'366u}}) {
    auto arrivals = take(
        *open_trace("azurellm:" + path("azure/AzureLLMInferenceTrace_") + name + ".csv", {}), kAll);
    EXPECT_EQ(arrivals.size(), count);
    EXPECT_NEAR(static_cast<double>(arrivals.back().at.nanos) / 1e9, 3500, 100);
  }
}

}  // namespace
}  // namespace chalk::sim
