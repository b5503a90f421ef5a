// How adapters say that something of the outside world did not work.
#pragma once
#include <expected>
#include <string>
#include <utility>

namespace chalk {

struct Error {
  enum class Kind {
    invalid,      // what was asked is wrong; asking again does not help
    not_found,    // it does not exist
    denied,       // known, and not allowed
    exhausted,    // no room, no address, a limit is reached
    unavailable,  // the other side cannot be reached now; asking again may help
    timeout,      // not finished within its bound
    corrupt,      // bytes that are not what they claim to be
    failed        // anything else that the other side said no to
  };
  Kind kind = Kind::failed;
  std::string message;  // names the place, what was found and what was expected
};

template <class T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Error::Kind kind, std::string message) {
  return std::unexpected(Error{kind, std::move(message)});
}

}  // namespace chalk
