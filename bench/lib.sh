# shellcheck shell=bash
# lib.sh is what the scripts here share. A run that failed has no figure: - stands in its place, in whatever is worked out with it
# too, and no median counts it.

# figures_awk are awk's functions. number says whether x is a figure. median is that of v[1] to v[n], which it puts in order; - of none.
# plain is a line of CSV without quotes, and with semicolons for the commas within them. ratio is a / b, and show is x as in the format f, or - if a figure is missing.
figures_awk='
function plain(s,   n, i, p, out) { n = split(s, p, "\""); for (i = 1; i <= n; i++) { if (i % 2 == 0) gsub(",", ";", p[i]); out = out p[i] } return out }
function number(x) { return x ~ /^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$/ && x > 0 }
function median(v, n,   i, j, t) {
    if (!n) return "-"
    for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] < v[j-1]; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
    return n % 2 ? v[(n+1)/2] : (v[n/2] + v[n/2+1]) / 2
}
function ratio(a, b) { return number(a) && number(b) ? a / b : "-" }
function mean(a, b) { return number(a) && number(b) ? (a + b) / 2 : "-" }
function show(f, x) { return number(x) ? sprintf(f, x) : "-" }'

# figure is what a command prints, if that is one number above 0 and the exit code is 0. Else it is -, and a line on stderr names what failed.
figure() { # WHAT COMMAND…
    local what=$1 n=
    shift
    if ! n=$("$@") || [[ ! $n =~ ^[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$ || ! ${n%%[eE]*} =~ [1-9] ]]; then
        echo "${0##*/}: $what failed and is left out" >&2
        n=-
    fi
    echo "$n"
}

# median is that of the numbers in its input, one a line.
median() { awk "$figures_awk"' number($1) { v[++n] = $1 + 0 } END { print median(v, n) }'; }

# medians prints, of a table without its head, each column's median from the second on, in a printf format; and if some runs have failed,
# of how many rounds none was to be had.
medians() { # FILE COLUMNS FORMAT
    local column
    printf 'median'
    for ((column = 2; column <= $2; column++)); do
        awk -v c=$column '{ print $c }' "$1" | median | awk -v f="$3" "$figures_awk"'{ printf " %s", show(f, $1) }'
    done
    echo
    awk -v n="$2" '
        { for (i = 2; i <= n; i++) if ($i == "-") { missing[i]++; some = 1 } }
        END { if (!some) exit; printf "failed"; for (i = 2; i <= n; i++) printf " %d", missing[i]; print "" }' "$1"
}
