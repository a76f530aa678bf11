#!/usr/bin/env bash
# install.sh build|test: installs what is missing for that, and nothing else. Where nothing is
# missing it touches no network and needs no rights. Go is the one thing that must be there.
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-build}

fail() {
    printf 'kvwire: %s\n' "$@" >&2
    exit 1
}

check_go() {
    command -v go >/dev/null || fail "Go is not installed, or not in PATH." \
        "Install Go 1.26 or later (https://go.dev/dl) to /usr/local/go, or add its bin folder to PATH."
    local version
    # In a module that wants a later Go, an earlier one fetches it, unless GOTOOLCHAIN=local forbids that.
    version=$(go env GOVERSION 2>&1) || fail "go says: $version" \
        "kvwire needs Go 1.26 or later: install it, or let go fetch it: GOTOOLCHAIN=auto make $purpose"
    local major minor
    IFS=. read -r major minor _ <<<"${version#go}"
    minor=${minor%%[!0-9]*}
    if [[ ! $major =~ ^[0-9]+$ || -z $minor ]]; then
        echo "kvwire: cannot tell the version of Go from \"$version\": going on" >&2
    elif ((major == 1 && minor < 26)); then
        fail "$version is too old: kvwire needs Go 1.26 or later." \
            "Install it (https://go.dev/dl), or let go fetch it: GOTOOLCHAIN=auto make $purpose"
    fi
}

has_certificates() {
    local f
    for f in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        [[ -n $f && -s $f ]] && return 0
    done
    return 1
}

has_modules() {
    GOPROXY=off go list -deps -test -tags "${KVWIRE_TAGS:-giouring rdma}" ./... >/dev/null 2>&1
}

has_c_compiler() { # with the headers of the C library: the race detector needs both
    command -v "${CC:-gcc}" >/dev/null && "${CC:-gcc}" -E - <<<'#include <stdlib.h>' >/dev/null 2>&1
}

check_go
missing=()
has_certificates || has_modules || missing+=(ca-certificates) # to download modules
if [[ $purpose == test ]]; then
    has_c_compiler || missing+=(gcc libc6-dev)
fi
((${#missing[@]})) || exit 0

echo "kvwire: installing ${missing[*]}" >&2
command -v apt-get >/dev/null || fail "missing: ${missing[*]} (by Debian's names), and this is neither Debian nor Ubuntu." \
    "Install them with this system's package manager, and try again."
as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || fail "missing: ${missing[*]}, and you are neither root nor have sudo." \
        "As root: apt-get install ${missing[*]}"
    as_root=(sudo)
fi
try() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >&2
}
try update || echo "kvwire: apt-get update failed: trying with the lists that are there" >&2
try install -y --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install ${missing[*]}: see above." "By hand, as root: apt-get update && apt-get install ${missing[*]}"
