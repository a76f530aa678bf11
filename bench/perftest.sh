#!/usr/bin/env bash
# Compares kvwire with bare verbs on the same device: round trips with those of perftest, both sides busy polling, and the message
# rate with that of ib_send_bw. perftest's latencies are half round trips, so they are doubled, except for READ.
# The bare program runs twice per round (A and A'), so that the table shows the noise. A failed run is shown as -, counted
# below the medians, and in none of them.
#
#   bench/perftest.sh [rounds] [seconds]     on a machine with an RDMA device, or in a guest: make vm CMD='bench/perftest.sh 10 2'
#
# Needs perftest (Debian: apt-get install perftest) and bin/kvwire. kvwire's message is a 32-byte header and a 32-byte key
# one way, a 32-byte header and a 32-byte value the other. The server of READs sleeps, as ib_read_lat's does.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-10} seconds=${2:-2} n=${KVWIRE_PERFTEST_N:-2000}
for p in ib_send_lat ib_write_lat ib_read_lat ib_send_bw; do
	command -v $p >/dev/null || { echo "perftest.sh: $p is missing (apt-get install perftest)" >&2; exit 1; }
done
[ -x bin/kvwire ] || { echo "perftest.sh: bin/kvwire is missing (make build)" >&2; exit 1; }
read -r addr device port gid <<<"$(rdma_address)"
[ "$addr" ] || { echo "perftest.sh: no RDMA device with an address (bin/kvwire doctor)" >&2; exit 1; }

tcp_port=18515
pair() { # program arguments…: prints the client's line of results
	local tool=$1 server
	shift
	tcp_port=$((tcp_port + 1)) # a new one each time: the last one may still be in use
	timeout 60 "$tool" -d "$device" -i "$port" -x "$gid" -p "$tcp_port" -F "$@" >/dev/null 2>&1 &
	server=$!
	for _ in $(seq 200); do # until it listens; it would count a connection as its client
		listens "$tcp_port" && break
		read -rt 0.05 <> <(:) || true
	done
	timeout 60 "$tool" -d "$device" -i "$port" -x "$gid" -p "$tcp_port" -F "$@" "$addr" 2>/dev/null | grep -E '^ *[0-9]+ +[0-9]+ ' | tail -n 1
	wait "$server" || true
}
lat() { figure "$1" typical "$@"; } # of half a round trip, µs
typical() { pair "$@" -n "$n" | awk '{print $5}'; }
rate() { figure ib_send_bw messages; } # messages/s
messages() { pair ib_send_bw -s 64 -q 8 -t 16 -n $((n * 10)) | awk '{print $5 * 1e6}'; }
ours() { figure "kvwire bench --rdma-verb $1" column "$@"; }
column() { # verb column flags…
	local verb=$1 column=$2
	shift 2
	timeout 120 bin/kvwire bench --transport rdma --rdma-verb "$verb" --wait spin --key-bytes 32 --warmup 300ms --duration "${seconds}s" --json "$@" 2>/dev/null |
		sed -n "s/.*\"$column\":\([0-9.e+]*\).*/\1/p" | head -n 1
}
one() { ours "$1" lat_p50_ns --conns 1 --depth 1 "${@:2}" | awk "$figures_awk"'{print ratio($1, 1000)}'; }

table=$(mktemp)
trap 'rm -f "$table"' EXIT
echo "device $device ($addr), accel ${KVWIRE_ACCEL:-none}; µs of round trips, thousand messages/s"
head="round send_lat send_lat' kvwire_send ratio write_lat kvwire_write ratio read_lat kvwire_read ratio send_bw kvwire ratio aa"
echo "$head" | awk '{for (i = 1; i <= NF; i++) printf "%13s", $i; print ""}'
for i in $(seq "$rounds"); do
	a=$(lat ib_send_lat -s 64)
	s=$(one send --backend null --value-bytes 32)
	b=$(lat ib_send_lat -s 64)
	wl=$(lat ib_write_lat -s 64)
	w=$(one write --backend null --value-bytes 32)
	rl=$(lat ib_read_lat -s 4096)
	r=$(one read --backend mem --value-bytes 4KiB --records 100 --warmup 1s --wait hybrid --spin-max 10ms)
	bw=$(rate)
	k=$(ours send ops_per_s --backend null --value-bytes 32 --conns 8 --depth 16)
	awk -v i="$i" -v a="$a" -v b="$b" -v s="$s" -v wl="$wl" -v w="$w" -v rl="$rl" -v r="$r" -v bw="$bw" -v k="$k" "$figures_awk"'
		function twice(x) { return ratio(x, 0.5) }
		BEGIN {
			print i, show("%.2f", twice(a)), show("%.2f", twice(b)), show("%.2f", s), show("%.3f", ratio(s, twice(mean(a, b)))),
				show("%.2f", twice(wl)), show("%.2f", w), show("%.3f", ratio(w, twice(wl))), show("%.2f", rl), show("%.2f", r), show("%.3f", ratio(r, rl)),
				show("%.1f", ratio(bw, 1000)), show("%.1f", ratio(k, 500)), show("%.3f", ratio(twice(k), bw)), show("%.3f", ratio(a, b))
		}' | tee -a "$table" | awk '{for (i = 1; i <= NF; i++) printf "%13s", $i; print ""}'
done
medians "$table" 15 %.3f | awk '{for (i = 1; i <= NF; i++) printf "%13s", $i; print ""}'
