#include "tests/adapters/images/docker_registry.h"

#include <curl/curl.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "adapters/images/digest.h"

namespace chalk::images::testing {
namespace {

std::size_t on_header(char* data, std::size_t, std::size_t size, void* to) {
  const std::string line(data, size);
  if (line.size() > 10 && strncasecmp(line.c_str(), "location: ", 10) == 0)
    *static_cast<std::string*>(to) = line.substr(10, line.find_last_not_of("\r\n") - 9);
  return size;
}

std::size_t on_body(char*, std::size_t, std::size_t size, void*) { return size; }

struct Done {
  long status = 0;
  std::string location;
};

Done ask(const std::string& method, const std::string& url, const std::string& body,
         const std::string& type) {
  Done done;
  CURL* handle = curl_easy_init();
  curl_slist* headers = curl_slist_append(nullptr, ("Content-Type: " + type).c_str());
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, method.c_str());
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &done.location);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
  if (method != "GET") {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body.data());
  }
  curl_easy_perform(handle);
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &done.status);
  curl_slist_free_all(headers);
  curl_easy_cleanup(handle);
  return done;
}

}  // namespace

std::unique_ptr<DockerRegistry> DockerRegistry::start(const Scratch& scratch, std::string& why) {
  const std::string program = find_program("docker-registry");
  if (program.empty()) {
    why = "docker-registry is not installed";
    return nullptr;
  }
  const std::string folder = scratch.folder("registry");
  // Another program may take the port between our look and its start: some tries.
  for (int attempt = 0; attempt < 5; ++attempt) {
    auto registry = std::unique_ptr<DockerRegistry>(new DockerRegistry);
    registry->port_ = free_port();
    std::ofstream(folder + "/config.yml")
        << "version: 0.1\nlog: {level: error}\nstorage:\n  filesystem:\n    rootdirectory: "
        << folder << "/data\nhttp:\n  addr: " << registry->host() << "\n";
    registry->process_ = std::make_unique<Process>(
        std::vector<std::string>{program, "serve", folder + "/config.yml"}, folder + "/log");
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (registry->process_->running() && std::chrono::steady_clock::now() < until) {
      if (ask("GET", "http://" + registry->host() + "/v2/", "", "text/plain").status == 200)
        return registry;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  why = "docker-registry does not answer, see " + folder + "/log";
  return nullptr;
}

void DockerRegistry::push(const std::string& repository, const std::string& tag,
                          const Published& image) const {
  const std::string base = "http://" + host() + "/v2/" + repository + "/";
  for (const auto& [digest, bytes] : image.blobs) {
    const Done begun = ask("POST", base + "blobs/uploads/", "", "application/octet-stream");
    if (begun.status != 202) throw std::runtime_error("registry: no upload");
    const std::string glue = begun.location.find('?') == std::string::npos ? "?" : "&";
    if (ask("PUT", begun.location + glue + "digest=" + digest, bytes, "application/octet-stream")
            .status != 201)
      throw std::runtime_error("registry: refuses blob " + digest);
  }
  if (ask("PUT", base + "manifests/" + tag, image.manifest, image.manifest_type).status != 201)
    throw std::runtime_error("registry: refuses the manifest");
}

}  // namespace chalk::images::testing
