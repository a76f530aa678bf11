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

# For make vm.
TIMEOUT ?= 2h
# For make verify, make soak, make fuzz (seconds) and make crash.
T ?= 60s
ROUNDS ?= 300
# For make instrument.
OUT ?= docs/results
# For make deps.
FOR ?= test
export CMD

.DEFAULT_GOAL := build
.PHONY: help deps build run check test test-long verify crash soak fuzz bench bench-store peers peers-rdma instrument doctor vm release rdma-setup rdma-undo clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## FOR=test: install what is missing for build, test, run, vm, bench-store, peers or instrument; the targets below do so themselves
	@setup/install.sh $(FOR)

build: ## bin/kvwire, with io_uring and RDMA
	@$(MAKE) deps FOR=build
	go build -tags "$(TAGS)" -ldflags "$(LDFLAGS)" -o bin/kvwire ./cmd/kvwire

run: ## install what is missing, build, and measure: ratios in 5 minutes
	@$(MAKE) deps FOR=run
	@setup/measure.sh

check: ## format, vet, lint, and short tests of all packages: under 2 minutes
	@$(MAKE) deps FOR=build
	setup/check.sh

test: ## install what is missing, and run all tests: 25 minutes on 2 cores
	@$(MAKE) deps FOR=test
	setup/test.sh

test-long: ## all tests, nothing shortened, a minute of fuzzing for each target
	@$(MAKE) deps FOR=test
	setup/test.sh --long

verify: ## T=60s: is what clients see linearizable, on every transport, while processes are killed and disks fail?
	@$(MAKE) deps FOR=build
	go test -c -tags "$(TAGS)" -ldflags=-checklinkname=0 -o bin/verify.test ./verify
	bin/verify.test -test.run '^TestVerify$$' -test.timeout 0 -for $(T) -out bin/violations

crash: ## ROUNDS=300 [SEED=…]: does every acknowledged change survive SIGKILL at random moments under load, and during recovery?
	@$(MAKE) deps FOR=build
	go test -c -tags "$(TAGS)" -ldflags=-checklinkname=0 -o bin/verify.test ./verify
	bin/verify.test -test.run '^TestCrashes$$' -test.timeout 0 -rounds $(ROUNDS) $(if $(SEED),-seed $(SEED)) -out bin/violations

soak: ## T=60s: servers of all networks under load, with clients that come and go, hostile peers, and faults: is anything left behind?
	@$(MAKE) deps FOR=build
	go test -c -tags "$(TAGS)" -ldflags=-checklinkname=0 -o bin/verify.test ./verify
	bin/verify.test -test.run '^TestSoak$$' -test.timeout 0 -soak $(T)

fuzz: ## T=60s: each fuzz target for this time
	@$(MAKE) deps FOR=build
	setup/fuzz.sh $(T)

bench: ## Go benchmarks of all packages, in benchstat's form
	@$(MAKE) deps FOR=build
	go test -tags "$(TAGS)" -ldflags=-checklinkname=0 -run '^$$' -bench . -benchmem ./...

bench-store: ## the store compared with fio on the same disk, in alternation
	@$(MAKE) deps FOR=bench-store
	@$(MAKE) build
	bench/store.sh

peers: ## kvwire compared with redis-server, each loaded by redis-benchmark and by kvwire
	@$(MAKE) deps FOR=peers
	@$(MAKE) build
	bench/peers.sh

peers-rdma: ## kvwire with Valkey's programs over RDMA, in the guest: those of valkey-server, valkey-cli and valkey-benchmark that are in PATH
	@bench/peers.sh --rdma --check || exit 0; \
	$(MAKE) deps FOR=vm && $(MAKE) build && test/vm/vm.sh --timeout 1h -- bench/peers.sh --rdma

instrument: ## OUT=docs/results: test the method with trials whose true ratios are known (40 minutes)
	@$(MAKE) deps FOR=instrument
	@$(MAKE) build
	bin/kvwire instrument --output-dir $(OUT)

doctor: build ## list what works on this machine, and for the rest the reason and the remedy
	bin/kvwire doctor

vm: ## CMD='…': run a command in a guest with soft-RoCE; files in results/ and the exit code come back
ifdef CMD
	@$(MAKE) deps FOR=vm
	@$(MAKE) build
	@test/vm/vm.sh --timeout $(TIMEOUT) -- bash -c "$$CMD"
else
	@echo "make vm CMD='kvwire doctor'                               a line for bash, with bin/ in its PATH" >&2
	@echo "make vm CMD='kvwire run network-overhead' TIMEOUT=4h      default: $(TIMEOUT)" >&2
	@echo "test/vm/vm.sh --help                                      the guest itself, and two of them on a wire" >&2
	@exit 2
endif

release: ## bin/release: archives of the program with checksums; runs those for this machine
	@$(MAKE) deps FOR=build
	VERSION='$(VERSION)' setup/release.sh
	setup/release-trial.sh

rdma-setup: ## IF=eth0: give this machine a software RDMA device (asks first; YES=1: does not ask)
	@setup/rdma.sh $(if $(YES),--yes) add "$(IF)"

rdma-undo: ## remove what rdma-setup added
	@setup/rdma.sh $(if $(YES),--yes) undo

clean: ## remove bin/ (results/ stays)
	rm -rf bin
