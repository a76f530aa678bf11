# shellcheck shell=bash
# lib.sh is what the scripts here share.

# median_awk is awk's function: the median of v[1] to v[n], which it puts in order.
median_awk='
function median(v, n,   i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] < v[j-1]; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
    return n % 2 ? v[(n+1)/2] : (v[n/2] + v[n/2+1]) / 2
}'

# median is that of the numbers in its input, one a line.
median() { awk "$median_awk"' { v[NR] = $1 + 0 } END { if (NR) print median(v, NR) }'; }
