#include "adapters/metrics/metrics.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

#include "adapters/metrics/table.h"

namespace chalk::metrics {
namespace {

// The value of the line that begins with `series`, or "none".
std::string value(const std::string& text, const std::string& series) {
  const auto at = text.find("\n" + series + " ");
  if (at == std::string::npos) return "none";
  const auto from = at + series.size() + 2;
  return text.substr(from, text.find('\n', from) - from);
}

TEST(Metrics, NamesAreThoseOfPrometheusAndOccurOnce) {
  std::set<std::string_view> names;
  for (const Description& one : table()) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    EXPECT_TRUE(one.name.starts_with("chalk_")) << one.name;
    EXPECT_EQ(one.name.ends_with("_total"), one.kind == Kind::counter) << one.name;
    EXPECT_EQ(one.buckets != Buckets::none, one.kind == Kind::histogram) << one.name;
    EXPECT_FALSE(one.help.empty()) << one.name;
    if (one.buckets == Buckets::seconds || one.buckets == Buckets::fast_seconds) {
      EXPECT_TRUE(one.name.ends_with("_seconds")) << one.name;
    }
  }
}

TEST(Metrics, WhatWasCountedStandsInTheText) {
  Metrics metrics;
  EXPECT_EQ(value(metrics.text(), "chalk_log_failures_total"), "0");
  metrics.count("chalk_log_failures_total");
  metrics.count("chalk_log_failures_total", {}, 2);
  metrics.set("chalk_sandboxes", 7, {{"status", "running"}});
  metrics.observe("chalk_sandbox_start_seconds", 0.2);
  const std::string text = metrics.text();
  EXPECT_EQ(value(text, "chalk_log_failures_total"), "3");
  EXPECT_EQ(value(text, "chalk_sandboxes{status=\"running\"}"), "7");
  EXPECT_EQ(value(text, "chalk_sandbox_start_seconds_count"), "1");
  EXPECT_EQ(value(text, "chalk_sandbox_start_seconds_bucket{le=\"0.25\"}"), "1");
  EXPECT_EQ(value(text, "chalk_sandbox_start_seconds_bucket{le=\"0.1\"}"), "0");
  EXPECT_NE(text.find("# TYPE chalk_sandboxes gauge"), std::string::npos);
}

TEST(Metrics, AGaugeThatIsLeftOutComesBackWhenItIsSetAgain) {
  Metrics metrics;
  metrics.set("chalk_nodes", 3, {{"state", "connected"}});
  metrics.leave_out("chalk_nodes");
  metrics.leave_out("chalk_log_events");
  std::string text = metrics.text();
  EXPECT_EQ(text.find("\nchalk_nodes{"), std::string::npos);
  EXPECT_EQ(text.find("\nchalk_log_events "), std::string::npos);
  metrics.set("chalk_nodes", 4, {{"state", "connected"}});
  metrics.set("chalk_log_events", 5);
  text = metrics.text();
  EXPECT_EQ(value(text, "chalk_nodes{state=\"connected\"}"), "4");
  EXPECT_EQ(value(text, "chalk_log_events"), "5");
  EXPECT_EQ(value(text, "chalk_metrics_misused_total"), "0");
}

TEST(Metrics, ACounterOfSomebodyElseNeverShrinks) {
  Metrics metrics;
  metrics.grown_to("chalk_front_connections_total", 5, {{"outcome", "accepted"}});
  metrics.grown_to("chalk_front_connections_total", 4, {{"outcome", "accepted"}});
  EXPECT_EQ(value(metrics.text(), "chalk_front_connections_total{outcome=\"accepted\"}"), "5");
  metrics.grown_to("chalk_front_connections_total", 9, {{"outcome", "accepted"}});
  EXPECT_EQ(value(metrics.text(), "chalk_front_connections_total{outcome=\"accepted\"}"), "9");
  metrics.count("chalk_log_failures_total", {}, -1);
  EXPECT_EQ(value(metrics.text(), "chalk_log_failures_total"), "0");
}

TEST(Metrics, AnUnknownNameOrLabelIsCountedAndHarmless) {
  Metrics metrics;
  metrics.count("chalk_no_such_total");
  metrics.set("chalk_log_failures_total", 3);  // a counter
  metrics.set("chalk_sandboxes", 3, {{"sandbox", "sb-1"}});
  const std::string text = metrics.text();
  EXPECT_EQ(value(text, "chalk_metrics_misused_total"), "3");
  EXPECT_EQ(text.find("sb-1"), std::string::npos);
  EXPECT_EQ(text.find("chalk_no_such_total"), std::string::npos);
}

TEST(Metrics, ALabelWithEndlessValuesBecomesOther) {
  Metrics metrics;
  for (int i = 0; i < 2000; ++i) {
    metrics.count("chalk_agent_events_total", {{"what", std::to_string(i)}});
  }
  const std::string text = metrics.text();
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = text.find("\nchalk_agent_events_total{", at)) != std::string::npos;
       ++at) {
    ++lines;
  }
  EXPECT_EQ(lines, Metrics::kValuesMax + 1);
  EXPECT_EQ(value(text, "chalk_agent_events_total{what=\"other\"}"),
            std::to_string(2000 - Metrics::kValuesMax));
}

TEST(Metrics, AStrangersMethodIsOther) {
  Metrics metrics;
  metrics.call("/chalk.sandbox.v2.SandboxService/GetSandbox", 0, 0.01);
  metrics.call("/evil.Service/Invented", 12, 0.01);
  metrics.call("/chalk.sandbox.v2.SandboxService/Invented", 12, 0.01);
  metrics.call("/chalk.sandbox.v2.SandboxService/GetSandbox", 99, 0.01);
  const std::string text = metrics.text();
  const std::string method = "chalk_grpc_calls_total{code=\"OK\",method=\"chalk.sandbox.v2.SandboxService/GetSandbox\"}";
  EXPECT_EQ(value(text, method), "1") << text;
  EXPECT_EQ(value(text, "chalk_grpc_calls_total{code=\"UNIMPLEMENTED\",method=\"other\"}"), "2");
  EXPECT_EQ(text.find("Invented"), std::string::npos);
}

TEST(Metrics, AStartIsSplitIntoItsParts) {
  Metrics metrics;
  constexpr std::int64_t kMillisecond = 1'000'000;
  StartTimes times;
  times.asked = 1000 * kMillisecond;
  times.placed = 1002 * kMillisecond;
  times.accepted = 900 * kMillisecond;  // the node's clock is behind
  times.layers_ready = 1100 * kMillisecond;
  times.created = 1150 * kMillisecond;  // no network
  times.running = 1400 * kMillisecond;
  metrics.start(times);
  times.layers_ready = 800 * kMillisecond;  // went back
  metrics.start(times);
  const std::string text = metrics.text();
  EXPECT_EQ(value(text, "chalk_sandbox_start_phase_seconds_count{phase=\"layers\"}"), "2");
  EXPECT_EQ(value(text, "chalk_sandbox_start_phase_seconds_sum{phase=\"layers\"}"), "0.2");
  EXPECT_EQ(value(text, "chalk_sandbox_start_phase_seconds_count{phase=\"create\"}"), "none");
  EXPECT_EQ(value(text, "chalk_sandbox_start_seconds_sum"), "0.8");
}

TEST(Metrics, ManyThreadsLoseNothing) {
  Metrics metrics;
  metrics.before_text([](Metrics& m) { m.set("chalk_log_events", 42); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        metrics.count("chalk_sandboxes_ended_total", {{"reason", i % 2 == 0 ? "exited" : "lost"}});
        if (i % 100 == 0) metrics.text();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const std::string text = metrics.text();
  EXPECT_EQ(value(text, "chalk_sandboxes_ended_total{reason=\"exited\"}"), "2000");
  EXPECT_EQ(value(text, "chalk_sandboxes_ended_total{reason=\"lost\"}"), "2000");
  EXPECT_EQ(value(text, "chalk_log_events"), "42");
}

}  // namespace
}  // namespace chalk::metrics
