#!/usr/bin/env bash
# The table of the distributed-KV study: a row for each workload and distribution of keys, and for each network throughput, average, p99 and maximum.
#
#   bench/workbook.sh results/latest/runs.csv     (kvwire run distributed-kv)
#
# Prints a Markdown table of the medians over the valid runs of each cell; - where there are none. The maximum is the greatest of all runs.
set -euo pipefail
(($# == 1)) || { echo "usage: bench/workbook.sh RUNS.CSV" >&2; exit 2; }
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
awk -F, "$figures_awk"'
function us(ns) { return number(ns) ? sprintf("%.0f", ns / 1000) : "-" }
{ $0 = plain($0) }
NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
$column["valid"] == "true" && $column["phase"] != "breakdown" {
    net = $column["transport"] == "inproc" ? "local" : $column["transport"] ($column["rdma_verb"] != "" ? " " $column["rdma_verb"] : "")
    row = toupper($column["mix"]) " | " $column["key_dist"]
    if (!(net in nets)) nets[net] = ++columns
    if (!(row in rows)) { rows[row] = ++count; name[count] = row }
    k = row SUBSEP net; n = ++runs_of[k]
    ops[k, n] = $column["ops_per_s"] + 0; average[k, n] = $column["lat_mean_ns"] + 0
    if ($column["lat_p99_ns"] != "") p99[k, ++p99s[k]] = $column["lat_p99_ns"] + 0
    if ($column["lat_max_ns"] + 0 > most[k]) most[k] = $column["lat_max_ns"] + 0
}
function middle(all, k, n,   v, i) { for (i = 1; i <= n; i++) v[i] = all[k, i]; return median(v, n) }
END {
    split("local,tcp,rdma send,rdma write,rdma read", order, ",")
    printf "requests/s, average / p99 / max in µs\n\n| workload | keys |"; for (j = 1; j <= 5; j++) printf " %s |", order[j]
    printf "\n|---|---|"; for (j = 1; j <= 5; j++) printf "---|"; print ""
    for (i = 2; i <= count; i++) # in the order of the names: insertion, since there are a dozen
        for (j = i; j > 1 && name[j] < name[j - 1]; j--) { k = name[j]; name[j] = name[j - 1]; name[j - 1] = k }
    for (i = 1; i <= count; i++) {
        printf "| %s |", name[i]
        for (j = 1; j <= 5; j++) {
            k = name[i] SUBSEP order[j]
            if (!runs_of[k]) { printf " - |"; continue }
            printf " %.0f, %s / %s / %s |", middle(ops, k, runs_of[k]), us(middle(average, k, runs_of[k])), us(middle(p99, k, p99s[k])), us(most[k])
        }
        print ""
    }
}' "$1"
