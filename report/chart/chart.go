// Package chart draws what reports show, each chart as SVG for a page that may be light or dark, and as SVG and PDF files for papers.
// It knows numbers and labels, no rows. The drawing is gonum/plot's, which writes both forms.
package chart

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Chart is a drawing of a size.
type Chart struct {
	p    *plot.Plot
	w, h vg.Length
}

const (
	width     = 16 * vg.Centimeter
	rowHeight = 0.8 * vg.Centimeter
)

// ink is the colour of text and axes: a page replaces it by the colour of its text.
var ink = color.RGBA{1, 2, 3, 255}

// palette begins with Okabe and Ito's (2008): to be told apart by the colour-blind, and on light and dark ground. The last four are for
// charts with many parts.
var palette = []color.RGBA{
	{0, 114, 178, 255}, {230, 159, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255},
	{213, 94, 0, 255}, {86, 180, 233, 255}, {148, 148, 60, 255}, {130, 130, 130, 255},
	{120, 60, 150, 255}, {180, 30, 60, 255}, {60, 90, 60, 255}, {190, 160, 130, 255},
}

func hue(i int) color.RGBA { return palette[i%len(palette)] }

func blank(title string) *plot.Plot {
	p := plot.New()
	sans := func(f *font.Font, size vg.Length) { f.Variant, f.Size = "Sans", size }
	p.BackgroundColor = color.Transparent
	p.Title.Text = title
	p.Title.TextStyle.Color = ink
	sans(&p.Title.TextStyle.Font, 11)
	p.Title.Padding = 6
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Label.TextStyle.Color, a.Tick.Color, a.Tick.Label.Color = ink, ink, ink, ink
		sans(&a.Label.TextStyle.Font, 9)
		sans(&a.Tick.Label.Font, 8)
	}
	p.Legend.TextStyle.Color = ink
	sans(&p.Legend.TextStyle.Font, 8)
	p.Legend.Padding = 2
	p.Legend.ThumbnailWidth = 14
	return p
}

func grid(p *plot.Plot, vertical, horizontal bool) {
	g := plotter.NewGrid()
	line := draw.LineStyle{Color: color.NRGBA{128, 128, 128, 70}, Width: 0.5}
	g.Vertical, g.Horizontal = draw.LineStyle{}, draw.LineStyle{}
	if vertical {
		g.Vertical = line
	}
	if horizontal {
		g.Horizontal = line
	}
	p.Add(g)
}

// Duration writes nanoseconds as people do.
type Duration func(ns int64) string

// logTicks are the powers of ten and, unlabelled, what lies between.
func logTicks(label func(v float64) string) plot.TickerFunc {
	return func(low, high float64) (t []plot.Tick) {
		few := math.Log10(high/low) < 1.5
		for e := math.Floor(math.Log10(low)); e <= math.Ceil(math.Log10(high)); e++ {
			for k := 1.0; k < 10; k++ {
				v := k * math.Pow(10, e)
				if v < low*0.9999 || v > high*1.0001 {
					continue
				}
				tick := plot.Tick{Value: v}
				if k == 1 || few && (k == 2 || k == 5) {
					tick.Label = label(v)
				}
				t = append(t, tick)
			}
		}
		return t
	}
}

// Line is a labelled curve.
type Line struct {
	Label string
	X, Y  []float64
}

// Latencies draws distributions: X is a latency in ns, Y a percentile below 100, on an axis of log 1/(1−p), on which the
// rare is as wide as the common.
func Latencies(title string, lines []Line, duration Duration) (*Chart, error) {
	p := blank(title)
	p.X.Label.Text = "latency, round trip"
	p.Y.Label.Text = "percentile"
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = logTicks(func(v float64) string { return duration(int64(v)) })
	var ticks plot.ConstantTicks
	for i, l := range []string{"0", "90", "99", "99.9", "99.99", "99.999"} {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: l})
	}
	ticks = append(ticks, plot.Tick{Value: math.Log10(2), Label: "50"})
	p.Y.Tick.Marker = ticks
	grid(p, true, true)
	top := 1.0
	for i, l := range lines {
		var xy plotter.XYs
		for k := range l.X {
			if l.X[k] > 0 && l.Y[k] < 100 {
				xy = append(xy, plotter.XY{X: l.X[k], Y: -math.Log10(1 - l.Y[k]/100)})
			}
		}
		if len(xy) < 2 {
			continue
		}
		top = max(top, xy[len(xy)-1].Y)
		line, err := plotter.NewLine(xy)
		if err != nil {
			return nil, fmt.Errorf("chart: %s, %s: %w", title, l.Label, err)
		}
		line.Color, line.Width = hue(i), 1.5
		line.Dashes = dashes(i)
		p.Add(line)
		p.Legend.Add(l.Label, line)
	}
	p.Y.Min, p.Y.Max = 0, top
	p.Legend.Top, p.Legend.Left = true, true
	return &Chart{p, width, 8 * vg.Centimeter}, nil
}

// dashes tell lines apart where colours are not printed.
func dashes(i int) []vg.Length {
	return [][]vg.Length{nil, {5, 2}, {1.5, 2}, {6, 2, 1.5, 2}}[i%4]
}

// Part is a share of each bar.
type Part struct {
	Label  string
	Values []float64 // one for each bar
	Hue    int       // its colour's number, so that a thing has the same in several charts
}

// Bars draws stacked bars, the first at the top.
func Bars(title, unit string, names []string, parts []Part) (*Chart, error) {
	p := blank(title)
	p.X.Label.Text = unit
	grid(p, true, false)
	n := len(names)
	turned := make([]string, n)
	for i, name := range names {
		turned[n-1-i] = name
	}
	var below *plotter.BarChart
	for _, part := range parts {
		v := make(plotter.Values, n)
		for k := range v {
			v[n-1-k] = part.Values[k]
		}
		b, err := plotter.NewBarChart(v, 0.5*rowHeight)
		if err != nil {
			return nil, fmt.Errorf("chart: %s, %s: %w", title, part.Label, err)
		}
		b.Horizontal, b.Color, b.LineStyle.Width = true, hue(part.Hue), 0
		if below != nil {
			b.StackOn(below)
		}
		below = b
		p.Add(b)
		p.Legend.Add(part.Label, b)
	}
	p.NominalY(turned...)
	p.X.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	room := 0.55 * float64(len(parts)) // for the legend
	p.Y.Min, p.Y.Max = -0.6, float64(n)-0.5+room
	return &Chart{p, width, 2.2*vg.Centimeter + rowHeight*vg.Length(float64(n)+room)}, nil
}

// Ratio is an estimate with its interval.
type Ratio struct {
	Label          string
	Low, Mid, High float64
}

// Ratios draws intervals on a logarithmic axis, the first at the top, around 1 and a band: the interval of the A/A ratio; no
// band when it has no width.
func Ratios(title string, band Ratio, ratios []Ratio) (*Chart, error) {
	p := blank(title)
	p.X.Label.Text = "ratio to the baseline (line: 95 % interval; band: A/A interval)"
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = logTicks(func(v float64) string { return fmt.Sprintf("%.3g", v) })
	n := len(ratios)
	top := float64(n) - 0.5
	low, high := 0.8, 1.25
	for _, r := range ratios {
		low, high = min(low, r.Low/1.1), max(high, r.High*1.1)
	}
	if band.Low > 0 && band.Low < band.High && !math.IsInf(band.High, 0) {
		low, high = min(low, 0.95*band.Low), max(high, 1.05*band.High)
		area, err := plotter.NewPolygon(plotter.XYs{{X: band.Low, Y: -0.5}, {X: band.High, Y: -0.5}, {X: band.High, Y: top}, {X: band.Low, Y: top}})
		if err != nil {
			return nil, fmt.Errorf("chart: %s: %w", title, err)
		}
		area.Color, area.LineStyle.Width = color.NRGBA{128, 128, 128, 70}, 0
		p.Add(area)
	}
	grid(p, true, false)
	names := make([]string, n)
	for i, r := range ratios {
		y := float64(n - 1 - i)
		names[n-1-i] = r.Label
		line, err := plotter.NewLine(plotter.XYs{{X: r.Low, Y: y}, {X: r.High, Y: y}})
		if err != nil {
			return nil, fmt.Errorf("chart: %s, %s: %w", title, r.Label, err)
		}
		line.Color, line.Width = hue(i), 2
		dot, err := plotter.NewScatter(plotter.XYs{{X: r.Mid, Y: y}})
		if err != nil {
			return nil, fmt.Errorf("chart: %s, %s: %w", title, r.Label, err)
		}
		dot.Color, dot.Radius, dot.Shape = hue(i), 4, draw.CircleGlyph{}
		p.Add(line, dot)
	}
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: top}})
	if err != nil {
		return nil, err
	}
	one.Color, one.Width = ink, 0.7
	p.Add(one)
	p.NominalY(names...)
	p.X.Min, p.X.Max = low, high
	p.Y.Min, p.Y.Max = -0.5, top
	return &Chart{p, width, 2.2*vg.Centimeter + rowHeight*vg.Length(n)}, nil
}

// Curves draws lines with points: x as rate writes it, and y as duration does.
func Curves(title, x, y string, lines []Line, rate func(v float64) string, duration Duration) (*Chart, error) {
	p := blank(title)
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker = logTicks(rate)
	p.Y.Tick.Marker = logTicks(func(v float64) string { return duration(int64(v)) })
	grid(p, true, true)
	for i, l := range lines {
		var xy plotter.XYs
		for k := range l.X {
			if l.X[k] > 0 && l.Y[k] > 0 {
				xy = append(xy, plotter.XY{X: l.X[k], Y: l.Y[k]})
			}
		}
		if len(xy) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(xy)
		if err != nil {
			return nil, fmt.Errorf("chart: %s, %s: %w", title, l.Label, err)
		}
		line.Color, line.Width, line.Dashes = hue(i), 1.5, dashes(i)
		dots.Color, dots.Radius, dots.Shape = hue(i), 2.5, draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(l.Label, line)
	}
	p.Legend.Top, p.Legend.Left = true, true
	return &Chart{p, width, 8 * vg.Centimeter}, nil
}

// Inline is the chart as an SVG element for a page: text and axes have the colour of the page's text.
func (c *Chart) Inline() (string, error) {
	var b bytes.Buffer
	if err := c.svg(&b, color.Transparent); err != nil {
		return "", err
	}
	s := b.String()
	if at := strings.Index(s, "<svg"); at > 0 {
		s = s[at:]
	}
	return strings.NewReplacer("#010203", "currentColor").Replace(s), nil
}

// SVG writes the chart as a file.
func (c *Chart) SVG(w io.Writer) error { return c.svg(w, color.White) }

func (c *Chart) svg(w io.Writer, ground color.Color) error {
	c.p.BackgroundColor = ground
	s := vgsvg.New(c.w, c.h)
	c.p.Draw(draw.New(s))
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		return err
	}
	_, err := sameWidths.WriteString(w, b.String())
	return err
}

// sameWidths names fonts whose letters are as wide as those by which texts were placed, one of which most machines have.
var sameWidths = strings.NewReplacer("font-family:Liberation Sans", "font-family:'Liberation Sans',Arimo,Arial,Helvetica,sans-serif")

// PDF writes the chart as a file, its fonts in it.
func (c *Chart) PDF(w io.Writer) error {
	c.p.BackgroundColor = color.White
	d := vgpdf.New(c.w, c.h)
	c.p.Draw(draw.New(d))
	_, err := d.WriteTo(w)
	return err
}
