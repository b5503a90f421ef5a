// How the agent becomes a node of its server and stays one: its private key, its certificate and
// the authority that it trusts, kept in a directory of their own (0700, files 0600). The first time
// a join token is traded for the certificate; later a certificate near its end is traded for the
// next one. Nothing is sent to a server that has not shown to be of the expected authority.
#pragma once
#include <cstdint>
#include <string>

#include "adapters/agent/options.h"
#include "adapters/error.h"
#include "adapters/identity/authority.h"

namespace chalk::agent {

struct NodeIdentity {
  identity::Credentials credentials;
  std::uint64_t key = 0;
};

// What is kept in `directory`; else joins. Blocks for at most about a minute.
Result<NodeIdentity> obtain_identity(const Options& options, const std::string& directory);

// The next certificate, over the present one; kept in `directory`.
Result<NodeIdentity> renew_identity(const Options& options, const std::string& directory,
                                    const NodeIdentity& present);

// The certificate with this fingerprint out of the chain that the server shows; it proves nothing
// but its own identity, so it is good as a root only because its fingerprint was given.
Result<std::string> fetch_root(const std::string& server, const std::string& fingerprint);

}  // namespace chalk::agent
