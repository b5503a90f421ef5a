// Chooses the mutant when the program starts; writes at its end which places it passed, as
// "name TAB milliseconds TAB numbers" to the file CHALK_MUTATION_REACHED.
#include "tests/mutation/runtime.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/mutation/reached.h"

namespace chalk_mutation {
namespace {

unsigned char early[kMutantsMax];  // for what runs before the constructors of this file

struct Session {
  Session() {
    if (const char* number = std::getenv("CHALK_MUTANT")) chosen = std::atoi(number);
    // Shared, so that what a forked child passes is seen too.
    void* shared = mmap(nullptr, kMutantsMax, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) std::abort();
    std::memcpy(shared, early, kMutantsMax);
    reached = static_cast<unsigned char*>(shared);
  }
  ~Session() {
    if (!tests_report) write_reached("all", 0);
  }
} session;

}  // namespace

int chosen = 0;
unsigned char* reached = early;
bool tests_report = false;

void write_reached(const char* name, long milliseconds) {
  const char* path = std::getenv("CHALK_MUTATION_REACHED");
  std::FILE* file = path != nullptr ? std::fopen(path, "a") : nullptr;
  if (file == nullptr) return;
  std::fprintf(file, "%s\t%ld\t", name, milliseconds);
  for (int mutant = 1; mutant < kMutantsMax; ++mutant) {
    if (reached[mutant] != 0) std::fprintf(file, "%d ", mutant);
  }
  std::fprintf(file, "\n");
  std::fclose(file);
  std::memset(reached, 0, kMutantsMax);
}

}  // namespace chalk_mutation
