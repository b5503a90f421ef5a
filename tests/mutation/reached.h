// Who writes down which places were passed: each test of GoogleTest, else the end of the program.
#pragma once

namespace chalk_mutation {

extern bool tests_report;
// Adds one line and forgets the places.
void write_reached(const char* name, long milliseconds);

}  // namespace chalk_mutation
