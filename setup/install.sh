#!/usr/bin/env bash
# install.sh build|test|run|vm|bench-store|peers|instrument: installs what is missing for that, and nothing else. If nothing is missing, it
# uses no network and needs no rights. Only Go must be installed already. Without an RDMA device, test
# and run also install the guest's packages; if those cannot be installed, they continue without.
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
    # An older Go downloads the version that the module needs, unless GOTOOLCHAIN=local forbids that.
    version=$(go env GOVERSION 2>&1) || fail "go env GOVERSION: $version" \
        "kvwire needs Go 1.26 or later: install it, or let go fetch it: GOTOOLCHAIN=auto make $purpose"
    local major minor
    IFS=. read -r major minor _ <<<"${version#go}"
    minor=${minor%%[!0-9]*}
    if [[ ! $major =~ ^[0-9]+$ || -z $minor ]]; then
        echo "kvwire: the version of Go is not clear from \"$version\": continuing" >&2
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

reads_header() { "${CC:-gcc}" -E - <<<"#include <$1>" >/dev/null 2>&1; }

has_c_compiler() { # with the headers of the C library: cgo and the race detector need both
    command -v "${CC:-gcc}" >/dev/null && reads_header stdlib.h
}

need() { # PACKAGE COMMAND…: the package is missing if the command fails
    "${@:2}" >/dev/null 2>&1 || missing+=("$1")
}

program() { (PATH=$PATH:/usr/sbin:/sbin && command -v "$1"); }

# need_guest is for test/vm/vm.sh. Its programs and libraries are this machine's own.
need_guest() {
    need qemu-system-x86 program qemu-system-x86_64
    need e2fsprogs program mke2fs
    need iproute2 program rdma
    need kmod program modprobe
    need ibverbs-providers compgen -G '/usr/lib*/*/libibverbs/librxe-rdmav*.so' # and libibverbs with it
    need xz-utils program xz                                                    # for Debian's kernel
    need zstd program zstd                                                      # for Ubuntu's
}

check_go
missing=()
has_certificates || has_modules || missing+=(ca-certificates) # to download modules
if [[ " ${KVWIRE_TAGS-giouring rdma} " == *" rdma "* ]]; then   # kvwire loads the libraries when it runs
    has_c_compiler || missing+=(gcc libc6-dev)
    need libibverbs-dev reads_header infiniband/verbs.h
    need librdmacm-dev reads_header rdma/rdma_cma.h
elif [[ $purpose == test ]]; then
    has_c_compiler || missing+=(gcc libc6-dev)
fi
if [[ $purpose == test ]]; then
    need redis-tools program redis-cli # its package starts no server
fi
if [[ $purpose == test && ,${KVWIRE_REQUIRE-}, == *,chromium,* ]]; then
    need chromium program chromium # large, and for one test: only where that must not be skipped
fi
must=${#missing[@]}
case $purpose in
build) ;;
vm)
    need_guest
    need ibverbs-utils program ibv_devinfo
    need perftest program ib_send_lat # bench/perftest.sh
    must=${#missing[@]}
    ;;
peers | instrument)
    need redis-tools program redis-check-rdb
    must=${#missing[@]}
    ;;
bench-store)
    need fio program fio
    must=${#missing[@]}
    ;;
test | run) compgen -G '/sys/class/infiniband/*' >/dev/null || [[ $HOSTTYPE != x86_64 ]] || need_guest ;;
*) fail "install.sh $purpose: build, test, run, vm, bench-store, peers or instrument" ;;
esac
((${#missing[@]})) || exit 0

# refuse ends with the remedy. If only packages of the guest are missing, it ends without an error.
refuse() {
    ((must)) || { printf 'kvwire: no guest for RDMA: %s\n' "$*" >&2 && exit 0; }
    fail "$@"
}

echo "kvwire: installing ${missing[*]}" >&2
command -v apt-get >/dev/null || refuse "missing: ${missing[*]} (by Debian's names), and this is neither Debian nor Ubuntu." \
    "Install them with this system's package manager, and try again."
as_root=()
if ((EUID != 0)); then
    without=
    [[ ${missing[*]} != *ibverbs-dev* ]] || without=" Or leave RDMA out: make $purpose TAGS=giouring"
    command -v sudo >/dev/null || refuse "missing: ${missing[*]}, and you are neither root nor have sudo." \
        "As root: apt-get install ${missing[*]}.$without"
    as_root=(sudo)
fi
try() { # shows what apt-get prints only if it fails
    local printed
    printed=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" 2>&1) || { printf '%s\n' "$printed" >&2 && return 1; }
}
try update || echo "kvwire: apt-get update failed: trying with the existing lists" >&2
try install -y --no-install-recommends "${missing[@]}" ||
    refuse "apt-get could not install ${missing[*]}: see above." "By hand, as root: apt-get update && apt-get install ${missing[*]}"
