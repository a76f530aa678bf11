package report

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dataPackage is datapackage.json: a Frictionless Data Package (specs.frictionlessdata.io, version 1) with a tabular resource for
// each CSV file, so that a reader finds type, unit and meaning of each column with the data.
type dataPackage struct {
	Profile   string         `json:"profile"`
	Name      string         `json:"name"`
	Title     string         `json:"title"`
	Licenses  []dataLicense  `json:"licenses"`
	Resources []dataResource `json:"resources"`
}

type dataLicense struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	Title string `json:"title"`
}

// apache is kvwire's own licence, which covers the results that it writes.
var apache = dataLicense{"Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", "Apache License, Version 2.0"}

type dataResource struct {
	Profile     string     `json:"profile"`
	Name        string     `json:"name"`
	Path        string     `json:"path"`
	Title       string     `json:"title"`
	Format      string     `json:"format"`
	MediaType   string     `json:"mediatype"`
	Compression string     `json:"compression,omitempty"`
	Encoding    string     `json:"encoding"`
	Schema      dataSchema `json:"schema"`
}

type dataSchema struct {
	Fields        []dataField `json:"fields"`
	MissingValues []string    `json:"missingValues"`
	PrimaryKey    []string    `json:"primaryKey,omitempty"`
	ForeignKeys   []dataKey   `json:"foreignKeys,omitempty"`
}

type dataField struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Format      string `json:"format,omitempty"`
	Unit        string `json:"unit,omitempty"`
	Description string `json:"description"`
}

type dataKey struct {
	Fields    []string `json:"fields"`
	Reference struct {
		Resource string   `json:"resource"`
		Fields   []string `json:"fields"`
	} `json:"reference"`
}

// table is one of our CSV files.
type table struct {
	name, path, title string
	fields            []tableField
	key               []string // none where a part of it may be empty, which a key may not
	ofRun             bool
}

func tables() []table {
	return []table{
		{"runs", "runs.csv", "one row for each run", rowSchema().columns, []string{"run_id"}, false},
		{"slices", SlicesFile, "one row for each slice of a run", sliceSchema.columns, []string{"run_id", "slice"}, true},
		{"carryover", CarryFile, "the effect of each variant on the slice after its own", carryColumns, nil, false},
		{"compare", "compare.csv", "each variant compared with its baseline, by each metric", compareColumns, nil, false},
		{"steps", "steps.csv", "what each step of the ladder adds to the one below it", stepColumns, nil, false},
		{"bill", "bill.csv", "what the CPU time of each cell's operations is made of", billColumns, nil, false},
		{"stages", stagesFile, "where the time of the requests that were watched has gone", stageColumns, []string{"run_id", "op", "stage"}, true},
		{"timeseries", seriesName, "throughput and latency over the window of each run", seriesColumns, []string{"run_id", "begin_ns"}, true},
		{"hist", histName, "durations of each run, as counts in buckets", histColumns, []string{"run_id", "kind", "lower_ns"}, true},
	}
}

// version1Names are columns of version 1 with their present names.
var version1Names = map[string]string{"block": "generation", "order_in_block": "order_in_generation", "pairs": "generations"}

// files are those of the table in dir, with others of the same columns: runs.csv, runs-guest.csv.
func (t *table) files(dir string) (names []string) {
	if _, err := os.Stat(filepath.Join(dir, t.path)); err == nil {
		names = append(names, t.path)
	}
	stem, ext, _ := strings.Cut(t.path, ".")
	more, _ := filepath.Glob(filepath.Join(dir, stem+"-*."+ext)) // sorted
	for _, m := range more {
		names = append(names, filepath.Base(m))
	}
	return names
}

// fieldsOf are the columns that a file has, which may be fewer or of version 1.
func (t *table) fieldsOf(name string) ([]tableField, error) {
	if filepath.Ext(name) == ".gz" { // this program has written it
		return t.fields, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header, err := csv.NewReader(io.LimitReader(f, maxFieldBytes)).Read()
	if err != nil {
		return nil, fmt.Errorf("report: header of %s: %w", name, err)
	}
	fields := make([]tableField, len(header))
	for i, column := range header {
		fields[i] = tableField{column, "any", "a column of version 1, which later files do not have"}
		k := slices.IndexFunc(t.fields, func(f tableField) bool { return f.name == cmp.Or(version1Names[column], column) })
		if k >= 0 {
			fields[i].kind, fields[i].meaning = t.fields[k].kind, t.fields[k].meaning
		}
	}
	return fields, nil
}

// WritePackage writes datapackage.json for those of our CSV files that are in dir.
func WritePackage(dir, name string) error {
	p := dataPackage{Profile: "tabular-data-package", Name: name, Title: "kvwire: the experiment " + name, Licenses: []dataLicense{apache}}
	for _, r := range tables() {
		for _, file := range r.files(dir) {
			fields, err := r.fieldsOf(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(file, ".")
			d := dataResource{Profile: "tabular-data-resource", Name: name, Path: file, Title: r.title, Format: "csv", MediaType: "text/csv", Encoding: "utf-8",
				Schema: dataSchema{Fields: describe(fields), MissingValues: []string{""}, PrimaryKey: r.key}}
			if filepath.Ext(file) == ".gz" {
				d.Compression = "gz"
			}
			if r.ofRun {
				k := dataKey{Fields: []string{"run_id"}}
				k.Reference.Resource, k.Reference.Fields = "runs", []string{"run_id"}
				d.Schema.ForeignKeys = []dataKey{k}
			}
			p.Resources = append(p.Resources, d)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	if err := e.Encode(p); err != nil {
		return fmt.Errorf("report: datapackage.json: %w", err)
	}
	return WriteFile(filepath.Join(dir, "datapackage.json"), b.Bytes())
}

func describe(fields []tableField) (all []dataField) {
	for _, f := range fields {
		d := dataField{Name: f.name, Type: f.kind, Unit: unitOf(f.name), Description: f.meaning}
		if f.kind == "datetime" {
			d.Format = "any" // RFC 3339 with a fraction of a second
		}
		all = append(all, d)
	}
	return all
}
