// What the machines decided, in sentences for people.
#pragma once
#include <string>

#include "model/sandbox/sandbox.h"

namespace chalk::records {

// The rule and the numbers: "quota of cpu: 3000 millicores asked, 7000 in use, 8000 allowed".
std::string refusal_text(const sandbox::Refused& refused);
std::string end_reason_text(EndReason reason);

}  // namespace chalk::records
