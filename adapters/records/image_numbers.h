// Gives each image's manifest digest its number in the model, one for ever: it is on disk before any
// log speaks of it. Thread safe.
#pragma once
#include <memory>
#include <mutex>
#include <string>

#include "adapters/error.h"
#include "model/core/ids.h"

struct sqlite3;

namespace chalk::records {

class ImageNumbers {
 public:
  // Throws std::runtime_error where the file cannot be opened.
  explicit ImageNumbers(const std::string& path);
  ~ImageNumbers();

  Result<ImageId> number_of(const std::string& digest);

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::string path_;
  std::mutex mutex_;
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace chalk::records
