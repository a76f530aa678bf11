#!/usr/bin/env bash
# Compares the store with fio on the same disk, in turn: which share of the device's rate reaches the store's clients.
#
#   bench/store.sh [rounds] [seconds] [records]     default 5 rounds of 5 s each, 4M items of 1 KiB
#
# Needs fio (Debian: apt-get install fio) and bin/kvwire, and free space of twice the data's size in KVWIRE_DIR (default:
# /var/tmp). fio runs twice per round (A and A'), so that the table shows the noise. Everything is removed at the end;
# KVWIRE_KEEP=1 keeps the store and fio's file for the next time. One store loop, generator and store on one thread (inproc). A failed
# run is shown as -, counted beside the medians, and in none of them.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-5} seconds=${2:-5} records=${3:-4M}
table=$(mktemp)
trap 'rm -f "$table" "$table.flush"; [ "${KVWIRE_KEEP:-}" ] || rm -rf "${where:-}"' EXIT
store_beside_fio store
kvwire() { timeout 600 bin/kvwire "$@"; }
fio_() { figure "fio --rw=$1" iops "$@"; }
iops() { # rw depth extra…: IOPS of reads, of the store's own slab, or of writes
	local file=$where/fio bytes=$((size / 4096 * 4096)) only=
	if [ "$1" = randread ]; then # fio would write to a file smaller than --size, in spite of the mode
		file=$(ls -S "$where"/store/shard-000/slab-* | head -n 1) only=--readonly
		bytes=$(stat -c %s "$file")
	fi
	fio --name=x --filename="$file" --size="$bytes" $only --ioengine=io_uring --direct=1 --bs=4k --rw="$1" --iodepth="$2" --registerfiles=1 --fixedbufs=1 \
		--time_based --runtime="$seconds" --ramp_time=1 --randrepeat=0 --norandommap --output-format=json "${@:3}" |
		sed -n 's/^ *"iops" : \([0-9.]*\),*/\1/p' | awk '{s += $1} END {if (NR) print s}'
}
if ! [ -e "$where/fio" ]; then
	echo "laying out fio's file" >&2
	fio --name=x --filename="$where/fio" --size=$((size / 4096 * 4096)) --ioengine=io_uring --direct=1 --bs=1m --rw=write --iodepth=16 >/dev/null
fi
seed=1
ours() { # column flags…
	# Another seed each time: puts lie on disk in the order in which they came, and the same keys in the same order would find them together.
	seed=$((seed + 1))
	figure "kvwire bench ${*:2}" column "$@"
}
column() {
	kvwire bench --seed $((RANDOM + seed)) --transport inproc --backend disk "${items[@]}" --conns 1 --duration "${seconds}s" --warmup 1s --json "${@:2}" 2>/dev/null |
		sed -n "s/.*\"$1\":\([0-9.e+]*\).*/\1/p" | head -n 1
}
cache1=$((size / 100))     # 1 %
show() { # name fio ours fio'
	awk -v n="$1" -v a="$2" -v k="$3" -v b="$4" "$figures_awk"'BEGIN {
		print n, show("%.0f", a), show("%.0f", b), show("%.0f", k), show("%.3f", ratio(k, mean(a, b))), show("%.3f", ratio(a, b)) }' | tee -a "$table" |
		awk '{printf "%-24s%12s%12s%12s%10s%10s\n", $1, $2, $3, $4, $5, $6}'
}
printf '%-24s%12s%12s%12s%10s%10s\n' what fio "fio'" kvwire ratio "A/A'"
for _ in $(seq "$rounds"); do
	for depth in 1 16 64; do
		a=$(fio_ randread $depth)
		k=$(ours ops_per_s --mix get --cache-bytes $cache1 --depth $depth --disk-wait $((depth < 4 ? 1 : depth / 4)))
		show "get-depth-$depth" "$a" "$k" "$(fio_ randread $depth)"
	done
	for update in cow inplace; do
		a=$(fio_ randwrite 64)
		k=$(ours ops_per_s --mix put --cache-bytes $((size / 3)) --depth 64 --update $update)
		show "put-$update-depth-64" "$a" "$k" "$(fio_ randwrite 64)"
	done
	a=$(fio_ randwrite 64 --sync=dsync)
	k=$(ours ops_per_s --mix put --cache-bytes $((size / 3)) --depth 64 --durability flush)
	show put-flush-depth-64 "$a" "$k" "$(fio_ randwrite 64 --sync=dsync)"
done
echo
for what in get-depth-1 get-depth-16 get-depth-64 put-cow-depth-64 put-inplace-depth-64 put-flush-depth-64; do
	awk -v w=$what '$1 == w' "$table" | awk -v w=$what "$figures_awk"'
		number($5) { v[++n] = $5 } number($6) { u[++m] = $6 } !number($5) || !number($6) { failed++ }
		END { printf "%-24s median ratio %s, A/A %s", w, show("%.3f", median(v, n)), show("%.3f", median(u, m)); print failed ? ", " failed " of " NR " rounds failed" : "" }'
done
shown() { awk "$figures_awk"'{print show("%.3f", $1)}'; }
# Flush beside device, round by round; fio's own beside it.
awk "$figures_awk"'$1 == "put-cow-depth-64" {k[++n] = $4; f[n] = mean($2, $3)} $1 == "put-flush-depth-64" {m++; print ratio($4, k[m]), ratio(mean($2, $3), f[m])}' "$table" >"$table.flush"
printf '%-24s median ratio %s, of fio %s\n' flush/device "$(cut -d ' ' -f 1 "$table.flush" | median | shown)" "$(cut -d ' ' -f 2 "$table.flush" | median | shown)"
