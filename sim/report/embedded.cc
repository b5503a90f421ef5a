#include "sim/report/embedded.h"

#define CHALK_EMBED(name, path)                                                                    \
  asm(".section .rodata\n.global chalk_" #name "_begin\n.global chalk_" #name                      \
      "_end\n"                                                                                     \
      "chalk_" #name "_begin:\n.incbin \"" path "\"\nchalk_" #name "_end:\n.byte 0\n.previous\n"); \
  extern "C" const char chalk_##name##_begin[];                                                    \
  extern "C" const char chalk_##name##_end[];

CHALK_EMBED(chart_js, CHALK_CHART_JS)
CHALK_EMBED(page_js, CHALK_PAGE_JS)
CHALK_EMBED(page_css, CHALK_PAGE_CSS)

namespace chalk::sim {

std::string_view embedded_chart_js() { return {chalk_chart_js_begin, chalk_chart_js_end}; }
std::string_view embedded_page_js() { return {chalk_page_js_begin, chalk_page_js_end}; }
std::string_view embedded_page_css() { return {chalk_page_css_begin, chalk_page_css_end}; }

}  // namespace chalk::sim
