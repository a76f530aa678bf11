#!/usr/bin/env bash
# Compares kvwire with a bare TCP echo: 64 bytes each way, one request at a time, both sides blocking or both spinning,
# server and client on a CPU each. Each round runs sockperf twice (A and A', so that the table shows the noise) and kvwire over tcp and uring, in a new random order. Prints the median round
# trips and the ratios, of each round and of all, with 95 % intervals. A failed run is shown as -, counted below the medians, and in none of them.
#
#   bench/echo.sh [rounds] [seconds] [block|spin]      needs sockperf (Debian: apt-get install sockperf) and bin/kvwire
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-20} seconds=${2:-1} wait=${3:-block} port=${KVWIRE_ECHO_PORT:-17171}
polls=() # sockperf's flag for spinning
case $wait in
block) ;;
spin) polls=(--nonblocked) ;;
*) echo "echo.sh: the wait policy $wait is unknown (block or spin)" >&2 && exit 2 ;;
esac
command -v sockperf >/dev/null || { echo "echo.sh: sockperf is missing (apt-get install sockperf)" >&2; exit 1; }
[ -x bin/kvwire ] || { echo "echo.sh: bin/kvwire is missing (make build)" >&2; exit 1; }
cpus=$(nproc); server=$((cpus > 1 ? cpus / 2 : 0))

timeout $((rounds * seconds * 8 + 60)) taskset -c "$server" sockperf server --tcp -i 127.0.0.1 -p "$port" "${polls[@]}" >/dev/null 2>&1 &
echo_pid=$!
stop() { pkill -CONT -P "$echo_pid" || true; kill "$echo_pid" 2>/dev/null || true; }
trap stop EXIT
for _ in $(seq 100); do # until it listens
	(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
	read -rt 0.05 <> <(:) || true
done

# sockperf's server is stopped while kvwire runs: with --nonblocked it may spin on the CPU of kvwire's server.
pkill -STOP -P "$echo_pid" || true
bare() { # the median, in µs
	pkill -CONT -P "$echo_pid" || true
	figure sockperf round_trip
	pkill -STOP -P "$echo_pid" || true
}
round_trip() {
	taskset -c 0 sockperf ping-pong --tcp -i 127.0.0.1 -p "$port" -m 64 --full-rtt "${polls[@]}" -t "$seconds" 2>/dev/null |
		sed 's/\x1b\[[0-9;]*m//g' | sed -n 's/.*percentile 50.000 = *\([0-9.]*\).*/\1/p'
}
ours() { figure "kvwire bench --transport $1" our_round_trip "$1"; }
our_round_trip() { # transport; 32-byte header + 32-byte key, 32-byte header + 32-byte value
	timeout $((seconds * 4 + 60)) bin/kvwire bench --transport "$1" --backend null --conns 1 --depth 1 --key-bytes 32 --value-bytes 32 --wait "$wait" \
		--server-cpus "$server" --client-cpus 0 --warmup 200ms --duration "${seconds}s" --json 2>/dev/null |
		sed -n 's/.*"lat_p50_ns":\([0-9]*\).*/\1/p' | awk '{print $1 / 1000}'
}

echo "round  echo_us  echo2_us  tcp_us  uring_us  aa_ratio  tcp_ratio  uring_ratio"
table=$(mktemp)
trap 'stop; rm -f "$table"' EXIT
for i in $(seq "$rounds"); do
	for what in $(shuf -e a b t u); do
		case $what in
		a) a=$(bare) ;;
		b) b=$(bare) ;;
		t) t=$(ours tcp) ;;
		u) u=$(ours uring) ;;
		esac
	done
	awk -v i="$i" -v a="$a" -v b="$b" -v t="$t" -v u="$u" "$figures_awk"'BEGIN {
		m = mean(a, b)
		printf "%5d  %7s  %8s  %6s  %8s  %8s  %9s  %11s\n", i, show("%.2f", a), show("%.2f", b), show("%.2f", t), show("%.2f", u),
			show("%.3f", ratio(a, b)), show("%.3f", ratio(t, m)), show("%.3f", ratio(u, m)) }' | tee -a "$table"
done
medians "$table" 8 %.3f | awk '{gsub(" ", "  "); print}'
