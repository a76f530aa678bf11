package chart

import "strconv"

// Colours of series are Okabe and Ito's (2008), which the colour-blind can distinguish: a network has the same one in every chart.
var networks = map[string]string{"inproc": "#009e73", "codec": "#cc79a7", "tcp": "#0072b2", "uring": "#e69f00", "rdma": "#d55e00", "udp": "#56b4e9"}

// others are for series that are no networks: Okabe and Ito's without black, the yellow darker.
var others = []string{"#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b3a100", "#5c6670"}

// parts are Tol's muted colours (2021): another family, for what bars are made of.
var parts = []string{"#332288", "#88ccee", "#882255", "#cc6677", "#117733", "#ddcc77", "#44aa99", "#aa4499", "#999933", "#6699cc", "#661100"}

// Grey is for what nothing explains.
const Grey = "#9aa0a6"

// Network is the colour of a network; "": it is none.
func Network(name string) string { return networks[name] }

// Other is the colour of the i-th series that is no network.
func Other(i int) string { return others[i%len(others)] }

// PartColour is the colour of the i-th part.
func PartColour(i int) string { return parts[i%len(parts)] }

// readable is black or white, whichever is legible on the colour.
func readable(color string) string {
	v, _ := strconv.ParseUint(color[1:], 16, 32)
	if 299*(v>>16)+587*(v>>8&255)+114*(v&255) > 150_000 {
		return "#000000"
	}
	return "#ffffff"
}

// dashes distinguish series of one colour.
func dashes(i int) []float64 { return [][]float64{nil, {5, 2}, {1.5, 2}, {7, 2, 1.5, 2}}[i%4] }
