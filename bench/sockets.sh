#!/usr/bin/env bash
# sockets.sh [ROUNDS [SECONDS [PATTERN]]]: compares each engine and option of tcp's sockets, one at a time, with the defaults, which
# run twice (A/A). In turn, null backend, one thread and one CPU for each side. Prints medians of the rounds' ratios: operations per second, and CPU
# time of both sides per operation. Failed runs are counted, and in no median. Compare TLS with goroutines on both sides, which it needs. 18 minutes by
# default; PATTERN selects variants, such as 'engine|tls'.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-5} seconds=${2:-2}
[[ -x bin/kvwire ]] || { echo "sockets: bin/kvwire is missing: make build" >&2 && exit 1; }
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
            row=$(timeout 120 bin/kvwire bench --backend null --conns "$conns" --depth "$depth" --value-bytes "$bytes" --mix "$op" --duration "${seconds}s" --warmup 300ms --json "${flags[@]}" 2>/dev/null) || {
                echo "sockets: kvwire bench ${flags[*]} ($load) failed and is left out" >&2
                row=
            }
            tr ',{}' '\n\n\n' <<<"$row" | awk -F: -v k="$conns x $depth $bytes $op|$v|$round" "$figures_awk"'
                /"ops_per_s"/ { r = $2 } /"(client|server)_(user|sys)_ns_per_op"/ { c += $2 } END { printf "%s|%s|%s\n", k, show("%.1f", r), show("%.1f", c) }' >>"$out"
        done
    done
    echo "sockets: round $round of $rounds" >&2
done
awk -F'|' "$figures_awk"'
{ if (!($1 in seen)) { seen[$1] = 1; loads[++m] = $1 } if (!($2 in have)) have[$2] = 1; r[$1, $2, $3] = $4; c[$1, $2, $3] = $5; failed += !number($4) || !number($5); rounds = $3 > rounds ? $3 : rounds }
END {
    for (i = 1; i <= m; i++) {
        a = b = 0
        for (k = 1; k <= rounds; k++) {
            if (number(r[loads[i], "default", k])) v[++a] = r[loads[i], "default", k]
            if (number(c[loads[i], "default", k])) w[++b] = c[loads[i], "default", k]
        }
        printf "%s: %s operations/s, %s us of CPU each\n", loads[i], show("%.0f", median(v, a)), show("%.2f", ratio(median(w, b), 1000))
        n = split(order, names, ";")
        for (j = 1; j <= n; j++) {
            a = b = 0
            for (k = 1; k <= rounds; k++) {
                x = ratio(r[loads[i], names[j], k], r[loads[i], "default", k]); if (number(x)) v[++a] = x
                x = ratio(c[loads[i], names[j], k], c[loads[i], "default", k]); if (number(x)) w[++b] = x
            }
            printf "  %-52s operations x %s  CPU x %s\n", names[j], show("%.2f", median(v, a)), show("%.2f", median(w, b))
        }
    }
    if (failed) printf "%d of %d runs failed, and are in no median\n", failed, NR
}' order="$(IFS=';' && echo "${variants[*]:1}")" "$out"
