package report

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
	"github.com/kvwire/kvwire/internal/testenv"
)

// page is one with all that a page can have, and with names that are not meant well.
func page(t *testing.T) *Page {
	t.Helper()
	p := pairs(10)
	p.Question = "value-bytes=64"
	compared, err := Compare([]Pairs{p}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	inter, err := Interactions([]Interaction{{Question: "mix=get", Factor: "depth", From: "1", To: "16", AtFrom: p, AtTo: p}})
	if err != nil {
		t.Fatal(err)
	}
	compared = append(compared, inter...)
	steps, err := Steps([]Rung{rung("network", 10, 5000), rung("store", 10, -2000)})
	if err != nil {
		t.Fatal(err)
	}
	variant := func(label string, ns int64) PageVariant {
		h := hdrhistogram.New(1, 1e10, 3)
		for k := int64(0); k < 200_000; k++ {
			_ = h.RecordValue(ns + k*k/1000)
		}
		return PageVariant{label, Row{Transport: label, Mix: "get", OpsPerS: F(1e9 / float64(ns)), LatP50Ns: I(ns), ClientUserNsPerOp: F(1000), ClientSysNsPerOp: F(500),
			ServerUserNsPerOp: F(700), ServerSysNsPerOp: F(300), Valid: B(true), Device: "rxe"}, h}
	}
	return &Page{Name: "a<script>alert(1)</script>", Description: "What & why?", Command: "kvwire run x", ID: "x-1", Generations: 10, Env: Env{Arch: "amd64", GitRev: "abc"},
		Warnings: []string{"3 of 40 runs were disturbed"}, Comparisons: compared, Carry: []Carry{{"depth=1", "ops_per_s", "uring", 0.95, 0.93, 0.97, 0.96, 12}, {"depth=1", "ops_per_s", "tcp", 1, 0.99, 1.01, 0.96, 12}},
		Questions: []PageQuestion{{"value-bytes=64", []PageVariant{variant("tcp", 20_000), variant("fast", 10_000), variant("<b>slow</b>", 25_000)}},
			{"empty", []PageVariant{{Label: "rdma", Row: Row{Transport: "rdma", SkippedReason: "there is none"}}}}},
		Stages: []PageStages{{"value-bytes=64", []StageBar{{"tcp", 10, map[string]float64{"store": 1000, "fabric_out": 3000, "total": 4000}}}}},
		Steps:  steps, Units: someUnits,
		Curves: []PageCurve{{"mix=get", []PageLine{{"tcp", []Row{{OpsPerS: F(1e4), LatP50Ns: I(10_000)}, {OpsPerS: F(1e5), LatP50Ns: I(90_000)}}}}}}}
}

func TestPageHoldsAllAndNeedsNothingElse(t *testing.T) {
	dir := t.TempDir()
	if err := WritePage(dir, page(t)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"What &amp; why?", "faster", "slower", "generations", "Interactions", "mix=get depth=16 / depth=1", "Carry-over", "0.930 to 0.970", "all 2 lines", "value-bytes=64", "3 of 40 runs were disturbed", "RDMA is soft-RoCE", "abc",
		"prefers-color-scheme: dark", "@media print", "Throughput and latency", "CPU time", "Where a request&#39;s time goes", "The ladder", "Units of the bills"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, never := range []string{"<script>alert", "<b>slow", "#010203", "src=", "<link", "Âµ", "@import", "url("} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if outside := regexp.MustCompile(`https?://[^"]*`).FindAllString(text, -1); len(outside) > 0 {
		for _, o := range outside {
			if !strings.HasPrefix(o, "http://www.w3.org/") { // names, which nobody fetches
				t.Errorf("the page refers to %s", o)
			}
		}
	}
	svgs := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1)
	if len(svgs) != 9 { // two forests, a curve, ratios, latencies, CPU, stages, two ladders
		t.Errorf("%d charts", len(svgs))
	}
	for i, s := range svgs {
		for d := xml.NewDecoder(strings.NewReader(s)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("chart %d: %v", i+1, err)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "charts", "*"))
	if len(files) != 2*len(svgs) {
		t.Errorf("%d files of %d charts", len(files), len(svgs))
	}
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if strings.HasSuffix(f, ".pdf") && !bytes.HasPrefix(b, []byte("%PDF-")) || strings.HasSuffix(f, ".svg") && !bytes.Contains(b, []byte("<svg")) {
			t.Errorf("%s is something else", f)
		}
	}
}

// A browser draws the page: text and bars have an extent.
func TestABrowserShowsThePage(t *testing.T) {
	testenv.NotShort(t, "a browser")
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			browser = p
			break
		}
	}
	if browser == "" {
		testenv.Need(t, "chromium", errors.New("none of chromium, chromium-browser and google-chrome (apt-get install chromium)"))
	}
	dir := t.TempDir()
	if err := WritePage(dir, page(t)); err != nil {
		t.Fatal(err)
	}
	// What is measured is written into the page, and the page dumped.
	name := filepath.Join(dir, "report.html")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	probe := `<script>
const wide = s => [...document.querySelectorAll(s)].filter(e => { const r = e.getBoundingClientRect(); return r.width > 2 && r.height > 2 }).length;
document.body.dataset.texts = wide('svg text'); document.body.dataset.shapes = wide('svg path, svg rect'); document.body.dataset.cells = wide('td');
document.body.dataset.over = document.documentElement.scrollWidth > innerWidth;
</script></body>`
	if err := os.WriteFile(name, bytes.Replace(b, []byte("</body>"), []byte(probe), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--user-data-dir="+filepath.Join(dir, "profile"), "--dump-dom", "file://"+name)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", browser, err)
	}
	for _, want := range []string{`data-texts="[0-9]{2,}"`, `data-shapes="[0-9]{2,}"`, `data-cells="[0-9]{2,}"`, `data-over="false"`} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("no %s in %s", want, regexp.MustCompile(`<body[^>]*>`).Find(out))
		}
	}
}

// The figures behind the page's texts are those of compare.csv and runs.csv, digit by digit.
func TestThePageHasTheFiguresOfTheFiles(t *testing.T) {
	dir := t.TempDir()
	p := page(t)
	if err := WritePage(dir, p); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`data-v="([^"]+)"`).FindAllStringSubmatch(string(b), -1) {
		shown[m[1]] = true
	}
	var file bytes.Buffer
	if err := WriteComparisons(&file, p.Comparisons); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	ratio, kind, variant := slices.Index(lines[0], "ratio"), slices.Index(lines[0], "kind"), slices.Index(lines[0], "variant")
	seen := 0
	for _, l := range lines[1:] {
		if l[kind] == KindRatio && l[variant] == "fast" && l[ratio] != "" {
			if seen++; !shown[l[ratio]] {
				t.Errorf("ratio %s is not in the page", l[ratio])
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d ratios of a variant in the page's table", seen)
	}
	for _, v := range p.Questions[0].Variants {
		for _, value := range []string{v.Row.OpsPerS.String(), v.Row.LatP50Ns.String()} {
			if !shown[value] {
				t.Errorf("%s: %s is not in the page", v.Label, value)
			}
		}
	}
}

// The first sentence has the ratio and its interval.
func TestTheAnswerIsInASentence(t *testing.T) {
	p := page(t)
	p.Factor = "transport"
	p.Questions[0].Variants[1].Row.Transport = "uring"
	c := find(t, p.Comparisons, "fast", "lat_p50_ns")
	want := "The median latency is " + RatioText(c.Ratio) + "× " + c.Brackets() + " that of TCP over io_uring sockets."
	if got := p.answer(); len(got) == 0 || !strings.HasPrefix(got[0], strings.TrimSuffix(want, ".")) {
		t.Errorf("%q, want %q", got, want)
	}
}

// Variants over one network have their labels in the sentence; of many variants it has the lowest and the highest.
func TestTheAnswerNamesVariantsOfOneNetwork(t *testing.T) {
	p := page(t)
	p.Factor = "transport"
	q := &p.Questions[0]
	fast := find(t, p.Comparisons, "fast", "lat_p50_ns")
	for i, ratio := range []float64{0.5, 3, 2, 0.25, 4, 5} {
		v, c := q.Variants[1], fast
		label := "uring " + strconv.Itoa(i)
		v.Label, c.Variant, c.Ratio, v.Row.Transport = label, label, ratio, "uring"
		q.Variants, p.Comparisons = append(q.Variants, v), append(p.Comparisons, c)
		if got := strings.Join(p.answer(), " "); i == 1 && (!strings.Contains(got, "with uring 0") || !strings.Contains(got, "with uring 1")) {
			t.Errorf("two over one network: %q", got)
		}
	}
	got := p.answer()[0]
	if !strings.Contains(got, "with uring 3") || !strings.Contains(got, "with uring 5") || strings.Contains(got, "uring 1") || !strings.Contains(got, "the lowest and the highest of ") {
		t.Errorf("six over one network: %q", got)
	}
}

// Each file of a chart is named by its question and metric.
func TestChartsHaveNames(t *testing.T) {
	dir := t.TempDir()
	if err := WritePage(dir, page(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"all.lat_p50_ns.svg", "all.ops_per_s.pdf", "value-bytes-64.ratios.svg", "value-bytes-64.latency.pdf", "value-bytes-64.cpu.svg", "value-bytes-64.stages.svg", "mix-get.load.svg"} {
		if _, err := os.Stat(filepath.Join(dir, "charts", name)); err != nil {
			t.Error(err)
		}
	}
}

// A page to publish refers only to files of its own folder.
func TestAPageWithoutChartsHasAPicture(t *testing.T) {
	dir := t.TempDir()
	p := page(t)
	p.NoCharts = true
	if err := WritePage(dir, p); err != nil {
		t.Fatal(err)
	}
	if picture, err := os.ReadFile(filepath.Join(dir, PictureFile)); err != nil || !bytes.Contains(picture, []byte("CPU time per operation")) {
		t.Errorf("%s: %v", PictureFile, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil || bytes.Contains(b, []byte("charts/")) {
		t.Errorf("the page refers to charts/ (%v)", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "charts")); err == nil {
		t.Error("there is a folder charts")
	}
}

// A column without values is left out, and the next column, the ratio, has its name.
func TestColumnsWithoutValuesAreLeftOut(t *testing.T) {
	rates := []cardCell{{"1M", "1e6"}, {unity, "1"}}
	c := card{Rows: []cardRow{
		{Cells: append([]cardCell{{"2 µs", "2000"}, {unity, "1"}, {na, ""}, {unity, "1"}, {na, ""}, {na, ""}}, rates...)},
		{Cells: append([]cardCell{{"4 µs", "4000"}, {"2.00", "2"}, {na, ""}, {"3.00", "3"}, {na, ""}, {na, ""}}, rates...)},
	}}
	c.columns()
	if want := []string{"CPU per operation", "ratio", "p50 ratio", "ops/s"}; !slices.Equal(c.Heads, want) || len(c.Rows[1].Cells) != len(want) || c.Rows[1].Cells[2].Text != "3.00" {
		t.Errorf("%q, %v", c.Heads, c.Rows[1].Cells)
	}
}
