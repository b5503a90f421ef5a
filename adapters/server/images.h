// Which images the server knows: resolves a reference at its registry and gives it an ImageId.
#pragma once
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
  // `path`: SQLite file that gives each manifest digest its number for ever.
  ImageCatalogue(Plane& plane, const std::string& path, images::Registries registries);
  ~ImageCatalogue();

  // Asks the registry, at most once a minute for the same tag; concurrent asks are joined. The image
  // is in the plane's catalogue when this answers.
  Result<KnownImage> resolve(const std::string& reference);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chalk::server
