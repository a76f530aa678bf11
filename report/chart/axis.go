package chart

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// axis maps values to places.
type axis struct {
	low, high float64 // values at its ends
	from, to  float64 // places of its ends
	log       bool
}

// room is the part of an axis that stays free beyond the outermost value.
const room = 0.1

// logAxis spans the values with room on both sides.
func logAxis(low, high, from, to float64) axis {
	if high < low*1.3 {
		low, high = low/1.15, high*1.15
	}
	more := math.Pow(high/low, room)
	return axis{low / more, high * more, from, to, true}
}

// linearAxis spans 0 and the values, with room where there are some.
func linearAxis(low, high, from, to float64) axis {
	low, high = min(low, 0), max(high, 0)
	if low == high {
		high = 1
	}
	span := high - low
	if low < 0 {
		low -= room * span
	}
	return axis{low, high + room*span, from, to, false}
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// ticks are at 1, 2 and 5 times powers of ten; on a long logarithmic axis at powers of ten alone, and on a short one in even steps.
func (a axis) ticks(most int) (t []float64) {
	if a.log {
		if t = a.powers(1, 2, 5); len(t) > most {
			t = a.powers(1)
		}
		if len(t) > 2 {
			return t
		}
		t = nil
	}
	step := niceStep((a.high - a.low) / float64(most))
	for k := math.Ceil(a.low / step); k*step <= a.high; k++ {
		t = append(t, k*step+0) // +0: no -0
	}
	return t
}

// powers are the multiples of powers of ten on the axis.
func (a axis) powers(multiples ...float64) (t []float64) {
	for e := math.Floor(math.Log10(a.low)); e <= math.Ceil(math.Log10(a.high)); e++ {
		for _, k := range multiples {
			if v := k * math.Pow(10, e); v >= a.low*0.999 && v <= a.high*1.001 {
				t = append(t, v)
			}
		}
	}
	return t
}

// niceStep is the least 1, 2 or 5 times a power of ten that is no smaller.
func niceStep(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, k := range []float64{1, 2, 5} {
		if k*unit >= v*0.999 {
			return k * unit
		}
	}
	return 10 * unit
}

// plain formats a number without superfluous digits.
func plain(v float64) string {
	return strings.Replace(strconv.FormatFloat(v, 'g', 4, 64), "-", "−", 1)
}

var fraction = regexp.MustCompile(`\.[0-9]+`)

// tickText removes zeros at the end of a fraction: "1.00 µs" is "1 µs", "2.50M" is "2.5M".
func tickText(label string) string {
	return fraction.ReplaceAllStringFunc(label, func(f string) string { return strings.TrimRight(strings.TrimRight(f, "0"), ".") })
}

// vertical draws a horizontal axis with its grid.
func (c *Chart) vertical(a axis, y0, y1 float64, title string, label func(v float64) string) {
	c.grid(a, y0, y1)
	c.scale(a, y1, title, label)
}

// grid draws lines at the ticks of a horizontal axis.
func (c *Chart) grid(a axis, y0, y1 float64) {
	for _, v := range a.ticks(8) {
		c.stroke(ink, 0.5, 0.18, [2]float64{a.at(v), y0}, [2]float64{a.at(v), y1})
	}
}

// scale draws a horizontal axis at y, its labels as far as they have room, and its title.
func (c *Chart) scale(a axis, y float64, title string, label func(v float64) string) {
	last := math.Inf(-1)
	for _, v := range a.ticks(8) {
		x, text := a.at(v), tickText(label(v))
		if half := textWidth(text, smallSize) / 2; x-half > last+3 && x+half <= c.w {
			c.label(x, y+11, middle, text)
			last = x + half
		}
	}
	c.stroke(ink, 0.7, 0.6, [2]float64{a.from, y}, [2]float64{a.to, y})
	c.label((a.from+a.to)/2, y+24, middle, title)
}

// horizontal draws grid lines at the given values of a vertical axis, with labels at its left.
func (c *Chart) horizontal(a axis, x0, x1 float64, values []float64, label func(v float64) string) {
	last := math.Inf(1)
	for _, v := range values {
		y := a.at(v)
		c.stroke(ink, 0.5, 0.18, [2]float64{x0, y}, [2]float64{x1, y})
		if last-y >= smallSize {
			c.label(x0-4, y+3, end, tickText(label(v)))
			last = y
		}
	}
	c.stroke(ink, 0.7, 0.6, [2]float64{x0, a.from}, [2]float64{x0, a.to})
}
