#!/usr/bin/env bash
# The claim of protostore's study, "comes close to fio": fio's jobs with 16 to 4096 in flight (reads, writes, both) beside the store, in turn, in one run.
#
#   bench/fio.sh [rounds] [seconds] [records] [closeness] [depths]     default 6 rounds of 5 s each, 1M items of 1 KiB, 0.9 of fio, "16 64 256 1024 4096"
#
# Needs fio (Debian: apt-get install fio) and bin/kvwire, and twice the data's size of free space where KVWIRE_DIR says (default: /var/tmp). fio runs before and after
# the store (A and A'), so that the noise is in the same table. Writes one line per round and job to KVWIRE_OUT (default: results/fio.csv). With 6 rounds the least and the
# greatest ratio are an interval of 96.9 %: the claim agrees where the least is at least the closeness, disagrees where the greatest is below it.
set -euo pipefail
cd "$(dirname "$0")/.."
. bench/lib.sh
rounds=${1:-6} seconds=${2:-5} records=${3:-1M} close=${4:-0.9} depths=${5:-16 64 256 1024 4096}
trap '[ "${KVWIRE_KEEP:-}" ] || rm -rf "${where:-}"' EXIT
store_beside_fio fio
out=${KVWIRE_OUT:-results/fio.csv}
mkdir -p "$(dirname "$out")"
kvwire() { timeout 900 bin/kvwire "$@"; }
size=$((size / 4096 * 4096))
[ -e "$where/fio" ] || fio --name=x --filename="$where/fio" --size="$size" --ioengine=io_uring --direct=1 --bs=1m --rw=write --iodepth=16 >/dev/null
iops() { # rw depth: operations per second, of reads and writes together
    fio --name=x --filename="$where/fio" --size="$size" --ioengine=io_uring --direct=1 --bs=4k --rw="$1" --iodepth="$2" --registerfiles=1 --fixedbufs=1 \
        --time_based --runtime="$seconds" --ramp_time=1 --randrepeat=0 --norandommap --output-format=json |
        sed -n 's/^ *"iops" : \([0-9.]*\),*/\1/p' | awk '{s += $1} END {if (NR) print s}'
}
ours() { # mix depth
    local conns=$((($2 + 1023) / 1024))
    kvwire bench --seed $((RANDOM + 1)) --transport inproc --backend disk "${items[@]}" --mix "$1" --conns "$conns" --depth $(($2 / conns)) --disk-depth "$2" \
        --cache-bytes 10MiB --duration "${seconds}s" --warmup 1s --json 2>/dev/null | sed -n 's/.*"ops_per_s":\([0-9.e+]*\).*/\1/p' | head -n 1
}
echo round,job,depth,fio,kvwire,fio_again,ratio,fio_ratio | tee "$out"
for ((round = 1; round <= rounds; round++)); do
    for job in randread:get randwrite:put randrw:get=50,put=50; do
        for depth in $depths; do
            a=$(figure "fio --rw=${job%%:*}" iops "${job%%:*}" $depth)
            k=$(figure "kvwire bench --mix ${job#*:}" ours "${job#*:}" $depth)
            b=$(figure "fio --rw=${job%%:*}" iops "${job%%:*}" $depth)
            awk -v l="$round,${job%%:*},$depth" -v a="$a" -v k="$k" -v b="$b" "$figures_awk"'BEGIN {
                print l "," show("%.0f", a) "," show("%.0f", k) "," show("%.0f", b) "," show("%.3f", ratio(k, mean(a, b))) "," show("%.3f", ratio(a, b)) }' | tee -a "$out"
        done
    done
done
echo
awk -F, -v close_to="$close" "$figures_awk"'
NR > 1 && number($7) { what = $2 " " $3; if (!(what in n)) order[++jobs] = what; n[what]++; v[what, n[what]] = $7 + 0 }
END {
    for (j = 1; j <= jobs; j++) {
        what = order[j]; count = n[what]; least = most = v[what, 1]
        for (i = 1; i <= count; i++) { one[i] = v[what, i]; if (one[i] < least) least = one[i]; if (one[i] > most) most = one[i] }
        answer = count < 6 ? "too few rounds" : least >= close_to ? "agrees" : most < close_to ? "disagrees" : "can'"'"'t tell"
        printf "%-16s %.3f of fio (%.3f to %.3f, %d rounds): %s\n", what, median(one, count), least, most, count, answer
    }
}' "$out"
