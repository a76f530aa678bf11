//go:build rdma && cgo && linux

package verbs

import (
	"errors"
	"unsafe"

	"github.com/kvwire/kvwire/cgo/verbs/model"
	"github.com/kvwire/kvwire/internal/arena"
)

// modelSymbols is the model's function that returns libibverbs' functions; nil: libibverbs is used.
var modelSymbols unsafe.Pointer

// UseModel makes this process use the model of a device instead of libibverbs. It may be called once, before anything else of this package.
func UseModel(l Link) error {
	if modelSymbols != nil {
		return errors.New("verbs: the model is in use already")
	}
	fd, mem, err := arena.Share()
	if err == nil {
		err = model.Start(l, fd, mem)
	}
	if err == nil {
		modelSymbols = model.Symbol()
	}
	return err
}

// Objects are what this process has made with the model and not freed, by the names of the rdma tool.
func Objects() map[string]int { return model.Objects() }

// RNRs is how often a message of this process has found no receive at its peer, with the model.
func RNRs() uint64 { return model.RNRs() }
