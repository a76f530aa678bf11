// Command goycsb is go-ycsb (github.com/pingcap/go-ycsb, Apache 2.0) with its core workload and its Redis binding alone: the whole
// has a dozen databases' clients, some of which need C libraries.
//
//	goycsb load redis.addr=127.0.0.1:7070 recordcount=1000
//	goycsb run redis.addr=127.0.0.1:7070 recordcount=1000 operationcount=5000 readproportion=0.5 updateproportion=0.5
//
// It ends with 1 where an operation failed, or a value was read that is not the one that was written (dataintegrity=true).
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/magiconair/properties"
	_ "github.com/pingcap/go-ycsb/db/redis"
	"github.com/pingcap/go-ycsb/pkg/client"
	"github.com/pingcap/go-ycsb/pkg/measurement"
	_ "github.com/pingcap/go-ycsb/pkg/workload"
	"github.com/pingcap/go-ycsb/pkg/ycsb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "goycsb:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || args[0] != "load" && args[0] != "run" {
		return fmt.Errorf("load or run is expected, then properties: name=value")
	}
	p := properties.NewProperties()
	for name, value := range map[string]string{"redis.datatype": "string", "dataintegrity": "true", "measurementtype": "histogram", "silence": "true",
		"command": args[0], "threadcount": "1", "dotransactions": fmt.Sprint(args[0] == "run")} {
		_, _, _ = p.Set(name, value)
	}
	for _, a := range args[1:] {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("%q is no property: name=value", a)
		}
		if _, _, err := p.Set(name, value); err != nil {
			return err
		}
	}
	measurement.InitMeasure(p)
	workload, err := ycsb.GetWorkloadCreator("core").Create(p)
	if err != nil {
		return err
	}
	db, err := ycsb.GetDBCreator("redis").Create(p)
	if err != nil {
		return err
	}
	counted := &counting{DB: db}
	c := client.NewClient(p, workload, client.DbWrapper{DB: counted})
	c.Run(context.Background())
	measurement.Output()
	if n := counted.failed.Load(); n > 0 {
		return fmt.Errorf("%d operations failed, the first: %v", n, *counted.first.Load())
	}
	fmt.Println("goycsb: no operation failed")
	return nil
}

// counting counts what fails, which go-ycsb only prints.
type counting struct {
	ycsb.DB
	failed atomic.Int64
	first  atomic.Pointer[error]
}

func (c *counting) count(err error) error {
	if err != nil && c.failed.Add(1) == 1 {
		c.first.Store(&err)
	}
	return err
}

func (c *counting) Read(ctx context.Context, table, key string, fields []string) (map[string][]byte, error) {
	v, err := c.DB.Read(ctx, table, key, fields)
	return v, c.count(err)
}

func (c *counting) Update(ctx context.Context, table, key string, values map[string][]byte) error {
	return c.count(c.DB.Update(ctx, table, key, values))
}

func (c *counting) Insert(ctx context.Context, table, key string, values map[string][]byte) error {
	return c.count(c.DB.Insert(ctx, table, key, values))
}
