package stats_test

import (
	"fmt"
	"log"
	"math"

	"github.com/kvwire/kvwire/lab/stats"
)

// The CPU time of an operation over tcp and over a call, in twelve generations: the ratio with its exact interval, from the log-ratios of the pairs.
func ExamplePaired() {
	call := []float64{510, 498, 505, 520, 515, 500, 507, 511, 499, 503, 509, 513}
	tcp := []float64{2900, 2810, 2850, 3020, 2960, 2790, 2880, 2930, 2805, 2840, 2905, 2950}
	var d []float64
	for i := range call {
		d = append(d, math.Log(tcp[i]/call[i]))
	}
	e, err := stats.Paired(d, 0.95)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f× [%.2f, %.2f] from %d pairs\n", math.Exp(e.Estimate), math.Exp(e.Low), math.Exp(e.High), e.N)
	// Output:
	// 5.69× [5.64, 5.73] from 12 pairs
}

// Two claims judged together: a difference of about 20 %, and none beyond 3 %.
func ExampleJudgeFamily() {
	slower := []float64{0.18, 0.20, 0.19, 0.21, 0.17, 0.22, 0.20, 0.18, 0.19, 0.21}
	same := []float64{0.004, -0.003, 0.002, -0.005, 0.001, 0.006, -0.002, 0.003, -0.004, 0.005}
	judged, err := stats.JudgeFamily([][]float64{slower, same}, stats.Alpha, stats.Matters)
	if err != nil {
		log.Fatal(err)
	}
	for _, j := range judged {
		fmt.Printf("%s: %.2f×\n", j.Verdict, math.Exp(j.Estimate))
	}
	// Output:
	// higher: 1.22×
	// same: 1.00×
}
