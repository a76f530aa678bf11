package experiment_test

import (
	"fmt"
	"log"

	"github.com/kvwire/kvwire/lab/experiment"
)

// The text of a file becomes cells, and questions: cells that differ in the compared factor only. The caller names the flags that there are.
func ExampleRead() {
	anything := experiment.Rule{Parse: func(value string) (string, error) { return value, nil }}
	flags := experiment.Flags{"transport": anything, "depth": anything}
	x, err := experiment.Read("depth.yaml", []byte("name: depth\ntransport: [tcp, uring]\ndepth: [1, 16]\n"), flags)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(x.Cells), "cells; compared:", x.Compare)
	for _, q := range x.Questions() {
		fmt.Println("question:", q.Flags)
		for _, c := range q.Cells {
			fmt.Println("  cell:", x.Cells[c])
		}
	}
	// Output:
	// 4 cells; compared: transport
	// question: --depth=1
	//   cell: --transport=tcp --depth=1
	//   cell: --transport=uring --depth=1
	// question: --depth=16
	//   cell: --transport=tcp --depth=16
	//   cell: --transport=uring --depth=16
}
