#!/usr/bin/env bash
# test.sh [--long]: everything that must pass. About 6 minutes on 2 cores with a cold build cache.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
tags=(-tags "${KVWIRE_TAGS:-giouring rdma}")
native=("${tags[@]}" -ldflags=-checklinkname=0)
short=-short fuzz_seconds=4
if [[ ${1:-} == --long ]]; then
    short= fuzz_seconds=60
fi

step() { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }

# kernel_has_uring is asked of the kernel, not of our own code, so that a bug there cannot turn tests into skips.
kernel_has_uring() {
    local sysctl=/proc/sys/kernel/io_uring_disabled
    if [[ -e $sysctl ]]; then # Linux 6.6 and later
        [[ $(<$sysctl) == 0 ]] || return 1
    else
        grep -q 'sys_io_uring_setup$' /proc/kallsyms 2>/dev/null || return 1
    fi
    grep -q '^Seccomp:[[:space:]]*0$' /proc/self/status
}
if [[ -z ${KVWIRE_REQUIRE+set} ]] && kernel_has_uring; then
    export KVWIRE_REQUIRE=uring
fi
echo "KVWIRE_REQUIRE=${KVWIRE_REQUIRE:-} (a test that needs one of these fails where it would skip)"

step "a bare build, without the native parts"
go build ./...
go vet ./...
KVWIRE_REQUIRE='' go test -short -timeout 5m ./...

step "vet and tests"
go vet "${tags[@]}" ./...
go test "${native[@]}" -count=1 -timeout 8m ./...

step "race detector, on what has several goroutines"
concurrent=()
for dir in loop transport inproc tcp uring rdma wire store bench internal/ring internal/arena; do
    if compgen -G "$dir/*" >/dev/null; then
        concurrent+=("./$dir/...")
    fi
done
CGO_ENABLED=1 go test "${native[@]}" -race $short -count=1 -timeout 8m "${concurrent[@]}"

step "arm64 builds and vets (without rdma: its cgo has no cross compiler here)"
CGO_ENABLED=0 GOARCH=arm64 go build -tags giouring -ldflags=-checklinkname=0 ./...
CGO_ENABLED=0 GOARCH=arm64 go vet -tags giouring ./...

step "fuzzing, $fuzz_seconds s for each target"
# Without a bound on minimizing, a short run spends its time there.
grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file name; do
    go test "${native[@]}" -run '^$' -fuzz "^${name#func }\$" -fuzztime "${fuzz_seconds}s" -fuzzminimizetime 20x "$(dirname "$file")"
done

step "all passed"
