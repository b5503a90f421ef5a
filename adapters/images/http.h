// One HTTP GET at a time over libcurl, for Registry alone: bounded body, connect, stall and total
// times, redirects by hand so that an Authorization header never reaches another host and addresses
// are checked at every hop. Retries nothing: a Reply says what happened and whether to try again.
#pragma once
#include <curl/curl.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/error.h"
#include "adapters/images/registries.h"

namespace chalk::images {

struct Get {
  std::string url;
  std::vector<std::string> headers;  // without Authorization
  std::string authorization;         // value of the header; empty for none
  std::int64_t offset = 0;           // > 0 asks for a range from here
  bool insecure = false;             // http is fine; else https only, over redirects too
  bool stream = false;               // a blob: `longest` instead of the request's time
  std::chrono::milliseconds longest{0};
  // Body of a 200 or 206 answer; false ends the transfer. Any other body is kept in Reply::body.
  std::function<bool(std::string_view)> sink;
  // Before the first byte of the body: the status, and where a 206 begins. False ends the transfer.
  std::function<bool(long status, std::int64_t first)> begin;
  std::stop_token stop;
};

struct Reply {
  CURLcode code = CURLE_OK;
  std::string problem;  // curl's words, when code is not CURLE_OK
  long status = 0;
  std::string body;  // of an answer that is neither 200 nor 206, its first 64 KiB
  std::string content_type;
  std::string challenge;  // WWW-Authenticate: Bearer if there is one, else the first
  std::string content_digest;
  std::chrono::milliseconds retry_after{0};
  std::int64_t first_byte = 0;  // of Content-Range
  bool refused = false;         // by our own rules; `problem` says which

  bool worked() const { return code == CURLE_OK && !refused && (status == 200 || status == 206); }
  bool passing() const;  // trying again may help
};

class Http {
 public:
  explicit Http(const Registries& configuration);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  Reply get(const Get& request) const;

 private:
  Reply hop(const Get& request, const std::string& url, bool authorized, std::string& next) const;
  CURL* take() const;
  void give_back(CURL* handle) const;

  const Registries& configuration_;
  mutable std::mutex mutex_;
  mutable std::vector<CURL*> idle_;
};

// "https://host:port/path" -> "host:port", lower case, without a default port; empty if it is no
// http(s) URL.
std::string host_of(std::string_view url);
// Loopback, private, link local, multicast and other addresses that are not for everybody.
bool private_address(const struct sockaddr* address);

}  // namespace chalk::images
