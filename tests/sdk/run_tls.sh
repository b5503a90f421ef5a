#!/usr/bin/env bash
# The unmodified public client over https, with a private authority as an operator would make it: run_tls.sh BINDIR
# Beside the cases of tls.py, those of the other modules whose bytes TLS could hold up or change.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${1:?usage: run_tls.sh BINDIR}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat >"$folder/names" <<END
[req]
distinguished_name = none
[none]
[root]
basicConstraints = critical, CA:TRUE
[between]
basicConstraints = critical, CA:TRUE
[leaf]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
END
# issue NAME [ISSUER]
issue() {
  (cd "$folder" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -config names -subj "/CN=$1" \
    -extensions "$1" -keyout "$1.key" -out "$1.crt" ${2:+-CA "$2.crt" -CAkey "$2.key"})
}
issue root
issue between root
issue leaf between
cat "$folder/leaf.crt" "$folder/between.crt" >"$folder/chain.pem"

SSL_CERT_FILE=$folder/root.crt "$here/run_sdk.sh" "$bin" --certificate "$folder/chain.pem" --key "$folder/leaf.key" tls \
  sandboxes.Sandboxes.test_a_stream_of_output_comes_as_it_is_written sandboxes.Sandboxes.test_a_megabyte_of_input_and_output \
  sessions.Sessions.test_a_session_goes_on_after_detaching files.Files.test_a_large_file_is_streamed_both_ways examples
