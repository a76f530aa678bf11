#!/usr/bin/env bash
# The memory of the store's index, extended to more keys than fit: the line through the sizes that were measured.
#
#   bench/memory.sh results/latest/runs.csv [keys]     default 250 million
#
# Reads index_bytes_per_key of the valid runs (kvwire run protostore-memory), prints the mean of each number of records, and the least-squares line of the index's memory
# over the number of keys.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
(($# >= 1)) || { echo "usage: bench/memory.sh RUNS.CSV [KEYS]" >&2; exit 2; }
keys=${2:-250000000}
[[ $keys =~ ^[1-9][0-9]*$ ]] || { echo "memory.sh: $keys: a number of keys" >&2; exit 2; }
awk -F, -v keys="$keys" "$figures_awk"'
{ $0 = plain($0) }
NR == 1 {
    for (i = 1; i <= NF; i++) column[$i] = i
    if (!column["records"] || !column["index_bytes_per_key"] || !column["valid"]) { print "memory.sh: no column records, index_bytes_per_key or valid" >"/dev/stderr"; failed = 1; exit 1 }
    next
}
$column["valid"] == "true" && $column["index_bytes_per_key"] > 0 {
    n = $column["records"]; y = n * $column["index_bytes_per_key"]
    sum[n] += y; count[n]++
    runs++; sx += n; sy += y; sxx += n * n; sxy += n * y
}
END {
    if (failed) exit 1
    for (n in count) { sizes++; printf "%d keys: %.2f bytes a key (%d runs)\n", n, sum[n] / count[n] / n, count[n] | "sort -n" }
    close("sort -n")
    if (sizes < 2) { print "memory.sh: a line takes two numbers of records" >"/dev/stderr"; exit 1 }
    slope = (runs * sxy - sx * sy) / (runs * sxx - sx * sx)
    at = (sy - slope * sx) / runs + slope * keys
    printf "the line: %.2f bytes for each key more; %d keys: %.2f GiB, %.2f bytes a key\n", slope, keys, at / 1024 ^ 3, at / keys
}' "$1"
