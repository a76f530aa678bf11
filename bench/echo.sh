#!/usr/bin/env bash
# What kvwire adds to a bare TCP echo: 64 bytes each way, one request at a time, both sides blocking or both spinning,
# server and client on a CPU each. sockperf runs twice per round (A and A'), so that the noise is in the
# same table. Prints the median round trip of each and the ratios, round by round and in all.
#
#   bench/echo.sh [rounds] [seconds] [block|spin]      needs sockperf (Debian: apt-get install sockperf) and bin/kvwire
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-10} seconds=${2:-2} wait=${3:-block} port=${KVWIRE_ECHO_PORT:-17171}
polls=() # sockperf's way to spin
case $wait in
block) ;;
spin) polls=(--nonblocked) ;;
*) echo "echo.sh: $wait is no way to wait (block or spin)" >&2 && exit 2 ;;
esac
command -v sockperf >/dev/null || { echo "echo.sh: sockperf is missing (apt-get install sockperf)" >&2; exit 1; }
[ -x bin/kvwire ] || { echo "echo.sh: bin/kvwire is missing (make build)" >&2; exit 1; }
cpus=$(nproc); server=$((cpus > 1 ? cpus / 2 : 0))

timeout $((rounds * seconds * 8 + 60)) taskset -c "$server" sockperf server --tcp -i 127.0.0.1 -p "$port" "${polls[@]}" >/dev/null 2>&1 &
echo_pid=$!
trap 'kill "$echo_pid" 2>/dev/null || true' EXIT
for _ in $(seq 100); do # until it listens
	(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
	read -rt 0.05 <> <(:) || true
done

bare() { # median round trip in µs
	taskset -c 0 sockperf ping-pong --tcp -i 127.0.0.1 -p "$port" -m 64 --full-rtt "${polls[@]}" -t "$seconds" 2>/dev/null |
		sed 's/\x1b\[[0-9;]*m//g' | sed -n 's/.*percentile 50.000 = *\([0-9.]*\).*/\1/p'
}
ours() { # transport; 32-byte header + 32-byte key, 32-byte header + 32-byte value
	bin/kvwire bench --transport "$1" --backend null --conns 1 --depth 1 --key-bytes 32 --value-bytes 32 --wait "$wait" \
		--server-cpus "$server" --client-cpus 0 --warmup 200ms --duration "${seconds}s" --json |
		sed -n 's/.*"lat_p50_ns":\([0-9]*\).*/\1/p' | awk '{print $1 / 1000}'
}

echo "round  echo_us  echo2_us  tcp_us  uring_us  aa_ratio  tcp_ratio  uring_ratio"
table=$(mktemp)
trap 'kill "$echo_pid" 2>/dev/null || true; rm -f "$table"' EXIT
for i in $(seq "$rounds"); do
	a=$(bare) t=$(ours tcp) b=$(bare) u=$(ours uring)
	awk -v i="$i" -v a="$a" -v b="$b" -v t="$t" -v u="$u" \
		'BEGIN {m = (a + b) / 2; printf "%5d  %7.2f  %8.2f  %6.2f  %8.2f  %8.3f  %9.3f  %11.3f\n", i, a, b, t, u, a / b, t / m, u / m}' | tee -a "$table"
done
printf 'median'
for column in 2 3 4 5 6 7 8; do awk -v c=$column '{print $c}' "$table" | median | awk '{printf "  %.3f", $1}'; done
echo
