package rdma

import (
	"strings"
	"testing"
)

func TestUnavailableIsHonestInEveryBuild(t *testing.T) {
	err := Unavailable()
	if err == nil || !strings.Contains(err.Error(), "not implemented in this version") {
		t.Fatalf("a transport that does not exist says %v", err)
	}
	t.Log(err)
}
