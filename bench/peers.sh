#!/usr/bin/env bash
# peers.sh [ROUNDS [SECONDS]]: measures {redis-benchmark, kvwire's client} x {redis-server, kvwire}, to separate the costs of client and server. All
# in turn, one thread each, servers on one CPU and clients on the other, with equal connections x in flight. A second redis-server
# shows the noise. 7 minutes by default. Servers listen on loopback, and end with this script. A failed run is named, counted at
# the end, and in no median.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-3} seconds=${2:-2} records=100000
fail() { printf 'peers: %s\n' "$@" >&2 && exit 1; }
for p in redis-cli redis-benchmark redis-check-rdb; do
    command -v $p >/dev/null || fail "$p is not installed (apt-get install redis-tools, whose redis-check-rdb is redis-server, too)"
done
[[ -x bin/kvwire ]] || fail "bin/kvwire is missing: make build"
(($(nproc) > 1)) || fail "servers and clients need a CPU each, and this machine has one"

dir=$(mktemp -d) pids=()
clean_up() {
    local p
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
ln -s "$(command -v redis-check-rdb)" "$dir/redis-server"

free_port() { # prints a port on which no server listens
    local p
    for p in $(shuf -i 20000-32000 -n 50); do
        (: <"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p" && return; }
    done
    fail "no free port"
}
answers() { # PORT: waits until a server does
    local i
    for ((i = 0; i < 100; i++)); do
        [[ $(redis-cli -p "$1" ping 2>/dev/null) != PONG ]] || return 0
        sleep 0.1
    done
    fail "no server on port $1"
}
declare -A port
for name in redis again kvwire; do
    port[$name]=$(free_port)
    if [[ $name == kvwire ]]; then
        timeout 3600 taskset -c 0 bin/kvwire serve --transport tcp --backend mem --listen "127.0.0.1:${port[kvwire]}" --server-cpus 0 2>"$dir/log" &
    else
        timeout 3600 taskset -c 0 "$dir/redis-server" --port "${port[$name]}" --bind 127.0.0.1 --save '' --appendonly no >"$dir/$name.log" &
    fi
    pids+=($!)
    answers "${port[$name]}"
done

cpu() { redis-cli -p "$1" info cpu | tr -d '\r' | awk -F: '/^used_cpu_(user|sys):/ { s += $2; n++ } END { if (n == 2) printf "%.6f", s }'; }
by_redis() { # PORT CONNS DEPTH BYTES OP REQUESTS: operations a second
    timeout 300 taskset -c 1 redis-benchmark -p "$1" -c "$2" -P "$3" -d "$4" -n "$6" -r $records -t "$5" --csv 2>/dev/null | tail -n 1 | cut -d, -f2 | tr -d '"'
}
# measure CLIENT SERVER CONNS DEPTH BYTES OP: operations a second, and CPU time of the server for each in us
measure() {
    local p=${port[$2]} before rate n row
    if [[ $1 == redis-benchmark ]]; then
        n=${amount["$3 $4 $5"]}
        before=$(cpu "$p")
        rate=$(figure "redis-benchmark with $2, $3 x $4, $5 B, $6," by_redis "$p" "${@:3}" "$n")
        awk -v r="$rate" -v n="$n" -v a="$before" -v b="$(cpu "$p")" "$figures_awk"'BEGIN {
            print show("%.0f", r), number(r) && number(a) && number(b) ? show("%.3f", (b - a) * 1e6 / n) : "-" }'
        return
    fi
    row=
    if ! row=$(timeout 300 taskset -c 1 bin/kvwire bench --target "redis://127.0.0.1:$p" --transport tcp --client-cpus 1 --conns "$3" --depth "$4" --value-bytes "$5" \
        --records $records --mix "${6/set/put}" --key-dist uniform --duration "${seconds}s" --warmup 200ms --json 2>"$dir/client.log"); then
        echo "peers: kvwire bench with $2, $3 x $4, $5 B, $6, failed and is left out: $(tail -n 1 "$dir/client.log")" >&2
        row=
    fi
    tr ',{}' '\n\n\n' <<<"$row" | awk -F: "$figures_awk"'/"ops_per_s"/ { r = $2 } /"server_(user|sys)_ns_per_op"/ { c += $2 } END { print show("%.0f", r), show("%.3f", ratio(c, 1000)) }'
}

points=("50 16 64" "50 16 1024" "50 1 64" "1 1 64")
declare -A amount # of redis-benchmark's requests: about as many as take $seconds
echo "peers: kvwire beside redis-server $(redis-cli -p "${port[redis]}" info server | tr -d '\r' | sed -n 's/^redis_version://p'): $rounds rounds of ${#points[@]} loads x 2 operations x 2 clients x 3 servers, about $((rounds * ${#points[@]} * 12 * (seconds + 1) / 60 + 1)) min" >&2
for point in "${points[@]}"; do
    read -r conns depth bytes <<<"$point"
    rate=$(figure "redis-benchmark" by_redis "${port[redis]}" "$conns" "$depth" "$bytes" set 20000)
    [[ $rate != - ]] || fail "redis-benchmark gives no figure at $conns x $depth: how much to ask for is not known"
    amount[$point]=$(awk -v r="$rate" -v s="$seconds" 'BEGIN { printf "%d", r * s }')
done
out=$dir/out
for ((round = 1; round <= rounds; round++)); do
    for point in "${points[@]}"; do
        read -r conns depth bytes <<<"$point"
        for name in redis again kvwire; do # of both clients' keys all are there, in this size
            by_redis "${port[$name]}" 50 16 "$bytes" set 500000 >/dev/null || fail "redis-benchmark cannot fill the server $name"
            bin/kvwire load --target "redis://127.0.0.1:${port[$name]}" --transport tcp --records $records --value-bytes "$bytes" >/dev/null 2>"$dir/client.log" ||
                fail "kvwire load with the server $name: $(tail -n 1 "$dir/client.log")"
        done
        for op in set get; do
            for client in redis-benchmark kvwire; do
                for name in $(shuf -e redis again kvwire); do
                    figures=$(measure "$client" "$name" "$conns" "$depth" "$bytes" "$op")
                    echo "$client|$conns x $depth|$bytes B|$op $round $name $figures" >>"$out"
                done
            done
        done
    done
    echo "peers: round $round of $rounds" >&2
done
# Medians of the rounds; ratios are of the same round, and their medians.
sed 's/ x /_x_/; s/ B|/_B|/' "$out" | awk "$figures_awk"'
function med(kind, key, name,   i, v, n) { n = 0; for (i = 1; i <= rounds; i++) if (number(x[kind, key, name, i])) v[++n] = x[kind, key, name, i]; return median(v, n) }
function beside(kind, key, name, inverse,   i, v, n, r) {
    n = 0
    for (i = 1; i <= rounds; i++) { r = ratio(x[kind, key, name, i], x[kind, key, "redis", i]); if (number(r)) v[++n] = inverse ? 1 / r : r }
    return median(v, n)
}
{ if (!($1 in seen)) { seen[$1] = 1; keys[++m] = $1 }; x["r", $1, $3, $2] = $4; x["c", $1, $3, $2] = $5; failed += !number($4) || !number($5); rounds = $2 > rounds ? $2 : rounds }
END {
    printf "%-16s %-8s %-7s %-4s %10s %10s %7s %6s   %9s %9s %7s %6s\n", "client", "c x P", "value", "op", "redis/s", "kvwire/s", "ratio", "A/A", "redis us", "kvwire us", "ops/CPU", "A/A"
    for (i = 1; i <= m; i++) {
        k = keys[i]; split(k, p, "|"); gsub("_", " ", p[2]); gsub("_", " ", p[3])
        printf "%-16s %-8s %-7s %-4s %10s %10s %7s %6s   %9s %9s %7s %6s\n", p[1], p[2], p[3], p[4],
            show("%.0f", med("r", k, "redis")), show("%.0f", med("r", k, "kvwire")), show("%.2f", beside("r", k, "kvwire", 0)), show("%.2f", beside("r", k, "again", 0)),
            show("%.2f", med("c", k, "redis")), show("%.2f", med("c", k, "kvwire")), show("%.2f", beside("c", k, "kvwire", 1)), show("%.2f", beside("c", k, "again", 1))
    }
    if (failed) printf "%d of %d runs failed, and are in no median\n", failed, NR
}'
