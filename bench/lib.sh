# shellcheck shell=bash
# lib.sh has the functions that the scripts here share. A failed run has the figure -, and so has everything computed from it.
# Medians leave it out.

# figures_awk has functions for awk. number tests whether x is a figure. median sorts v[1] to v[n] and returns their median, or - if n is 0.
# plain removes the quotes of a line of CSV, and replaces commas within them by semicolons. ratio returns a / b, and show formats x by f; both return - if a figure is missing.
figures_awk='
function plain(s,   n, i, p, out) { n = split(s, p, "\""); for (i = 1; i <= n; i++) { if (i % 2 == 0) gsub(",", ";", p[i]); out = out p[i] } return out }
function number(x) { return x ~ /^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$/ && x > 0 }
function median(v, n,   i, j, t) {
    if (!n) return "-"
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] < v[j-1]; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
    return n % 2 ? v[(n+1)/2] : (v[n/2] + v[n/2+1]) / 2
}
# median_interval sorts v[1] to v[n] and sets low and high to an interval that contains the median of the distribution with a probability of
# at least 95 % (sign test, for any distribution); - with fewer than 6 figures, which allow no such interval.
function median_interval(v, n,   k, p, q) {
    low = high = "-"
    median(v, n)
    if (n > 1000) { k = int((n - 1.96 * sqrt(n)) / 2); low = v[k]; high = v[n-k+1]; return } # 0.5 ^ n would be 0
    p = q = 0.5 ^ n # of k figures or fewer below the median, for k = 0
    for (k = 0; 2 * p <= 0.05; k++) { low = v[k+1]; high = v[n-k]; q *= (n - k) / (k + 1); p += q }
}
function ratio(a, b) { return number(a) && number(b) ? a / b : "-" }
function mean(a, b) { return number(a) && number(b) ? (a + b) / 2 : "-" }
function show(f, x) { return number(x) ? sprintf(f, x) : "-" }'

# figure prints the output of a command, if it is one number above 0 and the exit code is 0. Else it prints -, and a line about it on stderr.
figure() { # WHAT COMMAND…
    local what=$1 figure_printed= # a name that no script has: the command would see it
    shift
    if ! figure_printed=$("$@") || [[ ! $figure_printed =~ ^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$ || ! ${figure_printed%%[eE]*} =~ [1-9] ]]; then
        echo "${0##*/}: $what failed and is left out" >&2
        figure_printed=-
    fi
    echo "$figure_printed"
}

# median prints the median of the numbers in its input, one per line.
median() { awk -v OFMT=%.15g "$figures_awk"' number($1) { v[++n] = $1 + 0 } END { print median(v, n) }'; }

# center prints the median of the numbers in its input, one per line, and the two ends of its interval.
center() { awk -v OFMT=%.15g "$figures_awk"' number($1) { v[++n] = $1 + 0 } END { median_interval(v, n); print median(v, n), low, high }'; }

# medians prints, of a table without its head, each column's median from the second on, in a printf format, and the two ends of its 95 % interval (from, to); and if some
# runs have failed, how many rounds have no figure, for each column.
medians() { # FILE COLUMNS FORMAT
    local column
    for ((column = 2; column <= $2; column++)); do
        awk -v c=$column '{ print $c }' "$1" | center
    done | awk -v f="$3" "$figures_awk"'
        { m = m " " show(f, $1); l = l " " show(f, $2); h = h " " show(f, $3) }
        END { print "median" m; print "from" l; print "to" h }'
    awk -v n="$2" '
        { for (i = 2; i <= n; i++) if ($i == "-") { missing[i]++; some = 1 } }
        END { if (!some) exit; printf "failed"; for (i = 2; i <= n; i++) printf " %d", missing[i]; print "" }' "$1"
}

# listens tests whether a TCP port of this host has a listener, without connecting to it.
listens() { # PORT
    grep -qi ":$(printf %04X "$1") .* 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# rdma_address prints an RDMA device's address, its name, port and GID, as kvwire doctor has them: "--listen 10.77.0.1:7070 (rxe0 port 1, GID 1 (RoCE v2))".
# Nothing: there is none.
rdma_address() {
    bin/kvwire doctor 2>/dev/null | grep -oE -e '--listen [0-9.]+:7070 \([a-z0-9_]+ port [0-9]+, GID [0-9]+' | head -n 1 |
        sed -E 's/^--listen ([0-9.]+):7070 .([^ ]+) port ([0-9]+), GID ([0-9]+)/\1 \2 \3 \4/' || true
}

# store_beside_fio NAME: for scripts that compare the store with fio. It checks that both programs are there, and loads a store of $records items into
# $where, unless an earlier run with KVWIRE_KEEP left one. Sets where, items (its flags) and size (its bytes).
store_beside_fio() {
	command -v fio >/dev/null || { echo "$1.sh: fio is missing (apt-get install fio)" >&2; exit 1; }
	[ -x bin/kvwire ] || { echo "$1.sh: bin/kvwire is missing (make build)" >&2; exit 1; }
	where=${KVWIRE_DIR:-/var/tmp}/kvwire-bench-$1
	# An item of 1 KiB in all: 24 bytes of header, 16 of key.
	items=(--dir "$where/store" --records "$records" --key-bytes 16 --value-bytes 984)
	mkdir -p "$where"
	if ! [ -e "$where/loaded-$records" ]; then
		rm -rf "${where:?}"/*
		timeout 900 bin/kvwire load "${items[@]}"
		touch "$where/loaded-$records"
	fi
	size=$(du -sb "$where/store" | cut -f 1)
}
