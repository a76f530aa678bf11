#!/usr/bin/env bash
# gallery.sh: draws the pages of all published folders again with bin/kvwire, and describes their columns (datapackage.json); the CSV files stay as
# they were published. Then it writes each folder's MANIFEST.sha256, and README.md here, the gallery.
set -euo pipefail
cd "$(dirname "$0")"
kvwire=$PWD/../../bin/kvwire
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

{
    printf '%s\n' '# Published results' '' 'Written by `docs/results/gallery.sh`. Each picture shows the CPU time per operation, as a ratio to the baseline if there are ratios; it' \
        'links to the full report. `datapackage.json` describes the columns of the CSV files next to it, and `sha256sum -c MANIFEST.sha256` in a' \
        'folder checks its files. What was checked, and how: [trust.md](trust.md). Tests of the method: [instrument.md](instrument.md).' ''
    for top in */; do
        top=${top%/}
        title=$top
        [[ -f $top/README.md ]] && title=$(sed -n '1s/^# //p' "$top/README.md")
        printf '## %s\n\n' "$title"
        [[ -f $top/README.md ]] && printf '[What was measured, and what came out](%s/README.md)\n\n' "$top"
        while read -r runs; do
            dir=$(dirname "$runs")
            "$kvwire" report --publish "$dir" >/dev/null 2>"$work/words" || { cat "$work/words" >&2 && exit 1; }
            answer=$(sed -n 's#^<p class="answer">\(.*\)</p>$#\1#p' "$dir/report.html" | head -1)
            printf '**[%s](%s/report.html)** · [rows](%s)\n\n' "$dir" "$dir" "$runs"
            [[ $answer == "There are no ratios"* ]] || printf '%s\n\n' "$answer"
            printf '<a href="%s/report.html"><img src="%s/picture.svg" width="420" alt="CPU time per operation of %s"></a>\n\n' "$dir" "$dir" "$dir"
        done < <(find "$top" -name runs.csv | LC_ALL=C sort)
        (cd "$top" && find . -type f ! -name MANIFEST.sha256 -printf '%P\n' | LC_ALL=C sort | xargs -r sha256sum >"$work/manifest" &&
            cp "$work/manifest" MANIFEST.sha256)
    done
} >"$work/README.md"
cat -s "$work/README.md" | sed '$d' >README.md
