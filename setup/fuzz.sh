#!/usr/bin/env bash
# fuzz.sh SECONDS: fuzzes each target of the module for this time (make fuzz T=60s), and prints the number of runs of each. Two packages are fuzzed at a
# time, each with half of the CPUs: building, and a target's first seconds, use only one.
# Failing inputs are written below testdata/fuzz, and are tests from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
native=(-tags "${KVWIRE_TAGS:-giouring rdma}" -ldflags='-checklinkname=0 -s -w')
cache=$(go env GOCACHE)/fuzz
workers=$((($(nproc) + 1) / 2))
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
: >"$work/failed" >"$work/runs" # a line for each target

# fuzz SECONDS TARGET FOLDER PROGRAM IMPORT: when the time is over, Go's fuzzer sometimes fails only with its own deadline and without a
# failing input. Only that is tried again. Without a bound on minimizing, a short run spends all its time on it.
fuzz() {
    local output code=0 n
    for _ in 1 2 3; do
        code=0
        output=$(cd "$3" && "$4" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$1s" -test.parallel "$workers" -test.fuzzminimizetime 20x -test.fuzzcachedir "$cache/$5" 2>&1) || code=$?
        ((code)) && [[ $output == *'context deadline exceeded'* && $output != *'Failing input'* && $output != *'panic'* ]] || break
    done
    n=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' <<<"$output" | tail -1)
    ((code == 0)) || { printf '%s\n' "$output" >&2 && echo "$2 $3" >>"$work/failed"; }
    echo "${n:-0}" >>"$work/runs"
    printf '%12s  %s %s%s\n' "${n:-0}" "$2" "$3" "$( ((code)) && echo '  FAILED')"
}

# package SECONDS FOLDER: fuzzes the targets of a package, with one program for all.
package() {
    local seconds=$1 program=$work/fuzz${2//[.\/]/-} import target
    [[ $2 != */resp ]] || ((seconds >= 20)) || seconds=20 # input from unauthenticated peers: at least 20 s for each of its three targets
    import=$(go list "$2") && go test -c "${native[@]}" -vet=off -fuzz . -o "$program" "$2" || { echo "$2, which cannot be built" >>"$work/failed" && return; }
    for target in $(grep -hoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' "$2"/*_test.go | sed 's/func //'); do
        fuzz "$seconds" "$target" "$2" "$program" "$import"
    done
    rm -f "$program"
}

seconds=${1:?fuzz.sh SECONDS}
# What takes longest begins first.
for folder in ./resp $(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u | grep -vx ./resp); do
    while (($(jobs -rp | wc -l) >= 2)); do wait -n || true; done
    package "${seconds%s}" "$folder" &
done
wait
printf '%12s  executions in all\n' "$(awk '{ n += $1 } END { print n + 0 }' "$work/runs")"
[[ ! -s $work/failed ]] || { sed 's/^/failed: /' "$work/failed" >&2 && exit 1; }
