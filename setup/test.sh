#!/usr/bin/env bash
# test.sh [--long]: everything that must pass, in 25 minutes on 2 cores; --long takes hours, and 10 GB of disk. All runs here but the guest
# (if there is no RDMA device), which runs at the same time as the tests, and before the fuzzing; its output is printed behind theirs.
# KVWIRE_REQUIRE is the list of tests that must not be skipped: uring, netns (network namespaces), sshd (installed by hand, since its
# package starts it), chromium, redis (redis-cli), goycsb (go-ycsb), rdma (here or in the guest), auto (default: uring and netns, where the kernel has them).
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
export GOGC=${GOGC:-400} # as in check.sh
tags=(-tags "${KVWIRE_TAGS:-giouring rdma}")
native=("${tags[@]}" -ldflags='-checklinkname=0 -s -w') # linking a hundred programs takes a third less time without debugging tables
short=-short fuzz_seconds=2 guest_time=60m timeout=25m long=
if [[ ${1:-} == --long ]]; then
    short= fuzz_seconds=60 guest_time=5h timeout=2h long=1
    export KVWIRE_LONG=1
fi

out=bin/test
mkdir -p "$out"
: >"$out/failed" >"$out/untested" # a line each; all stages append to them
rm -f "$out"/*.test

step() { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }

# must COMMAND…: runs a command. A failure is also listed at the end. The other commands still run, so one run shows all failures.
must() {
    local code=0
    "$@" || code=$?
    ((code == 0)) || { fails "$* (exit code $code)" && echo "FAILED: $* (exit code $code); the rest goes on" >&2; }
}
fails() { printf '  %s\n' "$*" >>"$out/failed"; }

# kernel_has_uring tests the kernel without kvwire's own code, so that a bug there cannot cause tests to be skipped.
kernel_has_uring() {
    local sysctl=/proc/sys/kernel/io_uring_disabled
    if [[ -e $sysctl ]]; then # Linux 6.6 and later
        [[ $(<$sysctl) == 0 ]] || return 1
    else
        grep -q 'sys_io_uring_setup$' /proc/kallsyms 2>/dev/null || return 1
    fi
    grep -q '^Seccomp:[[:space:]]*0$' /proc/self/status
}
# kernel_has_netns likewise tests with ip.
kernel_has_netns() {
    local name=kvwire-probe-$$ code=0
    ((EUID == 0)) && ip netns add "$name" 2>/dev/null || return 1
    ip -n "$name" link add name probe0 type veth peer name probe1 2>/dev/null || code=1
    ip netns del "$name"
    return "$code"
}
require=,${KVWIRE_REQUIRE-auto},
if [[ $require == *,auto,* ]]; then
    require=${require//,auto,/,}
    ! kernel_has_uring || require+=uring,
    ! kernel_has_netns || require+=netns,
fi
# A device that cannot be used counts as none: then the guest runs the RDMA tests.
rdma_here=
if compgen -G '/sys/class/infiniband/*' >/dev/null &&
    go run "${native[@]}" ./cmd/kvwire doctor 2>/dev/null | grep -q '^transport rdma  *available'; then
    rdma_here=1
fi
must_rdma=
if [[ $require == *,rdma,* ]]; then
    must_rdma=1
    [[ $rdma_here ]] || require=${require//,rdma,/,}
fi
require=${require#,}
export KVWIRE_REQUIRE=${require%,}
echo "KVWIRE_REQUIRE=$KVWIRE_REQUIRE (a test that needs one of these fails where it would skip)"

# packages runs the packages' tests: of a bare build, of a build with all tags, and with the race detector.
packages() {
    step "a bare build, without the native parts"
    go build ./...
    # The code that only a build without tags has, its importers, and the program. What is left out has the same result with tags.
    local bare=(./cgo/verbs ./internal/ring ./internal/probe ./rdma ./uring ./loop ./store/disk ./factor)
    must go vet "${bare[@]}" ./cmd/kvwire
    must env KVWIRE_REQUIRE= go test -short -timeout 5m "${bare[@]}"
    must env KVWIRE_REQUIRE= go test -short -timeout 10m -run '^Test.*As(ItWas|TheyWere)$|^TestAFactor|^TestScript/(bench|doctor|engines|uring|usage)$' ./cmd/kvwire

    step "vet and tests"
    must go vet "${tags[@]}" ./...
    if go -C test/goycsb build -o "$PWD/$out/goycsb" .; then
        export PATH=$PWD/$out:$PATH
    else
        echo "go-ycsb could not be built: what it drives is not tested"
    fi
    # More at the same time than there are CPUs: many tests wait for other processes, or for the disk. The packages that take longest begin first.
    local at_once=(-count=1 -vet=off -p 2 -parallel 6 -timeout "$timeout")
    local raced=(./uring ./tcp ./loop ./bench/... ./transport/... ./inproc ./wire ./internal/ring ./internal/arena ./internal/fifo)
    local plain=()
    mapfile -t plain < <(go list "${native[@]}" ./cmd/kvwire ./store ./verify ./setup ./store/disk ./resp ./udp && go list "${native[@]}" ./... | grep -vxFf <(go list "${native[@]}" "${raced[@]}"))
    if [[ $long ]]; then
        must go test "${native[@]}" "${at_once[@]}" ./...
    else # of raced what the race detector skips, or has in a shorter form; it waits most of its time
        must go test "${native[@]}" "${at_once[@]}" \
            -run 'Alloc|Memory|TenThousand|Bears|WakeUp|^Test(Options|UnixSockets|TLS)$|^Test(TCP|Inproc|Redis)$/^(Zero|RespEchoes)|^TestUring$/shared/^(Zero|RespEchoes)|^TestUring$/separate' \
            "${raced[@]}" >"$out/raced.log" 2>&1 &
        must go test "${native[@]}" "${at_once[@]}" "${plain[@]}"
        wait $!
        cat "$out/raced.log"
    fi

    step "race detector, on what has several goroutines"
    local several='WhatAMapDoes|Reopen|Park|Close|Export|Fault|Engine' # a store's other goroutines are those of its engines
    [[ ! $long ]] || several=.
    must env CGO_ENABLED=1 go test "${native[@]}" -race $short "${at_once[@]}" -run "$several" ./store ./store/index >"$out/raced.log" 2>&1 &
    must env CGO_ENABLED=1 go test "${native[@]}" -race $short "${at_once[@]}" ./rdma/... "${raced[@]}" ./store/disk
    wait $!
    cat "$out/raced.log"
}

# build_guests_tests compiles what runs in the guest, before other builds run at the same time.
build_guests_tests() {
    [[ " ${tags[1]} " == *" rdma "* ]] || return 0
    CGO_ENABLED=1 go test -c "${native[@]}" -o "$out/" ./cgo/verbs ./rdma/device ./rdma ./cmd/kvwire ./verify ./setup
}

# rdma_in_guest boots one guest for all tests that need RDMA. Exit code 125: no guest can be started.
rdma_in_guest() {
    [[ " ${tags[1]} " == *" rdma "* ]] || { echo "this build leaves RDMA out (tags ${tags[1]})" >&2 && return 125; }
    test/vm/vm.sh --timeout "$guest_time" -- test/vm/suite.sh "$out"
}
rdma_or_guest() {
    local began=$SECONDS code=0
    if [[ $rdma_here ]]; then
        step "RDMA: was tested above, on this machine's own device"
    else
        step "RDMA in a guest with soft-RoCE"
        rdma_in_guest || code=$?
        case $code in
        0) echo "RDMA in a guest: passed in $((SECONDS - began)) s" ;;
        125)
            [[ ! $must_rdma ]] || fails "RDMA, which KVWIRE_REQUIRE names: no device here, and no guest"
            echo "RDMA WAS NOT TESTED: no device here, and no guest (see above). All else goes on."
            echo "RDMA" >"$out/untested"
            ;;
        *) fails "RDMA in a guest, after $((SECONDS - began)) s (exit code $code; 124 is the time limit)" ;;
        esac
    fi
}

# run_experiment NAME FLAG…: runs an experiment in a new folder, and checks its results against its claims.
run_experiment() {
    local root=$PWD name=$1 dir=$out/experiments began=$SECONDS code=0
    rm -rf "$dir" && mkdir -p "$dir"
    (
        cd "$dir" &&
            timeout -k 60 2h "$root/$out/kvwire" run "$root/experiments/$name" --output-dir "$name" "${@:2}" &&
            { [[ ! -e $name/claims.yaml ]] || "$root/$out/kvwire" verify-claims "$name"; }
    ) >"$out/experiment.log" 2>&1 || code=$?
    rm -rf "$dir"
    if ((code)); then
        cat "$out/experiment.log" >&2
        echo "$name ${*:2}: failed after $((SECONDS - began)) s (exit code $code; 124 is the time limit)" >&2
        fails "experiment $name ${*:2} (exit code $code)"
        return
    fi
    echo "$name ${*:2}: ran in $((SECONDS - began)) s"
}

# shipped_experiments runs all shipped experiments in three generations with --long, else two of them in one generation (half a minute by --estimate).
shipped_experiments() {
    local file name device=()
    [[ $rdma_here ]] || device=(--rdma-device model)
    go build "${native[@]}" -o "$out/kvwire" ./cmd/kvwire
    if [[ ! $long ]]; then
        run_experiment quick "${device[@]}" --generations 1 --time 2s
        run_experiment distributed-kv-verbs "${device[@]}" --generations 1 --time 4s
        return
    fi
    for file in experiments/*/experiment.yaml; do
        name=$(basename "$(dirname "$file")")
        # An experiment that compares only RDMA with TCP, or its verbs, shows nothing without RDMA.
        if [[ $rdma_here ]] || ! grep -qE '^transport: \[tcp, rdma\]|^require: \[rdma\]' "$file"; then
            run_experiment "$name" --quick
        elif [[ -s $out/untested ]]; then
            echo "$name: skipped: no RDMA device here, and no guest (see above)"
        else
            run_experiment "$name" --vm --quick
        fi
    done
}

# arm64_and_fuzzing runs what is no test of a package, and needs no CPU of its own.
arm64_and_fuzzing() {
    step "arm64 builds and vets (without rdma: its cgo has no cross compiler here)"
    must env CGO_ENABLED=0 GOARCH=arm64 go build -tags giouring -ldflags=-checklinkname=0 ./...
    must env CGO_ENABLED=0 GOARCH=arm64 go vet -tags giouring ./...

    step "fuzzing, $fuzz_seconds s for each target, and more for resp's"
    must setup/fuzz.sh "$fuzz_seconds"
}

# run_beside runs at the same time as the packages' tests, most of which wait for other processes, for deadlines, or for the disk.
run_beside() {
    rdma_or_guest
    [[ $long ]] || arm64_and_fuzzing
}

# It runs in its own process group, which ends with this script.
[[ $rdma_here ]] || must build_guests_tests
set -m
run_beside >"$out/beside.log" 2>&1 &
beside=$!
set +m
end_beside() {
    kill -TERM -- "-$beside" 2>/dev/null || return 0
    wait "$beside" || true
}
trap end_beside EXIT
trap "exit 130" INT TERM

packages
step "what ran beside"
tail --pid="$beside" -f -n +1 "$out/beside.log"
wait "$beside" || fails "what ran beside ended early (exit code $?)"
step "experiments" # their claims are about times, so nothing runs beside them; with --long, they have a guest of their own
shipped_experiments
[[ ! $long ]] || arm64_and_fuzzing

if [[ -s $out/failed ]]; then
    step "FAILED"
    cat "$out/failed" >&2
    exit 1
fi
step "all passed$([[ ! -s $out/untested ]] || echo " but $(<"$out/untested"), which was not tested")"
