# GNU make. The native parts are build tags that a bare `go build ./...` leaves out; giouring
# reaches into the runtime's linker symbols, which Go allows with -checklinkname=0 only.
MAKEFLAGS += --no-print-directory
export PATH := $(PATH):/usr/local/go/bin
# A clone that root owns would make go's own version stamping fail.
export GOFLAGS := -buildvcs=false $(GOFLAGS)

TAGS    := giouring rdma
VERSION := $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -checklinkname=0 -X main.version=$(VERSION)
export KVWIRE_TAGS := $(TAGS)

.DEFAULT_GOAL := build
.PHONY: help build run test test-long bench doctor clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: ## bin/kvwire, with io_uring and RDMA
	@setup/install.sh build
	go build -tags "$(TAGS)" -ldflags "$(LDFLAGS)" -o bin/kvwire ./cmd/kvwire

run: build ## install what is missing, build, and measure: a table in about 2 minutes
	bin/kvwire run experiments/quick

test: ## install what is missing, and run all tests
	@setup/install.sh test
	setup/test.sh

test-long: ## all tests, nothing shortened, a minute of fuzzing for each target
	@setup/install.sh test
	setup/test.sh --long

bench: ## Go benchmarks of all packages, in benchstat's form
	@setup/install.sh build
	go test -tags "$(TAGS)" -ldflags=-checklinkname=0 -run '^$$' -bench . -benchmem ./...

doctor: build ## say what works on this machine and, where not, why and what to do
	bin/kvwire doctor

clean: ## remove bin/ (results/ stays)
	rm -rf bin
