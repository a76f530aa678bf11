#!/usr/bin/env bash
# release.sh [DIR]: makes the archives of a release and SHA256SUMS in DIR (bin/release). On Debian 12 for amd64: the program with RDMA is linked
# against the C library of the machine that builds it. The same commit gives the same bytes, with the same Go and the same gcc, in any folder.
# VERSION and SOURCE_DATE_EPOCH default to the commit's.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-bin/release}
glibc=2.36 # Debian 12's

fail() {
    printf 'release: %s\n' "$@" >&2
    exit 1
}
git() { command git -c safe.directory="$PWD" "$@"; }
[[ $(go env GOHOSTOS)/$(go env GOHOSTARCH) == linux/amd64 ]] || fail "only Linux on amd64 builds a release: its program with RDMA needs the C compiler and the libraries of its own processor"
version=${VERSION:-$(git describe --tags --always --dirty)} || fail "no version: make it in a clone of the repository, or set VERSION"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} || fail "no date: make it in a clone of the repository, or set SOURCE_DATE_EPOCH"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$out"
rm -f "$out"/kvwire-*.tar.gz "$out/SHA256SUMS"

# compile SUFFIX TAGS [VARIABLE=VALUE…]: the program of one archive.
compile() {
    local dir=$stage/kvwire-$version-$1
    mkdir -p "$dir/bin"
    env GOFLAGS= GOOS=linux "${@:3}" go build -buildvcs=false -trimpath -tags "$2" -ldflags "-checklinkname=0 -w -X main.version=$version" -o "$dir/bin/kvwire" ./cmd/kvwire
}

# licences SUFFIX TAGS [VARIABLE=VALUE…]: those of the modules in the program, from the folders of their packages and the folders above, and of Go.
licences() {
    local to=$stage/kvwire-$version-$1/licenses name module dir at file
    mkdir -p "$to/go"
    cp "$(go env GOROOT)/LICENSE" "$to/go/" || fail "Go's licence is not in its folder: install Go from go.dev/dl"
    while read -r name module dir; do
        at=$dir
        while :; do
            for file in "$at"/{LICEN[CS]E,COPYING,NOTICE,PATENTS}*; do
                [[ -f $file ]] && install -D -m 644 "$file" "$to/$name${at#"$module"}/${file##*/}"
            done
            [[ $at != "$module" ]] || break
            at=${at%/*}
        done
        compgen -G "$to/$name/*" >/dev/null || fail "$name has no licence in its folder"
    done < <(env GOFLAGS= GOOS=linux "${@:3}" go list -deps -tags "$2" -f '{{$dir := .Dir}}{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}} {{$dir}}{{end}}{{end}}' ./cmd/kvwire)
}

# pack SUFFIX: the archive with the program, documents, manual pages and completions; standard input is BUILD.txt, which describes the build.
pack() {
    local name=kvwire-$version-$1 dir=$stage/kvwire-$version-$1
    cp LICENSE README.md CHANGELOG.md SECURITY.md CITATION.cff "$dir"
    cat >"$dir/BUILD.txt"
    cp -r "$stage/share" "$dir"
    tar --create --directory "$stage" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode='u=rwX,go=rX' "$name" | gzip -9n >"$out/$name.tar.gz"
}

native=(linux-amd64 "giouring rdma" GOARCH=amd64 CGO_ENABLED=1)
static=(linux-amd64-static giouring GOARCH=amd64 CGO_ENABLED=0)
arm64=(linux-arm64-static-not-run giouring GOARCH=arm64 CGO_ENABLED=0)
compile "${native[@]}"
compile "${static[@]}"
compile "${arm64[@]}"
for build in native static arm64; do
    declare -n arguments=$build
    licences "${arguments[@]}"
done
# Functions of libibverbs's headers are in the program. Its licence asks for this notice.
install -D -m 644 /usr/share/doc/libibverbs-dev/copyright "$stage/kvwire-$version-linux-amd64/licenses/rdma-core/copyright"

needs=$(readelf --wide --version-info "$stage/kvwire-$version-linux-amd64/bin/kvwire" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
[[ -n $needs ]] || fail "the program with RDMA does not name the C library that it needs"
[[ $(printf '%s\n' "GLIBC_$glibc" "$needs" | sort -V | tail -n 1) == "GLIBC_$glibc" ]] ||
    fail "the program needs $needs, and Debian 12 has $glibc: build it on Debian 12 (docs/install.md)"

kvwire=$stage/kvwire-$version-linux-amd64-static/bin/kvwire
mkdir -p "$stage"/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
"$kvwire" man "$stage/share/man/man1"
"$kvwire" completion bash >"$stage/share/bash-completion/completions/kvwire"
"$kvwire" completion zsh >"$stage/share/zsh/site-functions/_kvwire"
"$kvwire" completion fish >"$stage/share/fish/vendor_completions.d/kvwire.fish"

pack linux-amd64 <<TEXT
kvwire $version for Linux on amd64, with io_uring and RDMA.
It needs the C library of Debian 12 or later (glibc $glibc; this program: $needs) and, for RDMA, three libraries that it loads when it runs:
    apt-get install libibverbs1 librdmacm1 ibverbs-providers
Without them all but RDMA works. bin/kvwire doctor has what works here.
TEXT
pack linux-amd64-static <<TEXT
kvwire $version for Linux on amd64, static: it needs no library. It has io_uring and leaves out RDMA, which the archive linux-amd64 has.
bin/kvwire doctor has what works here.
TEXT
pack linux-arm64-static-not-run <<TEXT
kvwire $version for Linux on arm64, static. It has io_uring and leaves out RDMA.
NOT RUN: it was built on amd64, and nobody has tried this program on an arm64 machine. bin/kvwire doctor has what works there.
TEXT
(cd "$out" && sha256sum kvwire-*.tar.gz >SHA256SUMS)
(cd "$out" && ls -l -- *)
