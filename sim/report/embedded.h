// Files that the report page is made of, put into the program at build time.
#pragma once
#include <string_view>

namespace chalk::sim {

std::string_view embedded_chart_js();  // Debian's libjs-chart.js, MIT licence
std::string_view embedded_page_js();   // page.js beside this file
std::string_view embedded_page_css();  // page.css beside this file

}  // namespace chalk::sim
