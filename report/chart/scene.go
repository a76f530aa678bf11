// Package chart draws what reports show: intervals, bars, distributions and curves, each as SVG for a page that may
// be light or dark, and as SVG and PDF files for papers. Its input is numbers and labels, not rows. Both forms are
// drawn from one list of shapes (docs/adr/0042).
package chart

import (
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"

	"codeberg.org/go-fonts/liberation/liberationsansbold"
	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"codeberg.org/go-pdf/fpdf"
)

// Sizes in points. A page scales charts to its columns; these are legible on a phone, too.
const (
	minWidth  = 380.0
	textSize  = 11.0
	smallSize = 10.0
	margin    = 8.0
	fontSlack = 1.16 // of DejaVu Sans
	boldSlack = 1.14 // of its bold letters
)

// anchors of texts.
const (
	start  = "start"
	middle = "middle"
	end    = "end"
)

// ink is the colour of texts and axes: the page's colour of text, and black in files.
const ink = "ink"

// shape is a mark of a chart: a text, or a path with or without fill.
type shape struct {
	text   string
	anchor string
	size   float64
	bold   bool

	points [][2]float64 // of a path; of a text, its place
	radius float64      // of a circle around the one point; 0: a path
	fill   string       // "": none
	line   string       // "": none
	width  float64
	dash   []float64
	alpha  float64 // 0: opaque

	title  string // what a pointer shows
	series string // what the mark is of: the page can hide a series
}

// Chart is a drawing.
type Chart struct {
	Title  string
	w, h   float64
	top    float64 // height of the title, which a page has in its own text
	shapes []shape
}

func newChart(title string, width float64) *Chart {
	c := &Chart{Title: title, w: width, top: margin}
	for _, line := range titleLines(title, width) {
		c.top += 15
		c.add(shape{text: line, size: textSize + 1, bold: true, fill: ink, points: [][2]float64{{margin, c.top - 4}}})
	}
	c.h = c.top + 4
	return c
}

func (c *Chart) add(s shape) { c.shapes = append(c.shapes, s) }

func (c *Chart) label(x, y float64, anchor, text string) {
	c.add(shape{text: text, anchor: anchor, size: smallSize, fill: ink, points: [][2]float64{{x, y}}})
}

func (c *Chart) stroke(color string, width, alpha float64, points ...[2]float64) {
	c.add(shape{line: color, width: width, alpha: alpha, points: points})
}

func box(x, y, w, h float64) [][2]float64 {
	return [][2]float64{{x, y}, {x + w, y}, {x + w, y + h}, {x, y + h}}
}

// titleLines are the lines of a title above a chart.
func titleLines(title string, width float64) []string {
	return wrap(title, boldSlack*(textSize+1), width-2*margin)
}

// wrap cuts a text into lines that fit.
func wrap(text string, size, width float64) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && textWidth(line+" "+word, size) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

// A ruler measures texts. fpdf's fonts belong to one document and one goroutine. It is made on first use: reading the fonts takes 6 ms, and
// most commands draw nothing.
var ruler struct {
	sync.Mutex
	*fpdf.Fpdf
}

// textWidth is the room for a text, with some for fonts that a browser has instead.
func textWidth(text string, size float64) float64 {
	ruler.Lock()
	defer ruler.Unlock()
	if ruler.Fpdf == nil {
		ruler.Fpdf = document(100, 100)
	}
	ruler.SetFont("sans", "", size)
	return fontSlack * ruler.GetStringWidth(text)
}

// document is an empty PDF of one page, with Liberation Sans, of which the glyphs in use are embedded.
func document(w, h float64) *fpdf.Fpdf {
	d := fpdf.NewCustom(&fpdf.InitType{OrientationStr: "P", UnitStr: "pt", Size: fpdf.SizeType{Wd: w, Ht: h}})
	d.SetMargins(0, 0, 0)
	d.SetAutoPageBreak(false, 0)
	d.SetCatalogSort(true)
	d.AddUTF8FontFromBytes("sans", "", liberationsansregular.TTF)
	d.AddUTF8FontFromBytes("sans", "B", liberationsansbold.TTF)
	d.AddPage()
	return d
}

// Inline is the chart as an SVG element for a page, without its title.
func (c *Chart) Inline() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 %s %s %s" style="max-width:%.0fpx" font-family="'Liberation Sans',Arimo,Arial,Helvetica,sans-serif" role="img" aria-label="%s">`, number(c.top), number(c.w), number(c.h-c.top), 1.45*c.w, html.EscapeString(c.Title))
	c.svg(&b, "currentColor", len(titleLines(c.Title, c.w)))
	b.WriteString("</svg>")
	return b.String()
}

// SVG writes the chart as a file.
func (c *Chart) SVG(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%[1]s" height="%[2]s" font-family="'Liberation Sans',Arimo,Arial,Helvetica,sans-serif">`, number(c.w), number(c.h))
	fmt.Fprintf(&b, `<title>%s</title><rect width="100%%" height="100%%" fill="#ffffff"/>`, html.EscapeString(c.Title))
	c.svg(&b, "#1b1f24", 0)
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// svg writes the shapes but the first few, which are the title's.
func (c *Chart) svg(b *strings.Builder, text string, skip int) {
	color := func(name string) string {
		switch name {
		case "":
			return "none"
		case ink:
			return text
		}
		return name
	}
	for _, s := range c.shapes[skip:] {
		var name, body string
		at := fmt.Sprintf(` fill="%s"`, color(s.fill))
		if s.alpha > 0 {
			at += fmt.Sprintf(` opacity="%s"`, number(s.alpha))
		}
		if s.series != "" {
			at += fmt.Sprintf(` data-s="%s"`, html.EscapeString(s.series))
		}
		if s.line != "" {
			at += fmt.Sprintf(` stroke="%s" stroke-width="%s"`, color(s.line), number(s.width))
		}
		if s.dash != nil {
			at += ` stroke-dasharray="` + strings.Trim(fmt.Sprint(s.dash), "[]") + `"`
		}
		x, y := number(s.points[0][0]), number(s.points[0][1])
		switch {
		case s.text != "":
			name, body = "text", html.EscapeString(s.text)
			at += fmt.Sprintf(` x="%s" y="%s" font-size="%s"`, x, y, number(s.size))
			if s.anchor != "" && s.anchor != start {
				at += ` text-anchor="` + s.anchor + `"`
			}
			if s.bold {
				at += ` font-weight="600"`
			}
		case s.radius > 0:
			name = "circle"
			at += fmt.Sprintf(` cx="%s" cy="%s" r="%s"`, x, y, number(s.radius))
		default:
			name = "path"
			var d strings.Builder
			for i, p := range s.points {
				d.WriteString(map[bool]string{true: "M", false: "L"}[i == 0] + number(p[0]) + " " + number(p[1]))
			}
			if s.fill != "" {
				d.WriteString("Z")
			}
			at += ` d="` + d.String() + `"`
		}
		if s.title != "" {
			body += "<title>" + html.EscapeString(s.title) + "</title>"
		}
		fmt.Fprintf(b, "<%s%s>%s</%s>", name, at, body, name)
	}
}

// number is a coordinate with two digits.
func number(v float64) string { return strconv.FormatFloat(math.Round(100*v)/100, 'f', -1, 64) }

// PDF writes the chart as a file.
func (c *Chart) PDF(w io.Writer) error {
	d := document(c.w, c.h)
	d.SetTitle(c.Title, true)
	rgb := func(name string) (r, g, b int) {
		if name == ink {
			name = "#1b1f24"
		}
		v, _ := strconv.ParseUint(strings.TrimPrefix(name, "#"), 16, 32)
		return int(v >> 16), int(v >> 8 & 255), int(v & 255)
	}
	for _, s := range c.shapes {
		d.SetAlpha(map[bool]float64{true: 1, false: s.alpha}[s.alpha == 0], "Normal")
		x, y := s.points[0][0], s.points[0][1]
		if s.text != "" {
			d.SetFont("sans", map[bool]string{true: "B"}[s.bold], s.size)
			d.SetTextColor(rgb(s.fill))
			d.Text(x-d.GetStringWidth(s.text)*map[string]float64{middle: 0.5, end: 1}[s.anchor], y, s.text)
			continue
		}
		style := ""
		if s.line != "" {
			d.SetDrawColor(rgb(s.line))
			d.SetLineWidth(s.width)
			d.SetDashPattern(s.dash, 0)
			style = "D"
		}
		if s.fill != "" {
			d.SetFillColor(rgb(s.fill))
			style += "F"
		}
		if s.radius > 0 {
			d.Circle(x, y, s.radius, style)
			continue
		}
		d.MoveTo(x, y)
		for _, p := range s.points[1:] {
			d.LineTo(p[0], p[1])
		}
		if s.fill != "" {
			d.ClosePath()
		}
		d.DrawPath(style)
	}
	return d.Output(w)
}
