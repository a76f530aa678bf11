#!/usr/bin/env bash
# Compares the model of an RDMA device with a device on the same CPUs: it measures what a message costs on the device, sets the model's link to these
# costs, and runs kvwire on both, in alternation. A cell is predicted (by the model) / measured (on the device). The device is measured twice per
# round (A and A'), so that the table shows the noise. A failed run is shown as -, and in none of the medians.
#
#   bench/model.sh [rounds] [seconds]     on a machine with an RDMA device, or in a guest: make vm CMD='bench/model.sh 3 1'
#
# Needs bin/kvwire, and bin/test/verbs.test: go test -c -tags giouring,rdma -ldflags=-checklinkname=0 -o bin/test/ ./cgo/verbs
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-3} seconds=${2:-1}
for p in bin/kvwire bin/test/verbs.test; do
	[ -x $p ] || { echo "model.sh: $p is missing (see the head of this script)" >&2; exit 1; }
done

units=$(cd cgo/verbs && KVWIRE_REQUIRE=rdma timeout 120 ../../bin/test/verbs.test -test.run '^$' -test.bench '^BenchmarkDeviceAsLink$' -test.benchtime 1x)
grep '^#' <<<"$units"
link=$(sed -n 's/^--rdma-model //p' <<<"$units" | tail -n 1)
[ "$link" ] || { echo "model.sh: the device's costs could not be measured" >&2; exit 1; }
echo "accel ${KVWIRE_ACCEL:-none}; --rdma-model $link"

run() { # device column flags…
	local device=(--rdma-device "$1") column=$2
	[ "$1" = auto ] || device+=(--rdma-model "$link")
	shift 2
	local code=0
	timeout 30 bin/kvwire bench --transport rdma "${device[@]}" --key-bytes 32 --warmup 300ms --duration "${seconds}s" --json "$@" >"$work/out" 2>"$work/words" || code=$?
	((code == 0)) || { echo "model.sh: exit code $code: $(tail -n 1 "$work/words")" >&2 && return 1; }
	sed -n "s/.*\"$column\":\([0-9.e+]*\).*/\1/p" "$work/out" | head -n 1
}

cells=(
	"p50,_µs,_send,_64_B;lat_p50_ns;1000;--rdma-verb send --wait spin --backend null --value-bytes 64 --conns 1 --depth 1"
	"p50,_µs,_send,_4_KiB;lat_p50_ns;1000;--rdma-verb send --wait spin --backend null --value-bytes 4KiB --conns 1 --depth 1"
	"p50,_µs,_write,_64_B;lat_p50_ns;1000;--rdma-verb write --wait spin --backend null --value-bytes 64 --conns 1 --depth 1"
	"p50,_µs,_read,_64_B;lat_p50_ns;1000;--rdma-verb read --wait spin --backend mem --mix get --value-bytes 64 --records 100 --conns 1 --depth 1"
	"p50,_µs,_send,_64_B,_block;lat_p50_ns;1000;--rdma-verb send --wait block --backend null --value-bytes 64 --conns 1 --depth 1"
	"1000/s,_send,_64_B,_4x16;ops_per_s;1000;--rdma-verb send --wait spin --backend null --value-bytes 64 --conns 4 --depth 16"
	"1000/s,_send,_4_KiB,_4x16;ops_per_s;1000;--rdma-verb send --wait spin --backend null --value-bytes 4KiB --conns 4 --depth 16"
	"1000/s,_write,_64_B,_4x16;ops_per_s;1000;--rdma-verb write --wait spin --backend null --value-bytes 64 --conns 4 --depth 16"
)
work=$(mktemp -d) table=$work/table
trap 'rm -rf "$work"' EXIT
for _ in $(seq "$rounds"); do
	for cell in "${cells[@]}"; do
		IFS=';' read -r name column unit flags <<<"$cell"
		read -ra flags <<<"$flags"
		a=$(figure "$name on the device" run auto "$column" "${flags[@]}")
		p=$(figure "$name on the model" run model "$column" "${flags[@]}")
		b=$(figure "$name on the device" run auto "$column" "${flags[@]}")
		awk -v name="$name" -v u="$unit" -v a="$a" -v b="$b" -v p="$p" "$figures_awk"'
			BEGIN { print name, show("%.1f", ratio(mean(a, b), u)), show("%.1f", ratio(p, u)), show("%.3f", ratio(p, mean(a, b))), show("%.3f", ratio(a, b)) }' >>"$table"
	done
done
printf '%-28s %10s %10s %21s %8s %14s\n' 'median of the rounds' measured predicted 'predicted / measured' "A / A'" 'rounds left out'
for cell in "${cells[@]}"; do
	name=${cell%%;*}
	awk -v name="$name" '$1 == name' "$table" >"$work/row"
	read -r m p r aa < <(medians "$work/row" 5 %.3g | head -n 1 | cut -d ' ' -f 2-)
	printf '%-28s %10s %10s %21s %8s %14s\n' "${name//_/ }" "$m" "$p" "$r" "$aa" "$(awk '$4 == "-"' "$work/row" | wc -l)"
done
