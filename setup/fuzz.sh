#!/usr/bin/env bash
# fuzz.sh SECONDS: fuzzes each target of the module for this time (make fuzz T=60s), and prints the number of runs of each.
# Failing inputs are written below testdata/fuzz, and are tests from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
native=(-tags "${KVWIRE_TAGS:-giouring rdma}" -ldflags=-checklinkname=0)
failed=() all=0
cache=$(go env GOCACHE)/fuzz
program=$(mktemp)
trap 'rm -f "$program"' EXIT

# fuzz SECONDS TARGET FOLDER: when the time is over, Go's fuzzer sometimes fails only with its own deadline and without a
# failing input. Only that is tried again. Without a bound on minimizing, a short run spends all its time on it.
fuzz() {
    local output code=0 seconds=$1 n
    shift
    [[ $2 != */resp ]] || ((seconds >= 20)) || seconds=20 # input from unauthenticated peers: at least 20 s for each of its three targets
    for _ in 1 2 3; do
        code=0
        output=$(cd "$2" && "$program" -test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "${seconds}s" -test.fuzzminimizetime 20x -test.fuzzcachedir "$cache/$import" 2>&1) || code=$?
        ((code)) && [[ $output == *'context deadline exceeded'* && $output != *'Failing input'* && $output != *'panic'* ]] || break
    done
    n=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' <<<"$output" | tail -1)
    ((code == 0)) || { printf '%s\n' "$output" >&2 && failed+=("$1 $2"); }
    all=$((all + ${n:-0}))
    printf '%12s  %s %s%s\n' "${n:-0}" "$1" "$2" "$( ((code)) && echo '  FAILED')"
}

seconds=${1:?fuzz.sh SECONDS}
built=
while IFS=: read -r file name; do
    dir=$(dirname "$file")
    if [[ $dir != "$built" ]]; then # one program for all targets of a package
        go test -c "${native[@]}" -vet=off -fuzz . -o "$program" "$dir"
        built=$dir import=$(go list "$dir")
    fi
    fuzz "${seconds%s}" "${name#func }" "$dir"
done < <(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort)
printf '%12s  executions in all\n' "$all"
((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}" >&2 && exit 1; }
