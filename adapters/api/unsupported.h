// What a specification may ask for and this server does not do.
#pragma once
#include <expected>

#include "adapters/api/translate.h"

namespace chalk::api {

std::expected<void, Objection> check_supported(const container::v1::ChalkContainerSpec& spec);

}  // namespace chalk::api
