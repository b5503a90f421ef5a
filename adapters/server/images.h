// Which images the server knows: resolves a reference at its registry and gives it an ImageId.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "adapters/error.h"
#include "adapters/images/image.h"
#include "adapters/images/layer_id.h"
#include "adapters/images/registries.h"
#include "model/protocol/protocol.h"

namespace chalk::server {

class Plane;

struct KnownImage {
  ImageId id;
  images::Image image;
};

class ImageCatalogue {
 public:
  // `path`: SQLite file that gives each manifest digest its number for ever. `patience`: with a
  // registry, as a whole: all tries, redirects and tokens. Registries are anybody's.
  ImageCatalogue(Plane& plane, const std::string& path, images::Registries registries,
                 std::chrono::milliseconds patience = std::chrono::minutes(2));
  ~ImageCatalogue();

  using Gone = std::function<bool()>;  // asked now and then, by any thread; must not wait
  // Asks the registry, at most once a minute for the same tag; concurrent asks are joined. The image
  // is in the plane's catalogue when this answers. An ask ends when all who wait for it are gone.
  Result<KnownImage> resolve(const std::string& reference, const Gone& gone = {});
  void stop();  // asks that are under way end, and nobody is asked any more

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::server
