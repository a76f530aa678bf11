#!/usr/bin/env python3
"""Draws one metric of a folder of results: the ratio of each variant to its baseline, with its interval, on a logarithmic axis.

    python3 examples/figure.py results/latest >figure.svg
    python3 examples/figure.py results/latest lat_p50_ns >figure.svg

It reads compare.csv and needs only Python's standard library. Metrics: cpu_ns_per_op (the default), lat_p50_ns, lat_p99_ns, ops_per_s."""
import csv, math, os, sys
from html import escape

METRICS = {"cpu_ns_per_op": "CPU time per operation", "lat_p50_ns": "Median latency", "lat_p99_ns": "99th percentile of latency",
           "ops_per_s": "Operations per second"}
LEFT, RIGHT, ROW, WIDTH = 150, 170, 20, 640


def read(folder, metric):
    with open(os.path.join(folder, "compare.csv"), newline="", encoding="utf-8") as file:
        return [r for r in csv.DictReader(file) if r["kind"] == "ratio" and r["metric"] == metric and r["ratio_low"] and r["ratio_high"]]


def ticks(low, high):
    """The numbers 1, 2 and 5, times a power of ten, from low to high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [t for t in (m * 10.0 ** p for p in powers for m in (1, 2, 5)) if low <= t <= high]


def figure(rows, title):
    low = min([1.0] + [float(r["ratio_low"]) for r in rows]) / 1.2
    high = max([1.0] + [float(r["ratio_high"]) for r in rows]) * 1.2

    def x(ratio):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / low) / math.log(high / low)

    y, question, marks = 24, None, []
    for r in rows:
        if r["question"] != question:
            question = r["question"]
            y += ROW + 8
            marks.append(f'<text x="10" y="{y}" font-weight="bold">{escape(question)}</text>')
        y += ROW
        ratio, begin, end = (float(r[c]) for c in ("ratio", "ratio_low", "ratio_high"))
        marks.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(r["variant"])}</text>'
                     f'<line x1="{x(begin):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" stroke="#0072b2" stroke-width="3"/>'
                     f'<circle cx="{x(ratio):.1f}" cy="{y}" r="4" fill="#0072b2"/>'
                     f'<text x="{WIDTH - RIGHT + 12}" y="{y + 4}">{ratio:.3g} [{begin:.3g} to {end:.3g}]</text>')
    bottom = y + 14
    axis = [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="34" y2="{bottom}" stroke="{"#666" if t == 1 else "#ddd"}"/>'
            f'<text x="{x(t):.1f}" y="{bottom + 16}" text-anchor="middle">{t:g}×</text>' for t in ticks(low, high)]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" font-family="sans-serif" font-size="12">',
                      '<rect width="100%" height="100%" fill="#fff"/>', f'<text x="10" y="20" font-size="14">{escape(title)}</text>',
                      *axis, *marks, "</svg>"])


def main():
    metric = sys.argv[2] if len(sys.argv) == 3 else "cpu_ns_per_op"
    if len(sys.argv) not in (2, 3) or metric not in METRICS:
        sys.exit(__doc__)
    rows = read(sys.argv[1], metric)
    if not rows:
        sys.exit(f"{sys.argv[1]}/compare.csv has no interval for {metric}: an interval of 95 % needs 6 generations")
    print(figure(rows, f'{METRICS[metric]}, ratio to {rows[0]["baseline"]}, with 95 % intervals'))


main()
