package testenv

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// OpenFiles is how many descriptors this process has open, one of them for the look.
func OpenFiles() (int, error) {
	d, err := os.ReadDir("/proc/self/fd")
	return len(d), err
}

// RDMAObjects are the objects of these RDMA devices, by kind, as the rdma tool counts them; of all, if none is named.
func RDMAObjects(devices ...string) (map[string]int, error) {
	out, err := exec.Command("rdma", append([]string{"-j", "resource", "show"}, devices...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("rdma resource show: %w (apt-get install iproute2)", err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(out, &rows); err != nil {
		return nil, fmt.Errorf("rdma resource show: %w: %s", err, out)
	}
	if len(rows) == 0 || len(devices) > 0 && len(rows) != len(devices) {
		return nil, fmt.Errorf("rdma resource show: %d devices: %s", len(rows), out)
	}
	all := map[string]int{}
	for _, row := range rows {
		for _, kind := range []string{"qp", "cq", "mr", "pd", "srq", "cm_id"} {
			if n, ok := row[kind].(float64); ok {
				all[kind] += int(n)
			}
		}
	}
	return all, nil
}
