#!/usr/bin/env bash
# sockets.sh [ROUNDS [SECONDS [PATTERN]]]: what each way to drive and set tcp's sockets gains or costs, one at a time, beside the defaults, which
# run twice (A/A). By turns, null backend, one thread and one CPU each. Prints medians of the rounds' ratios: operations a second, and CPU time
# of both sides for each. What TLS costs is its line beside that of goroutines on both sides, which it needs. 18 minutes by default;
# PATTERN leaves the ways that match it, such as 'engine|tls'.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-5} seconds=${2:-2}
[[ -x bin/kvwire ]] || { echo "sockets: there is no bin/kvwire: make build" >&2 && exit 1; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT
trap 'exit 130' INT TERM
variants=("default" "again" "--tcp-engine=goroutine" "--tcp-engine=goroutine --tcp-client-engine=goroutine" "--tls=on" "--tcp-nodelay=false" "--tcp-cork" "--tcp-quickack"
    "--tcp-send-bytes=256KiB --tcp-receive-bytes=256KiB" "--tcp-zerocopy-bytes=32KiB" "--tcp-busy-poll=50us")
kept=()
for v in "${variants[@]}"; do
    [[ $v != --* || $v =~ ${3:-} ]] && kept+=("$v")
done
variants=("${kept[@]}")
loads=("1 1 64 get" "4 16 64 get" "4 256 64 get" "4 16 4KiB get" "4 16 4KiB put" "4 4 1MiB get")
for ((round = 1; round <= rounds; round++)); do
    for load in "${loads[@]}"; do
        read -r conns depth bytes op <<<"$load"
        for i in $(shuf -i "0-$((${#variants[@]} - 1))"); do
            v=${variants[$i]} flags=()
            [[ $v != --* ]] || read -ra flags <<<"$v"
            row=$(timeout 120 bin/kvwire bench --backend null --conns "$conns" --depth "$depth" --value-bytes "$bytes" --mix "$op" --duration "${seconds}s" --warmup 300ms --json "${flags[@]}" 2>/dev/null) ||
                { echo "sockets: kvwire bench ${flags[*]} failed" >&2 && exit 1; }
            grep -oE '"(ops_per_s|client_(user|sys)_ns_per_op|server_(user|sys)_ns_per_op)":[0-9.e+]+' <<<"$row" |
                awk -F: -v k="$conns x $depth $bytes $op|$v|$round" '/ops_per_s/ { r = $2 } /_ns_/ { c += $2 } END { printf "%s|%.1f|%.1f\n", k, r, c }' >>"$out"
        done
    done
    echo "sockets: round $round of $rounds" >&2
done
awk -F'|' "$median_awk"'
{ if (!($1 in seen)) { seen[$1] = 1; loads[++m] = $1 } if (!($2 in have)) have[$2] = 1; r[$1, $2, $3] = $4; c[$1, $2, $3] = $5; rounds = $3 > rounds ? $3 : rounds }
END {
    for (i = 1; i <= m; i++) {
        for (k = 1; k <= rounds; k++) { v[k] = r[loads[i], "default", k]; w[k] = c[loads[i], "default", k] }
        printf "%s: %.0f operations/s, %.2f us of CPU each\n", loads[i], median(v, rounds), median(w, rounds) / 1000
        n = split(order, names, ";")
        for (j = 1; j <= n; j++) {
            for (k = 1; k <= rounds; k++) { v[k] = r[loads[i], names[j], k] / r[loads[i], "default", k]; w[k] = c[loads[i], names[j], k] / c[loads[i], "default", k] }
            printf "  %-52s operations x %.2f  CPU x %.2f\n", names[j], median(v, rounds), median(w, rounds)
        }
    }
}' order="$(IFS=';' && echo "${variants[*]:1}")" "$out"
