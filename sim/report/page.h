// The frame of every report: one file that opens offline, the answer on top, plots, then `body`.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace chalk::sim {

std::string escaped(const std::string& text);  // for HTML

// `body` is HTML; all else is text. page.js draws what it knows by name in `data`: run, plan,
// sweep, compare. Answers that begin with "DOES NOT", "BROKEN", "No value" or "WORSE" are shown as
// bad.
std::string page(const std::string& title, const std::string& shows,
                 const std::vector<std::string>& answers, const std::string& body,
                 const nlohmann::json& data);

}  // namespace chalk::sim
