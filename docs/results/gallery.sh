#!/usr/bin/env bash
# gallery.sh: draws the pages of all published folders again with bin/kvwire, and README.md, the gallery, which shows each folder's picture. The
# CSV files stay as they were published. A published folder has no charts/: its page has them, and the picture is one of them.
set -euo pipefail
cd "$(dirname "$0")"
kvwire=$PWD/../../bin/kvwire
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# picture DIR: the first of these charts that a report has.
picture() {
    local f
    for f in "$1"/charts/all.cpu_ns_per_op.svg "$1"/charts/*.cpu.svg; do
        [[ -s $f ]] && echo "$f" && return
    done
    return 1
}

{
    printf '%s\n' '# Published results' '' 'Written by `docs/results/gallery.sh`. Each picture shows the CPU time per operation, as ratios to the baseline where there are any; the' \
        'page behind it has the rest. What was checked, and how: [trust.md](trust.md). Is the instrument right: [instrument.md](instrument.md).' ''
    for top in */; do
        top=${top%/}
        title=$top
        [[ -f $top/README.md ]] && title=$(sed -n '1s/^# //p' "$top/README.md")
        printf '## %s\n\n' "$title"
        [[ -f $top/README.md ]] && printf '[What was measured, and what came out](%s/README.md)\n\n' "$top"
        while read -r runs; do
            dir=$(dirname "$runs")
            rm -rf "$work/copy"
            cp -r "$dir" "$work/copy"
            "$kvwire" report "$work/copy" >/dev/null 2>"$work/words" || { cat "$work/words" >&2 && exit 1; }
            # Links to files that are not published go.
            sed -E 's# <a href="charts/[^"]*">(SVG|PDF)</a>##g; s#; columns: <a href="datapackage.json">.*</a>\.</p>#.</p>#' "$work/copy/report.html" >"$dir/report.html"
            [[ -f $dir/compare.csv ]] || sed -i -E 's#<a href="compare.csv">compare.csv</a>, ##' "$dir/report.html"
            cp "$(picture "$work/copy")" "$dir/picture.svg"
            answer=$(sed -n 's#^<p class="answer">\(.*\)</p>$#\1#p' "$dir/report.html" | head -1)
            printf '**[%s](%s/report.html)** · [rows](%s)\n\n' "$dir" "$dir" "$runs"
            [[ $answer == "There are no ratios"* ]] || printf '%s\n\n' "$answer"
            printf '<a href="%s/report.html"><img src="%s/picture.svg" width="420" alt="CPU time per operation of %s"></a>\n\n' "$dir" "$dir" "$dir"
        done < <(find "$top" -name runs.csv | sort)
    done
} >"$work/README.md"
cat -s "$work/README.md" | sed '$d' >README.md
