#include "adapters/images/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <memory>
#include <stdexcept>

namespace chalk::images {
namespace {

constexpr int kMaxRedirects = 5;
constexpr std::size_t kMaxErrorBody = 64 << 10;
constexpr std::size_t kIdleHandles = 8;
constexpr long kStallBytes = 1024;  // fewer a second, averaged over the stall time, is a stall

struct Transfer {
  const Get& request;
  Reply& reply;
  CURL* handle;
  bool begun = false;
  bool refuse_private = false;
  bool stopped_by_sink = false;
  bool enough = false;  // of the body of an answer that is neither 200 nor 206
};

std::string lower(std::string_view text) {
  std::string copy(text);
  std::ranges::transform(copy, copy.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return copy;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

std::int64_t number(std::string_view text, std::int64_t otherwise) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end != text.data() && value >= 0 ? value : otherwise;
}

std::size_t on_header(char* data, std::size_t, std::size_t size, void* user) {
  Reply& reply = static_cast<Transfer*>(user)->reply;
  const std::string_view line(data, size);
  if (line.starts_with("HTTP/")) {  // a new answer begins (after 100 Continue, say)
    reply.content_type.clear();
    reply.challenge.clear();
    reply.content_digest.clear();
    reply.retry_after = {};
    reply.first_byte = 0;
    return size;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  const std::string name = lower(line.substr(0, colon));
  const std::string_view value = trim(line.substr(colon + 1));
  if (value.size() > 8192) return size;
  if (name == "content-type") reply.content_type = value;
  if (name == "docker-content-digest") reply.content_digest = value;
  if (name == "retry-after")
    reply.retry_after = std::chrono::seconds(std::min<std::int64_t>(number(value, 0), 3600));
  if (name == "content-range" && lower(value).starts_with("bytes "))
    reply.first_byte = number(value.substr(6), -1);
  if (name == "www-authenticate")
    if (reply.challenge.empty() || lower(value).starts_with("bearer ")) reply.challenge = value;
  return size;
}

std::size_t on_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  long status = 0;
  curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200 && status != 206) {
    std::string& body = transfer.reply.body;
    body.append(data, std::min(size, kMaxErrorBody - body.size()));
    transfer.enough = body.size() == kMaxErrorBody;
    return transfer.enough ? 0 : size;  // it may have no end
  }
  if (!transfer.begun) {
    transfer.begun = true;
    if (transfer.request.begin && !transfer.request.begin(status, transfer.reply.first_byte)) {
      transfer.stopped_by_sink = true;
      return 0;
    }
  }
  if (transfer.request.sink(std::string_view(data, size))) return size;
  transfer.stopped_by_sink = true;
  return 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Transfer*>(user)->request.stop.stop_requested() ? 1 : 0;
}

curl_socket_t on_socket(void* user, curlsocktype, struct curl_sockaddr* address) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.refuse_private && private_address(&address->addr)) {
    transfer.reply.refused = true;
    transfer.reply.problem =
        "its address is private or local, and the configuration does not "
        "name this host";
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

bool private_v4(std::uint32_t ip) {
  const auto in = [ip](std::uint32_t network, int bits) {
    return (ip >> (32 - bits)) == (network >> (32 - bits));
  };
  return in(0x00000000, 8) || in(0x0a000000, 8) || in(0x64400000, 10) || in(0x7f000000, 8) ||
         in(0xa9fe0000, 16) || in(0xac100000, 12) || in(0xc0000000, 24) || in(0xc0a80000, 16) ||
         in(0xc6120000, 15) || in(0xe0000000, 3);
}

void set_times(CURL* handle, const Registries& configuration, const Get& request) {
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(configuration.connect_timeout.count()));
  if (request.stream) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(configuration.stall_timeout);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, kStallBytes);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(seconds.count()));
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(request.longest.count()));
  } else {
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS,
                     static_cast<long>(configuration.request_timeout.count()));
  }
}

}  // namespace

bool private_address(const struct sockaddr* address) {
  if (address->sa_family == AF_INET)
    return private_v4(ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr));
  if (address->sa_family != AF_INET6) return true;
  const auto* b = reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr.s6_addr;
  const auto v4 = [b] {
    return private_v4(std::uint32_t{b[12]} << 24 | std::uint32_t{b[13]} << 16 |
                      std::uint32_t{b[14]} << 8 | b[15]);
  };
  const bool zeros = std::all_of(b, b + 10, [](unsigned char c) { return c == 0; });
  if (zeros && b[10] == 0xff && b[11] == 0xff) return v4();                    // ::ffff:a.b.c.d
  if (zeros) return true;                                                      // ::, ::1, ::a.b.c.d
  if (b[0] == 0 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b) return v4();  // NAT64
  return (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0x80) == 0x80) || b[0] == 0xff;
}

std::string host_of(std::string_view url) {
  const std::string text = lower(url.substr(0, 2048));
  const bool secure = text.starts_with("https://");
  if (!secure && !text.starts_with("http://")) return {};
  std::string host = text.substr(secure ? 8 : 7);
  host.resize(std::min(host.find_first_of("/?#\\"), host.size()));
  if (const auto at = host.rfind('@'); at != std::string::npos) host.erase(0, at + 1);
  const std::string_view port = secure ? ":443" : ":80";
  if (host.ends_with(port)) host.resize(host.size() - port.size());
  return host;
}

bool Reply::passing() const {
  if (refused) return false;
  if (code == CURLE_OK) return status == 408 || status == 425 || status == 429 || status >= 500;
  return code != CURLE_PEER_FAILED_VERIFICATION && code != CURLE_URL_MALFORMAT &&
         code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_SSL_CACERT_BADFILE;
}

Http::Http(const Registries& configuration) : configuration_(configuration) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK)
    throw std::runtime_error(std::string("libcurl: ") + curl_easy_strerror(started));
}

Http::~Http() {
  for (CURL* handle : idle_) curl_easy_cleanup(handle);
}

CURL* Http::take() const {
  const std::scoped_lock lock(mutex_);
  if (idle_.empty()) return curl_easy_init();
  CURL* handle = idle_.back();
  idle_.pop_back();
  return handle;
}

void Http::give_back(CURL* handle) const {
  curl_easy_reset(handle);  // keeps its connections
  const std::scoped_lock lock(mutex_);
  if (idle_.size() < kIdleHandles)
    idle_.push_back(handle);
  else
    curl_easy_cleanup(handle);
}

Reply Http::get(const Get& request) const {
  std::string url = request.url;
  const std::string first_host = host_of(url);
  for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
    std::string next;
    Reply reply = hop(request, url, host_of(url) == first_host, next);
    if (next.empty()) return reply;
    url = next;
  }
  Reply reply;
  reply.refused = true;
  reply.problem = "more than 5 redirects";
  return reply;
}

Reply Http::hop(const Get& request, const std::string& url, bool authorized,
                std::string& next) const {
  Reply reply;
  const std::string host = host_of(url);
  if (host.empty() || (!request.insecure && !url.starts_with("https://"))) {
    reply.refused = true;
    reply.problem = "leads to " + url.substr(0, 200) + ", expected https";
    return reply;
  }
  CURL* handle = take();
  if (!handle) return reply.code = CURLE_OUT_OF_MEMORY, reply.problem = "no memory", reply;
  Transfer transfer{request, reply, handle};
  transfer.refuse_private = !configuration_.allow_private_addresses && !configuration_.named(host);
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(nullptr, curl_slist_free_all);
  const auto add = [&](const std::string& header) {
    curl_slist* list = curl_slist_append(headers.get(), header.c_str());
    if (list) static_cast<void>(headers.release()), headers.reset(list);
  };
  for (const std::string& header : request.headers) add(header);
  if (authorized && !request.authorization.empty()) add("Authorization: " + request.authorization);
  char problem[CURL_ERROR_SIZE] = "";
  const std::string range = std::to_string(request.offset) + "-";
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, request.insecure ? "http,https" : "https");
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "chalk");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, problem);
  if (request.offset > 0) curl_easy_setopt(handle, CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, on_socket);
  curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, &transfer);
  set_times(handle, configuration_, request);

  reply.code = curl_easy_perform(handle);
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &reply.status);
  if (transfer.enough && reply.status / 100 == 3) {  // curl says where to only at the body's end
    reply.refused = true;
    reply.problem = "redirects with a body of more than 64 KiB";
  } else if (transfer.enough) {
    reply.code = CURLE_OK;  // its status and its first bytes are the answer
  }
  if (reply.code != CURLE_OK && !reply.refused)
    reply.problem = *problem ? problem : curl_easy_strerror(reply.code);
  // The sink ended it for a reason of its own, and knows it.
  if (transfer.stopped_by_sink) reply.refused = true;
  char* location = nullptr;
  if (reply.code == CURLE_OK && reply.status / 100 == 3 &&
      curl_easy_getinfo(handle, CURLINFO_REDIRECT_URL, &location) == CURLE_OK && location)
    next = location;
  give_back(handle);
  return reply;
}

}  // namespace chalk::images
