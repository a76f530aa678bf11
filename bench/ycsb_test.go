package bench

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The core workloads, as Cooper et al. (2010) define them, in the form that YCSB reads.
const ycsbCommon = `recordcount=1000
operationcount=1000
workload=site.ycsb.workloads.CoreWorkload
readallfields=true
`

var ycsbCore = map[string]string{
	"a": ycsbCommon + "readproportion=0.5\nupdateproportion=0.5\nscanproportion=0\ninsertproportion=0\nrequestdistribution=zipfian\n",
	"b": ycsbCommon + "readproportion=0.95\nupdateproportion=0.05\nscanproportion=0\ninsertproportion=0\nrequestdistribution=zipfian\n",
	"c": ycsbCommon + "readproportion=1\nupdateproportion=0\nscanproportion=0\ninsertproportion=0\nrequestdistribution=zipfian\n",
	"d": ycsbCommon + "readproportion=0.95\nupdateproportion=0\nscanproportion=0\ninsertproportion=0.05\nrequestdistribution=latest\n",
	"e": ycsbCommon + "readproportion=0\nupdateproportion=0\nscanproportion=0.95\ninsertproportion=0.05\nrequestdistribution=zipfian\nmaxscanlength=100\nscanlengthdistribution=uniform\n",
	"f": ycsbCommon + "readproportion=0.5\nupdateproportion=0\nscanproportion=0\ninsertproportion=0\nreadmodifywriteproportion=0.5\nrequestdistribution=zipfian\n",
}

func TestYCSBsCoreWorkloadsAreOurMixes(t *testing.T) {
	for letter, text := range ycsbCore {
		w, err := ParseWorkload("some/workload"+letter, []byte(text))
		if err != nil {
			t.Errorf("%s: %v", letter, err)
			continue
		}
		other := strings.Replace(text, "site.ycsb.workloads.CoreWorkload", "core", 1) // as go-ycsb's files have it
		if again, err := ParseWorkload("some/workload"+letter, []byte(other)); other == text || err != nil || !reflect.DeepEqual(again, w) {
			t.Errorf("%s of go-ycsb: %+v (%v)", letter, again, err)
		}
		want, _ := ParseMix(letter)
		got, err := ParseMix(w.Mix)
		if err != nil {
			t.Errorf("%s: mix %q: %v", letter, w.Mix, err)
		}
		for k := range want.Share {
			if math.Abs(got.Share[k]-want.Share[k]) > 1e-12 {
				t.Errorf("%s: share of %v is %v, expected %v", letter, Kind(k), got.Share[k], want.Share[k])
			}
		}
		scan := 0
		if letter == "e" {
			scan = 100
		}
		if w.KeyDist != want.dist || w.Records != 1000 || w.ValueBytes != 1000 || w.ValueDist != FixedSize || w.ScanItems != scan || w.Name != "workload"+letter {
			t.Errorf("%s: %+v", letter, w)
		}
		if !strings.Contains(w.Note, "without effect: operationcount") || strings.Contains(w.Note, "unknown") {
			t.Errorf("%s: note %q", letter, w.Note)
		}
	}
}

func TestWorkloadHasYCSBsDefaults(t *testing.T) {
	w, err := ParseWorkload("w", []byte("table=t"))
	want := &Workload{Name: "w", Mix: "get=0.95,put=0.05", KeyDist: Uniform, ValueBytes: 1000, Note: "updates write all fields (writeallfields=true); without effect: table"}
	if err != nil || !reflect.DeepEqual(w, want) {
		t.Errorf("%v: %+v", err, w)
	}
	scans, err := ParseWorkload("w", []byte("scanproportion=1"))
	if err != nil || scans.ScanItems != 1000 || scans.Mix != "get=0.95,put=0.05,scan=1" {
		t.Errorf("%v: %+v", err, scans)
	}
}

func TestWorkloadReadsTheSupportedKeys(t *testing.T) {
	for _, c := range []struct {
		text string
		want func(w *Workload) // from the defaults
	}{
		{"readproportion=1\nupdateproportion=3", func(w *Workload) { w.Mix = "get=1,put=3" }}, // YCSB divides by the sum
		{"readproportion:1\nupdateproportion 0\nworkload com.yahoo.ycsb.workloads.CoreWorkload", func(w *Workload) { w.Mix = "get=1" }},
		{"fieldcount=4\nfieldlength=25\nwriteallfields=TRUE", func(w *Workload) { w.ValueBytes = 100 }},
		{"fieldcount=1\nfieldlength=64\nfieldlengthdistribution=uniform", func(w *Workload) { w.ValueBytes, w.ValueDist, w.ValueMinBytes = 64, UniformSizes, 1 }},
		{"fieldcount=1\nfieldlength=64\nfieldlengthdistribution=zipfian\nminfieldlength=8", func(w *Workload) { w.ValueBytes, w.ValueDist, w.ValueMinBytes = 64, ZipfianSizes, 8 }},
		{"fieldcount=1\nreadallfields=false", func(w *Workload) { w.ValueBytes = 100 }},
		{"threadcount=16\ntarget=5000\nmaxexecutiontime=30", func(w *Workload) { w.Threads, w.TargetPerS, w.Duration = 16, 5000, 30*time.Second }},
		{"recordcount=2000000\ninsertcount=2000000\ninsertstart=0", func(w *Workload) { w.Records = 2000000 }},
		{"insertproportion=1\ninsertorder=ordered\nreadproportion=0\nupdateproportion=0", func(w *Workload) { w.Mix = "insert=1" }},
		{"scanlengthdistribution=zipfian\nminscanlength=5", func(*Workload) {}}, // it does not scan
		{"requestdistribution=latest", func(w *Workload) { w.KeyDist = Latest }},
	} {
		want := Workload{Name: "w", Mix: "get=0.95,put=0.05", KeyDist: Uniform, ValueBytes: 1000}
		c.want(&want)
		w, err := ParseWorkload("w", []byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		w.Note = ""
		if *w != want {
			t.Errorf("%q:\n%+v\n%+v", c.text, *w, want)
		}
	}
}

func TestWorkloadThatIsNoPropertyFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "w: it has no property of YCSB",
		"time,op,key,size\n0,get,a,1\n": "w: it has no property of YCSB",
		"table=t\nrecrdcount=5":         `w:2: "recrdcount" is not a property of YCSB; do you mean "recordcount"?`,
	} {
		if _, err := ParseWorkload("w", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestWorkloadNotesWhatHasNoEffect(t *testing.T) {
	for text, want := range map[string]string{
		"readproportion=1\nupdateproportion=0":                                  "",
		"updateproportion=0\nzeropadding=8\ntable=t\noperationcount=9":          "without effect: operationcount, table, zeropadding",
		"updateproportion=0\nredis.host=there\ntable=t\nmy key\\ =1":            `without effect: table; unknown: "my", "redis.host"`,
		"updateproportion=0\nscanproportion=1\ninsertorder=hashed":              "keys are in the order of the records (insertorder=ordered)",
		"updateproportion=0\nfieldlengthdistribution=constant\nmaxscanlength=9": "without effect: maxscanlength",
		"writeallfields=false":                "updates write all fields (writeallfields=true)",
		"updateproportion=0\n" + manyKeys(25): `unknown: ` + quotedKeys(20) + `, and 5 more`,
	} {
		w, err := ParseWorkload("w", []byte(text))
		if err != nil || w.Note != want || strings.Contains(w.Note, "\n") {
			t.Errorf("%q: %v\n%s\n%s", text, err, w.Note, want)
		}
	}
}

func TestWorkloadWithZeroBytesIsRefused(t *testing.T) {
	for _, text := range []string{"w\x00o\x00r\x00k\x00=\x00c\x00\n\x00", "\x00a\x00=\x001", "readproportion=1\n\x00"} {
		if w, err := ParseWorkload("w", []byte(text)); err == nil || !strings.Contains(err.Error(), "w: has zero bytes") {
			t.Errorf("%q: %+v, %v", text, w, err)
		}
	}
}

func manyKeys(n int) string {
	s := ""
	for i := range n {
		s += "k" + string(rune('a'+i)) + "=1\n"
	}
	return s
}

func quotedKeys(n int) string {
	var s []string
	for i := range n {
		s = append(s, `"k`+string(rune('a'+i))+`"`)
	}
	return strings.Join(s, ", ")
}

func TestWorkloadNamesTheMistakeAndItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"\n# none\nrecordcount=many":                                        `dir/w:3: recordcount "many" is not a whole number from 1 to`,
		"recordcount=0":                                                     `dir/w:1: recordcount "0"`,
		"recordcount=-5":                                                    `dir/w:1: recordcount "-5"`,
		"recordcount=5\nrecordcount=6":                                      `dir/w:2: "recordcount" is "6" here and "5" on line 1`,
		"readproportion=half":                                               `dir/w:1: readproportion "half" is not a number of 0 or more`,
		"readproportion=-1":                                                 `dir/w:1: readproportion "-1"`,
		"readproportion=NaN":                                                `dir/w:1: readproportion "NaN"`,
		"\nreadproportion=0\nupdateproportion=0":                            `dir/w:2: readproportion and the other proportions are all 0`,
		"updateproportion=1e308\nreadproportion=1e308":                      `dir/w:2: readproportion and the other proportions: `,
		"workload=site.ycsb.workloads.TimeSeriesWorkload":                   `dir/w:1: workload "site.ycsb.workloads.TimeSeriesWorkload" is not supported`,
		"requestdistribution=zipfian-records":                               `dir/w:1: requestdistribution "zipfian-records" is not supported: uniform, zipfian or latest`,
		"a=1\nrequestdistribution=hotspot":                                  `dir/w:2: requestdistribution "hotspot" is not supported: uniform, zipfian or latest`,
		"requestdistribution=sequential":                                    `"sequential" is not supported`,
		"requestdistribution=trace":                                         `"trace" is not supported`,
		"scanproportion=1\nscanlengthdistribution=zipfian":                  `dir/w:2: scanlengthdistribution "zipfian" is not supported`,
		"scanproportion=1\nmaxscanlength=0":                                 `dir/w:2: maxscanlength "0"`,
		"scanproportion=1\nminscanlength=10":                                `dir/w:2: minscanlength 10 is not supported`,
		"readallfields=false":                                               `dir/w:1: readallfields false is not supported`,
		"readallfields=perhaps":                                             `dir/w:1: readallfields "perhaps" is not true or false`,
		"fieldlength=16777216":                                              `dir/w:1: fieldlength 16777216 × fieldcount 10: values may have at most 16777216 B`,
		"fieldcount=99999999999999999999":                                   `dir/w:1: fieldcount`,
		"fieldlengthdistribution=histogram":                                 `dir/w:1: fieldlengthdistribution "histogram" is not supported`,
		"fieldlengthdistribution=uniform":                                   `dir/w:1: fieldlengthdistribution uniform of 10 fields is not supported`,
		"fieldcount=1\nfieldlengthdistribution=uniform\nminfieldlength=101": `dir/w:3: minfieldlength "101"`,
		"insertstart=100":                                                   `dir/w:1: insertstart 100 is not supported`,
		"recordcount=9\ninsertcount=5":                                      `dir/w:2: insertcount 5 is not recordcount (9)`,
		"threadcount=0":                                                     `dir/w:1: threadcount "0"`,
		"target=5.5":                                                        `dir/w:1: target "5.5"`,
		"maxexecutiontime=99999999999":                                      `dir/w:1: maxexecutiontime`,
		"a=1\\\n  2\nb=\\u12":                                               `dir/w:3: \u"12" is not a character`,
		"recordcount=" + strings.Repeat("9", 100):                           strings.Repeat("9", 40) + "…",
		strings.Repeat("#", workloadBytes+1):                                `dir/w: larger than 1048576 bytes`,
	} {
		_, err := ParseWorkload("dir/w", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.60q:\ngot  %v\nwant %s", text, err, want)
		}
	}
	if _, err := ReadWorkload(t.TempDir() + "/none"); err == nil || !strings.Contains(err.Error(), "name a YCSB property file") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What java.util.Properties.load makes of the same text, by its documentation.
func TestPropertiesAreReadAsJavaReadsThem(t *testing.T) {
	for text, want := range map[string][]property{
		"":                                      nil,
		"# c\n! c\n \t\f\n  # c":                nil,
		"a=1":                                   {{"a", "1", 1}},
		" a  =  1 ":                             {{"a", "1", 1}},
		"a:1\r\nb 2\rc\t=\t3":                   {{"a", "1", 1}, {"b", "2", 2}, {"c", "3", 3}},
		"a==b\nc=:d\ne = = f":                   {{"a", "=b", 1}, {"c", ":d", 2}, {"e", "= f", 3}},
		"a":                                     {{"a", "", 1}},
		"=1":                                    {{"", "1", 1}},
		"a=1 \\\n   , 2\\\n\n# c\nb=2":          {{"a", "1 , 2", 1}, {"b", "2", 5}},
		"a=1\\\n#2":                             {{"a", "1#2", 1}},
		"a=1\\\\\nb=2":                          {{"a", "1\\", 1}, {"b", "2", 2}},
		"a\\=\\:\\ b=c":                         {{"a=: b", "c", 1}},
		"a=\\t\\n\\u0041\\u00e9\\q\\\\x":        {{"a", "Aéq\\x", 1}},
		"a=\\u0041\\t\\r\\f\\nB":                {{"a", "A\t\r\f\nB", 1}},
		"a=1\\":                                 {{"a", "1", 1}},
		"\\":                                    {{"", "", 1}},
		"cheeses":                               {{"cheeses", "", 1}},
		"fruits   apple, banana, \\\n   cherry": {{"fruits", "apple, banana, cherry", 1}},
	} {
		got, err := parseProperties("f", []byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v\n%+v\n%+v", text, err, got, want)
		}
	}
	for _, text := range []string{`a=\u`, `a=\u00g0`, `\u1=`, `a=\u+123`} {
		if _, err := parseProperties("f", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), `f:1: \u`) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Whatever is taken can be run.
func FuzzParseWorkload(f *testing.F) {
	for _, text := range ycsbCore {
		f.Add([]byte(text))
	}
	f.Add([]byte("a\\u0041 : \\\n b\nrecordcount 5\\\n\nfieldcount=1\nfieldlengthdistribution=uniform\nthreadcount=4\ntarget=9"))
	f.Fuzz(func(t *testing.T, text []byte) {
		w, err := ParseWorkload("w", text)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") || w != nil {
				t.Fatalf("%q, %v", err, w)
			}
			return
		}
		if strings.ContainsAny(w.Note, "\n\r") {
			t.Fatalf("%q", w.Note)
		}
		s := Spec{Mix: w.Mix, KeyDist: w.KeyDist, Records: w.Records, ValueBytes: w.ValueBytes, ValueDist: w.ValueDist, ValueMinBytes: w.ValueMinBytes,
			ScanItems: w.ScanItems, Duration: w.Duration}
		if w.TargetPerS > 0 {
			s.Loop, s.TargetPerS = Open, float64(w.TargetPerS)
		}
		if err := s.Check(); err != nil {
			t.Fatalf("%+v: %v", w, err)
		}
	})
}
