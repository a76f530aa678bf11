#!/usr/bin/env bash
# peers.sh [--rdma] [ROUNDS [SECONDS]]: measures {redis-benchmark, kvwire's client} x {redis-server, kvwire}, to separate the costs of client and server. All
# in turn, one thread each, servers on one CPU and clients on the other, with equal connections x in flight. A second redis-server
# shows the noise. 7 minutes by default. Servers end with this script. A failed run is named, counted at
# the end, and in no median.
#
# With --rdma: {valkey-benchmark, kvwire's client} x {valkey-server, kvwire} x {tcp, rdma}, on the address of an RDMA device, without a second server: those
# programs of Valkey that are in PATH and have RDMA. valkey-cli --rdma writes and reads a value first. Those that are missing are named; --rdma --check does
# nothing else, and has the exit code 1 if all are missing.
# KVWIRE_VALKEY_RDMA is valkey-rdma.so if valkey-server has RDMA as a module that lies elsewhere than beside it. KVWIRE_PEERS_OPS="get" measures gets only.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
fail() { printf 'peers: %s\n' "$@" >&2 && exit 1; }
peer=redis fabrics=(tcp) servers=(redis again kvwire) clients=(redis-benchmark kvwire) cli=(redis-cli) at=127.0.0.1 records=100000 trial=20000
points=("50 16 64" "50 16 1024" "50 1 64" "1 1 64")
if [[ ${1:-} == --rdma ]]; then
    shift
    peer=valkey fabrics=(tcp rdma) servers=() clients=() cli=() records=1000 trial=2000 points=("1 1 64" "8 16 64")
fi
rounds=${1:-$([[ $peer == redis ]] && echo 3 || echo 5)} seconds=${2:-$([[ $peer == redis ]] && echo 2 || echo 1)}
read -ra ops <<<"${KVWIRE_PEERS_OPS:-set get}"
has_rdma() { command -v "$1" >/dev/null && [[ $("$1" --help 2>&1) == *--rdma* ]]; }
if [[ $peer == redis ]]; then
    for p in redis-cli redis-benchmark redis-check-rdb; do
        command -v $p >/dev/null || fail "$p is not installed (apt-get install redis-tools, whose redis-check-rdb is redis-server, too)"
    done
else
    missing=()
    if command -v valkey-server >/dev/null; then servers+=(valkey); else missing+=(valkey-server); fi
    if has_rdma valkey-benchmark; then clients+=(valkey-benchmark); else missing+=(valkey-benchmark); fi
    if has_rdma valkey-cli; then cli=(valkey-cli); else missing+=(valkey-cli); fi
    ((!${#missing[@]})) || printf 'peers: %s\n' "not in PATH, or without RDMA: ${missing[*]}" \
        "valkey-server has RDMA from version 8, as the module valkey-rdma.so or built in, and the others from version 9.0: from packages of your system" \
        "that have it, or built with BUILD_RDMA as Valkey's README describes (https://github.com/valkey-io/valkey)." >&2
    ((${#missing[@]} < 3)) || exit 1
    [[ ${1:-} != --check ]] || exit 0
    servers+=(kvwire) clients+=(kvwire)
fi
[[ -x bin/kvwire ]] || fail "bin/kvwire is missing: make build"
(($(nproc) > 1)) || fail "servers and clients need a CPU each, and this machine has one"
if [[ $peer == valkey ]]; then
    read -r at _ <<<"$(rdma_address)" || fail "no RDMA device with an address (bin/kvwire doctor)"
fi

dir=$(mktemp -d) pids=()
clean_up() {
    local p
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
    wait
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

free_port() { # prints a port on which no server listens
    local p
    for p in $(shuf -i 20000-32000 -n 50); do
        listens "$p" || { echo "$p" && return; }
    done
    fail "no free port"
}
over() { [[ $1 == tcp ]] || echo --rdma; } # FABRIC: prints the flag of Valkey's programs
ask() { # SERVER FABRIC COMMAND…: prints a command's answer
    ((${#cli[@]})) || return 0
    # shellcheck disable=SC2046 # no flag, or one
    timeout 60 "${cli[@]}" $(over "$2") -h "$at" -p "${port[$1 $2]}" "${@:3}" 2>/dev/null | tr -d '\r'
}
start() { # SERVER FABRIC PROGRAM…: starts a server, and waits until it answers
    local log=$dir/$1.$2 i
    timeout 3600 taskset -c 0 "${@:3}" >"$log" 2>&1 &
    pids+=($!)
    for ((i = 0; i < 300; i++)); do
        if ((${#cli[@]})); then
            [[ $(ask "$1" "$2" ping) != PONG ]] || return 0
        else
            ! listens "${port[$1 $2]}" || return 0
        fi
        sleep 0.1
    done
    fail "no server $1 on port ${port[$1 $2]}: $(tail -n 1 "$log")"
}
rdma_of_valkey() { # PORT: prints the flags
    local module=${KVWIRE_VALKEY_RDMA:-$(dirname "$(realpath "$(command -v valkey-server)")")/valkey-rdma.so}
    if [[ -e $module ]]; then echo "--loadmodule $module bind=$at port=$1"; else echo "--rdma-bind $at --rdma-port $1"; fi
}
declare -A port # by server and fabric
for name in "${servers[@]}"; do
    for fabric in "${fabrics[@]}"; do
        p=$(free_port)
        port[$name $fabric]=$p
        case $name:$fabric in
        kvwire:tcp) start $name $fabric bin/kvwire serve --insecure --transport tcp --backend mem --listen "$at:$p" --server-cpus 0 ;;
        kvwire:rdma) start $name $fabric bin/kvwire serve --insecure --transport rdma --rdma-connect cm --backend mem --listen "$at:$p" --server-cpus 0 ;;
        valkey:tcp) # the same process for both, by the same number
            read -ra flags <<<"$(rdma_of_valkey "$p")"
            start $name $fabric valkey-server --port "$p" --bind "$at" --protected-mode no --save '' --appendonly no "${flags[@]}"
            ;;
        valkey:rdma) port[$name $fabric]=${port[valkey tcp]} ;;
        *:tcp)
            ln -sf "$(command -v redis-check-rdb)" "$dir/redis-server"
            start $name $fabric "$dir/redis-server" --port "$p" --bind "$at" --save '' --appendonly no
            ;;
        esac
    done
done

cpu() { ask "$@" info cpu | awk -F: '/^used_cpu_(user|sys):/ { s += $2; n++ } END { if (n == 2) printf "%.6f", s }'; } # SERVER FABRIC
by_peer() { # SERVER FABRIC CONNS DEPTH BYTES OP REQUESTS: operations a second
    # shellcheck disable=SC2046 # no flag, or one
    timeout 300 taskset -c 1 $peer-benchmark $(over "$2") -h "$at" -p "${port[$1 $2]}" -c "$3" -P "$4" -d "$5" -n "$7" -r $records -t "$6" --csv 2>/dev/null |
        tail -n 1 | cut -d, -f2 | tr -d '"'
}
kvwire() { # COMMAND SERVER FABRIC FLAGS…
    local scheme=redis
    [[ $3 == tcp ]] || scheme=valkey-rdma
    timeout 300 taskset -c 1 bin/kvwire "$1" --target "$scheme://$at:${port[$2 $3]}" --transport "$3" --records $records "${@:4}" 2>"$dir/client.log"
}
# measure CLIENT SERVER FABRIC CONNS DEPTH BYTES OP: operations a second, and CPU time of the server for each in us
measure() {
    local before rate n row
    if [[ $1 != kvwire ]]; then
        n=${amount["$3 $4 $5 $6"]}
        before=$(cpu "$2" "$3")
        rate=$(figure "$1 with $2 over $3, $4 x $5, $6 B, $7," by_peer "${@:2}" "$n")
        awk -v r="$rate" -v n="$n" -v a="$before" -v b="$(cpu "$2" "$3")" "$figures_awk"'BEGIN {
            print show("%.0f", r), number(r) && number(a) && number(b) ? show("%.3f", (b - a) * 1e6 / n) : "-" }'
        return
    fi
    row=
    if ! row=$(kvwire bench "$2" "$3" --client-cpus 1 --conns "$4" --depth "$5" --value-bytes "$6" \
        --mix "${7/set/put}" --key-dist uniform --duration "${seconds}s" --warmup 200ms --json); then
        echo "peers: kvwire bench with $2 over $3, $4 x $5, $6 B, $7, failed and is left out: $(tail -n 1 "$dir/client.log")" >&2
        row=
    fi
    tr ',{}' '\n\n\n' <<<"$row" | awk -F: "$figures_awk"'/"ops_per_s"/ { r = $2 } /"server_(user|sys)_ns_per_op"/ { c += $2 } END { print show("%.0f", r), show("%.3f", ratio(c, 1000)) }'
}

version() { ask "$peer" tcp info server | sed -n "s/^$1_version://p"; }
count=$((${#points[@]} * ${#ops[@]} * ${#clients[@]} * ${#servers[@]} * ${#fabrics[@]}))
echo "peers: kvwire beside $peer-server $([[ ${servers[0]} != "$peer" ]] || version $peer): $rounds rounds of $count runs, about $(awk "BEGIN { print int($rounds * $count * ($seconds + 1) / 60 + 1) }") min" >&2
if [[ $peer == valkey ]] && ((${#cli[@]})); then
    for name in "${servers[@]}"; do
        for fabric in "${fabrics[@]}"; do
            got="$(ask "$name" "$fabric" set greeting hello) $(ask "$name" "$fabric" get greeting)"
            echo "valkey-cli with $name over $fabric: $([[ $got == "OK hello" ]] && echo ok || echo "failed: $got")"
        done
    done
fi
declare -A amount # of the benchmark's requests: about as many as take $seconds
if [[ ${clients[0]} != kvwire ]]; then
    for fabric in "${fabrics[@]}"; do
        for point in "${points[@]}"; do
            read -r conns depth bytes <<<"$point"
            rate=$(figure "$peer-benchmark" by_peer "${servers[0]}" "$fabric" "$conns" "$depth" "$bytes" set $trial)
            [[ $rate != - ]] || fail "$peer-benchmark gives no figure at $conns x $depth over $fabric: how much to ask for is not known"
            amount["$fabric $point"]=$(awk -v r="$rate" -v s="$seconds" 'BEGIN { printf "%d", r * s }')
        done
    done
fi
fill() { # SERVER FABRIC BYTES: of both clients' keys all are there, in this size
    [[ ${clients[0]} == kvwire ]] || by_peer "$1" "$2" 8 16 "$3" set $((5 * records)) >/dev/null || fail "$peer-benchmark cannot fill the server $1 over $2"
    kvwire load "$1" "$2" --value-bytes "$3" >/dev/null || fail "kvwire load with the server $1 over $2: $(tail -n 1 "$dir/client.log")"
}
out=$dir/out filled=
for ((round = 1; round <= rounds; round++)); do
    for point in "${points[@]}"; do
        read -r conns depth bytes <<<"$point"
        for name in "${servers[@]}"; do
            [[ $filled != "$bytes" ]] || break
            for fabric in "${fabrics[@]}"; do fill "$name" "$fabric" "$bytes"; done
        done
        filled=$bytes
        for op in "${ops[@]}"; do
            for client in "${clients[@]}"; do
                for place in $(shuf -e "${servers[@]/%/:tcp}" $([[ $peer == redis ]] || printf '%s\n' "${servers[@]/%/:rdma}")); do
                    figures=$(measure "$client" "${place%:*}" "${place#*:}" "$conns" "$depth" "$bytes" "$op")
                    echo "$client|${place#*:}|$conns x $depth|$bytes B|$op $round ${place%:*} $figures" >>"$out"
                done
            done
        done
    done
    echo "peers: round $round of $rounds" >&2
done
# Medians of the rounds; ratios are of the same round, and their medians.
sed 's/ x /_x_/; s/ B|/_B|/' "$out" | awk -v peer=$peer -v cli=${#cli[@]} "$figures_awk"'
function med(kind, key, name,   i, v, n) { n = 0; for (i = 1; i <= rounds; i++) if (number(x[kind, key, name, i])) v[++n] = x[kind, key, name, i]; return median(v, n) }
function beside(kind, key, name, inverse,   i, v, n, r) {
    n = 0
    for (i = 1; i <= rounds; i++) { r = ratio(x[kind, key, name, i], x[kind, key, peer, i]); if (number(r)) v[++n] = inverse ? 1 / r : r }
    return median(v, n)
}
{ if (!($1 in seen)) { seen[$1] = 1; keys[++m] = $1 }; x["r", $1, $3, $2] = $4; x["c", $1, $3, $2] = $5; failed += !number($4) || cli && !number($5); rounds = $2 > rounds ? $2 : rounds }
END {
    printf "%-16s %-6s %-8s %-7s %-4s %10s %10s %7s %6s   %9s %9s %7s %6s\n", "client", "fabric", "c x P", "value", "op", peer "/s", "kvwire/s", "ratio", "A/A", peer " us", "kvwire us", "ops/CPU", "A/A"
    for (i = 1; i <= m; i++) {
        k = keys[i]; split(k, p, "|"); gsub("_", " ", p[3]); gsub("_", " ", p[4])
        printf "%-16s %-6s %-8s %-7s %-4s %10s %10s %7s %6s   %9s %9s %7s %6s\n", p[1], p[2], p[3], p[4], p[5],
            show("%.0f", med("r", k, peer)), show("%.0f", med("r", k, "kvwire")), show("%.2f", beside("r", k, "kvwire", 0)), show("%.2f", beside("r", k, "again", 0)),
            show("%.2f", med("c", k, peer)), show("%.2f", med("c", k, "kvwire")), show("%.2f", beside("c", k, "kvwire", 1)), show("%.2f", beside("c", k, "again", 1))
    }
    if (failed) printf "%d of %d runs failed, and are in no median\n", failed, NR
}'
