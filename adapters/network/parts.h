// What a Network consists of.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "adapters/network/descriptor.h"
#include "adapters/network/names.h"
#include "adapters/network/network.h"
#include "adapters/network/proxy.h"
#include "adapters/network/records.h"
#include "adapters/network/settings.h"
#include "adapters/network/supply.h"

namespace chalk::network {

struct Sandbox {
  bool ready = false;  // false while its namespace is being taken
  Slot slot = 0;
  std::map<std::uint16_t, std::uint16_t> published;  // container port -> host port
};

using Sandboxes = std::map<std::string, Sandbox, std::less<>>;

struct Network::Parts {
  Parts(Settings checked, Records opened) : settings(std::move(checked)), records(opened) {}

  Settings settings;
  Records records;
  Descriptor claim;  // of the name
  std::unique_ptr<Supply> supply;
  std::unique_ptr<Proxy> proxy;
  std::unique_ptr<Names> names;

  mutable std::mutex mutex;
  Sandboxes sandboxes;
  std::set<Slot> leftovers;  // of an earlier process, until recover()

  std::string where() const { return "network " + settings.options.name + ": "; }
  Result<Sandboxes::iterator> find(std::string_view sandbox);  // with mutex, as all below
  Endpoint endpoint(const std::string& id, Slot slot) const;
  Result<void> write_record(const std::string& id, const Sandbox& sandbox) const;
  void give_up(Sandboxes::iterator sandbox);
  void adopt(Slot slot, const Record& record, bool open, Recovered& recovered);
};

}  // namespace chalk::network
