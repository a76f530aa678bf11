#!/usr/bin/env python3
"""figure.py RESULTS [OUT.svg]: draws compare.csv of a folder of results as one figure: the ratio of each variant to its baseline, with its
interval, on a logarithmic axis. Python's standard library is all that it needs. Without OUT.svg it prints the figure."""
import csv, math, os, sys
from xml.sax.saxutils import escape

METRICS = {"cpu_ns_per_op": "CPU time per operation", "lat_p50_ns": "median latency", "lat_p99_ns": "99th percentile of latency",
           "ops_per_s": "operations per second"}
LEFT, RIGHT, LINE, WIDTH = 300, 110, 26, 820


def rows(folder):
    with open(os.path.join(folder, "compare.csv"), newline="", encoding="utf-8") as file:
        for r in csv.DictReader(file):
            if r["kind"] == "ratio" and r["metric"] in METRICS and r["ratio_low"] and r["ratio_high"]:
                yield r


def ticks(low, high):
    """The powers of ten, and twice and five times these, that lie in the interval."""
    return [m * 10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
            if low <= m * 10.0 ** e <= high]


def figure(all_rows):
    all_rows = sorted(all_rows, key=lambda r: (r["question"], list(METRICS).index(r["metric"])))
    low = min([1.0] + [float(r["ratio_low"]) for r in all_rows]) / 1.1
    high = max([1.0] + [float(r["ratio_high"]) for r in all_rows]) * 1.1
    x = lambda v: LEFT + (WIDTH - LEFT - RIGHT) * math.log(v / low) / math.log(high / low)
    out, y, before = [], 16, None
    for r in all_rows:
        group = (r["question"], r["metric"])
        if group != before:
            y += 34
            out.append(f'<text x="10" y="{y - 8}" font-weight="bold">{escape(METRICS[r["metric"]])}'
                       f' <tspan font-weight="normal" fill="#666">{escape(r["question"])}</tspan></text>')
            before = group
        y += LINE
        ratio, ends = float(r["ratio"]), (float(r["ratio_low"]), float(r["ratio_high"]))
        label = f'{ratio:.2f} [{ends[0]:.2f} to {ends[1]:.2f}]'
        out.append(f'<g><title>{escape(r["variant"])} / {escape(r["baseline"])}: {label}, {r["generations"]} generations</title>'
                   f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(r["variant"])} / {escape(r["baseline"])}</text>'
                   f'<line x1="{x(ends[0]):.1f}" x2="{x(ends[1]):.1f}" y1="{y}" y2="{y}" stroke="#0072b2" stroke-width="3"/>'
                   f'<circle cx="{x(ratio):.1f}" cy="{y}" r="4" fill="#0072b2"/>'
                   f'<text x="{x(ends[1]) + 8:.1f}" y="{y + 4}" font-size="11">{label}</text></g>')
    bottom = y + 20
    axis = [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="20" y2="{bottom}" stroke="{"#666" if t == 1 else "#ddd"}"/>'
            f'<text x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{t:g}×</text>' for t in ticks(low, high)]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" width="{WIDTH}" font-family="sans-serif" font-size="13">',
                      '<rect width="100%" height="100%" fill="#fff"/>', *axis, *out, "</svg>", ""])


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    found = list(rows(sys.argv[1]))
    if not found:
        sys.exit(f"{sys.argv[1]}/compare.csv has no ratio with an interval: an interval of 95 % needs 6 generations")
    text = figure(found)
    if len(sys.argv) == 3:
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)


main()
