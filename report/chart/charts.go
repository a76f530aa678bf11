package chart

import (
	"fmt"
	"math"
	"slices"
)

// Series is what a mark belongs to.
type Series struct {
	Label  string
	Color  string
	Dash   int    // distinguishes series of one colour
	Hidden string // the page's name of what hides it: its network
}

// Duration writes nanoseconds as people do.
type Duration func(ns int64) string

// legend draws swatches in rows below the title.
func (c *Chart) legend(items []Series, bars bool) {
	x, y := margin, c.h+6
	for _, s := range items {
		w := 20 + textWidth(s.Label, smallSize) + 12
		if x+w > c.w-margin+12 && x > margin {
			x, y = margin, y+13
		}
		if bars {
			c.add(shape{fill: s.Color, points: box(x, y-4, 14, 8), series: s.Hidden})
		} else {
			c.add(shape{line: s.Color, width: 2.2, dash: dashes(s.Dash), points: [][2]float64{{x, y}, {x + 15, y}}, series: s.Hidden})
		}
		c.add(shape{text: s.Label, size: smallSize, fill: ink, points: [][2]float64{{x + 19, y + 3}}, series: s.Hidden})
		x += w
	}
	c.h = y + 12
}

// Ratio is an estimate with its interval, whose ends may be missing (NaN, Inf).
type Ratio struct {
	Series
	Low, Mid, High float64
	Text           string // written at its right: "5.63 [5.12–6.20]"
}

// Group is a heading with ratios.
type Group struct {
	Name   string
	Ratios []Ratio
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) && v > 0 }

// labelRoom is the widest label to the left of its mark. If one is wider, all are above their marks, in as many lines as they need.
const labelRoom = 130.0

// place returns the left end of an axis with labels to its left. The second result reports that the labels are above their marks.
func place(rows []Series) (left float64, above bool) {
	left = 40
	for _, r := range rows {
		left = max(left, textWidth(r.Label, smallSize))
	}
	if left > labelRoom {
		return 2 * margin, true
	}
	return left + margin + 10, false
}

// above is the label of a mark in lines that stand above it, from y on. It returns the end of the last one.
func (c *Chart) above(label string, y float64, bold bool, series string) float64 {
	size := smallSize
	if bold {
		size *= boldSlack
	}
	for _, line := range wrap(label, size, c.w-2*margin) {
		y += lineHeight
		c.add(shape{text: line, size: smallSize, bold: bold, fill: ink, points: [][2]float64{{margin, y - 3}}, series: series})
	}
	return y
}

const lineHeight = 13.0

// Forest draws intervals on a logarithmic axis around 1, with a band for ratios that do not matter: from 1−matters to 1+matters.
func Forest(title, axisTitle string, matters float64, groups []Group) *Chart {
	right := 40.0
	low, high := 1/1.05, 1.05
	var rows []Series
	for _, g := range groups {
		for _, r := range g.Ratios {
			rows, right = append(rows, r.Series), max(right, textWidth(r.Text, smallSize))
			for _, v := range []float64{r.Low, r.Mid, r.High} {
				if finite(v) {
					low, high = min(low, v), max(high, v)
				}
			}
		}
	}
	left, above := place(rows)
	right += margin + 8
	c := newChart(title, max(minWidth, left+right+160))
	x := logAxis(low, high, left, c.w-right)
	y := c.h
	for _, g := range groups {
		if g.Name != "" {
			y = c.above(g.Name, y+3, true, "")
		}
		begin := len(c.shapes)
		top := y
		for _, r := range g.Ratios {
			if above {
				y = c.above(r.Label, y, false, r.Hidden)
			}
			y += 15
			mid := y - 7.5
			about := r.Label + ": " + r.Text
			if !above {
				c.add(shape{text: r.Label, anchor: end, size: smallSize, fill: ink, points: [][2]float64{{left - 6, mid + 3}}, series: r.Hidden})
			}
			if finite(r.Low) && finite(r.High) {
				c.add(shape{line: r.Color, width: 2.4, points: [][2]float64{{x.at(r.Low), mid}, {x.at(r.High), mid}}, title: about, series: r.Hidden})
			}
			c.add(shape{fill: r.Color, radius: 3.8, points: [][2]float64{{x.at(r.Mid), mid}}, title: about, series: r.Hidden})
			c.add(shape{text: r.Text, size: smallSize, fill: ink, points: [][2]float64{{c.w - right + 6, mid + 3}}, series: r.Hidden})
		}
		marks := slices.Clone(c.shapes[begin:]) // above the band and the grid, whose height they determine
		c.shapes = c.shapes[:begin]
		if matters > 0 {
			from, to := max(x.at(1-matters), left), min(x.at(1+matters), c.w-right)
			c.add(shape{fill: "#808080", alpha: 0.35, points: box(from, top, to-from, y-top), title: fmt.Sprintf("Within %.3g %% of 1: too small a difference to matter", 100*matters)})
		}
		c.grid(x, top, y)
		c.stroke(ink, 0.8, 0.7, [2]float64{x.at(1), top}, [2]float64{x.at(1), y})
		c.shapes = append(c.shapes, marks...)
	}
	c.scale(x, y+4, axisTitle, plain)
	c.h = y + 36
	return c
}

// Part is a share of each bar. Negative values are drawn leftwards from 0.
type Part struct {
	Label  string
	Color  string
	Values []float64 // one for each bar
}

// Bars draws stacked bars, the first at the top. text writes a value with its unit; at its end a bar has its sum.
func Bars(title, axisTitle string, bars []Series, parts []Part, text func(v float64) string) *Chart {
	right := 40.0
	low, high := 0.0, 0.0
	sums := make([]float64, len(bars))
	for i := range bars {
		up, down := 0.0, 0.0
		for _, p := range parts {
			up, down = up+max(p.Values[i], 0), down+min(p.Values[i], 0)
		}
		sums[i] = up + down
		low, high = min(low, down), max(high, up)
		right = max(right, textWidth(text(sums[i]), smallSize))
	}
	left, above := place(bars)
	right += margin
	c := newChart(title, max(minWidth, left+right+160))
	var items []Series
	for _, p := range parts {
		items = append(items, Series{Label: p.Label, Color: p.Color})
	}
	c.legend(items, true)
	begin, top, bottom := len(c.shapes), c.h, c.h
	x := linearAxis(low, high, left, c.w-right)
	for i, b := range bars {
		if above {
			bottom = c.above(b.Label, bottom, false, b.Hidden)
		} else {
			c.add(shape{text: b.Label, anchor: end, size: smallSize, fill: ink, points: [][2]float64{{left - 6, bottom + 15}}, series: b.Hidden})
		}
		y := bottom + 4
		bottom += 21
		c.add(shape{fill: b.Color, points: box(left-3.5, y, 3, 16), series: b.Hidden, title: b.Label})
		up, down := 0.0, 0.0
		for _, p := range parts {
			v := p.Values[i]
			if v == 0 {
				continue
			}
			from, to := up, up+v
			if up = max(up, to); v < 0 {
				from, to = down+v, down
				down = from
			}
			w := x.at(to) - x.at(from)
			about := fmt.Sprintf("%s, %s: %s", b.Label, p.Label, text(v))
			c.add(shape{fill: p.Color, points: box(x.at(from), y, w, 16), title: about, series: b.Hidden})
			if value := text(v); len(parts) > 1 && textWidth(value, 8)+4 < w {
				c.add(shape{text: value, anchor: middle, size: 8, fill: readable(p.Color), points: [][2]float64{{x.at(from) + w/2, y + 11}}, title: about, series: b.Hidden})
			}
		}
		c.add(shape{text: text(sums[i]), size: smallSize, fill: ink, points: [][2]float64{{x.at(max(up, 0)) + 4, y + 11}}, series: b.Hidden})
	}
	bottom += 4
	marks := slices.Clone(c.shapes[begin:]) // above the grid, whose height they determine
	c.shapes = c.shapes[:begin]
	c.vertical(x, top, bottom, axisTitle, text)
	if low < 0 {
		c.stroke(ink, 1, 0.8, [2]float64{x.at(0), top}, [2]float64{x.at(0), bottom})
	}
	c.shapes = append(c.shapes, marks...)
	c.h = bottom + 32
	return c
}

// Line is a curve.
type Line struct {
	Series
	X, Y []float64
	Text string // what a pointer shows
}

// nines is the place of a percentile on an axis on which the rare is as wide as the common.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

// Latencies draws distributions: X is a latency in ns, Y a percentile below 100.
func Latencies(title string, lines []Line, duration Duration) *Chart {
	c := newChart(title, minWidth)
	c.legend(legendOf(lines), false)
	low, high, top := math.Inf(1), 0.0, 1.0
	for _, l := range lines {
		for i, v := range l.X {
			low, high, top = min(low, v), max(high, v), max(top, nines(l.Y[i]))
		}
	}
	low = max(low, 1)
	y0, y1, left := c.h+4, c.h+190, 52.0
	x := logAxis(low, max(high, low), left, c.w-margin-6)
	y := axis{0, top * 1.05, y1, y0, false}
	var marks []float64
	for _, p := range []float64{50, 90, 99, 99.9, 99.99, 99.999} {
		if nines(p) <= top*1.05 {
			marks = append(marks, p)
		}
	}
	c.vertical(x, y0, y1, "latency, round trip (logarithmic)", func(v float64) string { return duration(int64(v)) })
	c.horizontal(axis{y.low, y.high, y.from, y.to, false}, left, x.to, mapped(marks, nines), func(v float64) string {
		return "p" + plain6(100*(1-math.Pow(10, -v)))
	})
	for _, l := range lines {
		var points [][2]float64
		for i := range l.X {
			points = append(points, [2]float64{x.at(max(l.X[i], 1)), y.at(nines(l.Y[i]))})
		}
		c.add(shape{line: l.Color, width: 1.8, dash: dashes(l.Dash), points: points, title: l.Text, series: l.Hidden})
	}
	c.h = y1 + 32
	return c
}

func mapped(v []float64, f func(float64) float64) (out []float64) {
	for _, x := range v {
		out = append(out, f(x))
	}
	return out
}

// plain6 is a number rounded to five digits after the point.
func plain6(v float64) string { return fmt.Sprint(math.Round(1e5*v) / 1e5) }

func legendOf(lines []Line) (items []Series) {
	for _, l := range lines {
		items = append(items, l.Series)
	}
	return items
}

// Curves draws lines with points on logarithmic axes: x as rate writes it, y as duration does.
func Curves(title, xTitle, yTitle string, lines []Line, rate func(v float64) string, duration Duration) *Chart {
	c := newChart(title, minWidth)
	c.legend(legendOf(lines), false)
	lowX, highX, lowY, highY := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, l := range lines {
		for i := range l.X {
			lowX, highX, lowY, highY = min(lowX, l.X[i]), max(highX, l.X[i]), min(lowY, l.Y[i]), max(highY, l.Y[i])
		}
	}
	c.label(margin, c.h+6, start, yTitle)
	y0, y1, left := c.h+14, c.h+200, 56.0
	x, y := logAxis(lowX, highX, left, c.w-margin-6), logAxis(lowY, highY, y1, y0)
	c.vertical(x, y0, y1, xTitle, rate)
	c.horizontal(y, left, x.to, y.ticks(8), func(v float64) string { return duration(int64(v)) })
	for _, l := range lines {
		var points [][2]float64
		for i := range l.X {
			points = append(points, [2]float64{x.at(l.X[i]), y.at(l.Y[i])})
		}
		c.add(shape{line: l.Color, width: 1.6, dash: dashes(l.Dash), points: points, title: l.Label, series: l.Hidden})
		for i, p := range points {
			c.add(shape{fill: l.Color, radius: 2.8, points: [][2]float64{p}, series: l.Hidden, title: fmt.Sprintf("%s: %s/s, %s", l.Label, rate(l.X[i]), duration(int64(l.Y[i])))})
		}
	}
	c.h = y1 + 32
	return c
}
