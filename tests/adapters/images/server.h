// A small HTTP server on a free loopback port whose answers a test decides: slow, cut, wrong.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace chalk::images::testing {

struct Asked {
  std::string method;
  std::string path;                            // with its query
  std::map<std::string, std::string> headers;  // names in lower case
};

struct Answer {
  int status = 200;
  std::vector<std::string> headers = {};
  std::string body = {};
  long cut_after = -1;     // closes the connection after so many bytes of the body
  long stall_after = -1;   // stays silent after so many bytes, until the server ends
  bool no_length = false;  // leaves out Content-Length
};

class Server {
 public:
  using Handler = std::function<Answer(const Asked&)>;  // one call at a time

  explicit Server(Handler handler);
  ~Server();

  std::string host() const;  // "127.0.0.1:PORT"
  std::vector<Asked> asked() const;

 private:
  void accept_all();
  void serve(int connection);

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;
  std::vector<Asked> asked_;
  std::vector<std::thread> connections_;
  std::thread accepting_;
};

}  // namespace chalk::images::testing
