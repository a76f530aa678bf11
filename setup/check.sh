#!/usr/bin/env bash
# check.sh: format, vet, lint and short tests of all packages, with the native parts: under 2 minutes on 2 cores with a warm
# build cache. Packages in which nothing has changed since they passed are not tested again.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
export GOGC=${GOGC:-400} # the compiler, the linker and the tests take a sixth less CPU time, for some more memory
tags=(-tags "${KVWIRE_TAGS:-giouring rdma}")

failed=()
said=$(mktemp)
trap 'rm -f "$said"' EXIT
must() { # WHAT COMMAND…
    local what=$1 began=$SECONDS code=0
    shift
    "$@" || code=$?
    ((code == 0)) || failed+=("$what (exit code $code)")
    printf '== %s (%ds)\n' "$what" $((SECONDS - began))
}

formatted() {
    local files
    files=$(gofmt -l .)
    [[ -z $files ]] || { printf '%s: not formatted: gofmt -w\n' $files >&2 && return 1; }
}

must format formatted
must vet go vet "${tags[@]}" ./...
go test -count=1 ./internal/lint >"$said" 2>&1 &
lint=$!
# Linking takes half the time without debugging tables and by Go's own linker. Many tests wait for another process, or for the disk, so more of them run at the same time than
# there are CPUs. The packages that take longest begin first.
must "short tests" go test "${tags[@]}" -ldflags='-checklinkname=0 -s -w -linkmode=internal' -vet=off -short -p 4 -parallel 8 -timeout 10m \
    ./cmd/kvwire ./store ./tcp ./uring ./verify ./setup ./resp ./store/disk ./bench $(go list "${tags[@]}" ./... | grep -v /internal/lint)

wait "$lint" || failed+=("lint")
cat "$said"
((${#failed[@]} == 0)) || { printf 'FAILED: %s\n' "${failed[@]}" >&2 && exit 1; }
echo "all passed in $SECONDS s"
