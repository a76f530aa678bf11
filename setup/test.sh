#!/usr/bin/env bash
# test.sh [--long]: everything that must pass. About 30 minutes on 2 cores, and some 6 more where
# RDMA is to be had in a guest alone, under emulation; --long takes hours there, and 10 GB of disk.
# KVWIRE_REQUIRE is a list of what must not be skipped: uring, netns (network namespaces), sshd (installed by hand, since its
# package starts it), chromium, redis (redis-cli), goycsb (go-ycsb), rdma (here or in the guest), auto (default: uring and netns, where the kernel has them).
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS="-buildvcs=false ${GOFLAGS:-}"
tags=(-tags "${KVWIRE_TAGS:-giouring rdma}")
native=("${tags[@]}" -ldflags=-checklinkname=0)
short=-short fuzz_seconds=4 guest_time=60m timeout=25m long=
if [[ ${1:-} == --long ]]; then
    short= fuzz_seconds=60 guest_time=5h timeout=2h long=1
    export KVWIRE_LONG=1
fi

step() { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }

# must COMMAND…: what fails is told at the end as well, and the rest runs all the same: one run shows all that is wrong.
failed=()
trap "exit 130" INT TERM
must() {
    local code=0
    "$@" || code=$?
    ((code == 0)) || { failed+=("$* (exit code $code)") && echo "FAILED: $* (exit code $code); the rest goes on" >&2; }
}

# kernel_has_uring is asked of the kernel, not of our own code, so that a bug there cannot turn tests into skips.
kernel_has_uring() {
    local sysctl=/proc/sys/kernel/io_uring_disabled
    if [[ -e $sysctl ]]; then # Linux 6.6 and later
        [[ $(<$sysctl) == 0 ]] || return 1
    else
        grep -q 'sys_io_uring_setup$' /proc/kallsyms 2>/dev/null || return 1
    fi
    grep -q '^Seccomp:[[:space:]]*0$' /proc/self/status
}
# kernel_has_netns is asked of ip, likewise.
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
# A device that cannot be used is none: then it is the guest's affair.
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

step "a bare build, without the native parts"
go build ./...
must go vet ./...
# What the tags leave out, what is built on that, and the program.
must env KVWIRE_REQUIRE= go test -short -timeout 5m ./cgo/... ./internal/... ./rdma/... ./uring ./loop
# Faults in the middle of a generation take minutes, and are the same in both builds: the full one tests them.
must env KVWIRE_REQUIRE= go test -short -timeout 10m -skip MiddleOfAGeneration -run '^Test([^S]|S[^c])|^TestScript/(bench|doctor|engines|uring|usage)$' ./cmd/...

step "vet and tests"
must go vet "${tags[@]}" ./...
mkdir -p bin/test
if go -C test/goycsb build -o "$PWD/bin/test/goycsb" .; then
    export PATH=$PWD/bin/test:$PATH
else
    echo "go-ycsb could not be built: what it drives is not tested"
fi
must go test "${native[@]}" -count=1 -timeout "$timeout" ./...

step "race detector, on what has several goroutines"
concurrent=()
for dir in loop transport inproc tcp uring rdma wire store bench internal/ring internal/arena; do
    if compgen -G "$dir/*" >/dev/null; then
        concurrent+=("./$dir/...")
    fi
done
must env CGO_ENABLED=1 go test "${native[@]}" -race $short -count=1 -timeout "$timeout" "${concurrent[@]}"

# rdma_in_guest boots one guest for all that needs RDMA. Exit code 125: there is none to be had.
rdma_in_guest() {
    local dir=bin/test
    [[ " ${tags[1]} " == *" rdma "* ]] || { echo "this build leaves RDMA out (tags ${tags[1]})" >&2 && return 125; }
    mkdir -p "$dir"
    CGO_ENABLED=1 go test -c "${native[@]}" -o "$dir/" ./cgo/verbs ./rdma/device ./rdma ./cmd/kvwire ./verify ./setup || return 1
    test/vm/vm.sh --timeout "$guest_time" -- test/vm/suite.sh "$dir"
}
if [[ $rdma_here ]]; then
    step "RDMA: was tested above, on this machine's own device"
else
    began=$SECONDS code=0
    step "RDMA in a guest with soft-RoCE"
    rdma_in_guest || code=$?
    case $code in
    0) echo "RDMA in a guest: passed in $((SECONDS - began)) s" ;;
    125)
        [[ ! $must_rdma ]] || failed+=("RDMA, which KVWIRE_REQUIRE names: no device here, and no guest")
        echo "RDMA WAS NOT TESTED: no device here, and no guest (see above). All else goes on."
        untested=" but RDMA, which was not tested"
        ;;
    *) failed+=("RDMA in a guest, after $((SECONDS - began)) s (exit code $code; 124 is the time limit)") ;;
    esac
fi

# run_experiment NAME FLAG…: runs it in a folder of its own, and holds what it leaves against its claims.
run_experiment() {
    local root=$PWD name=$1 dir=bin/test/experiments began=$SECONDS code=0
    rm -rf "$dir" && mkdir -p "$dir"
    (
        cd "$dir" &&
            timeout -k 60 2h "$root/bin/test/kvwire" run "$root/experiments/$name" --output-dir "$name" "${@:2}" &&
            { [[ ! -e $name/claims.yaml ]] || "$root/bin/test/kvwire" verify-claims "$name"; }
    ) >bin/test/experiment.log 2>&1 || code=$?
    rm -rf "$dir"
    if ((code)); then
        cat bin/test/experiment.log >&2
        echo "$name ${*:2}: failed after $((SECONDS - began)) s (exit code $code; 124 is the time limit)" >&2
        failed+=("experiment $name ${*:2} (exit code $code)")
        return
    fi
    echo "$name ${*:2}: ran in $((SECONDS - began)) s"
}

# shipped_experiments runs all of them in three generations with --long, else two in one generation (half a minute by --estimate).
shipped_experiments() {
    local file name
    mkdir -p bin/test
    go build "${native[@]}" -o bin/test/kvwire ./cmd/kvwire
    if [[ ! $long ]]; then
        run_experiment quick --generations 1 --time 2s
        run_experiment distributed-kv --generations 1 --time 4s
        return
    fi
    for file in experiments/*/experiment.yaml; do
        name=$(basename "$(dirname "$file")")
        # What sets RDMA beside TCP alone shows nothing without RDMA.
        if [[ $rdma_here ]] || ! grep -q '^transport: \[tcp, rdma\]' "$file"; then
            run_experiment "$name" --quick
        elif [[ ${untested:-} ]]; then
            echo "$name: skipped: no RDMA device here, and no guest (see above)"
        else
            run_experiment "$name" --vm --quick
        fi
    done
}
step "experiments"
shipped_experiments

step "arm64 builds and vets (without rdma: its cgo has no cross compiler here)"
must env CGO_ENABLED=0 GOARCH=arm64 go build -tags giouring -ldflags=-checklinkname=0 ./...
must env CGO_ENABLED=0 GOARCH=arm64 go vet -tags giouring ./...

step "fuzzing, $fuzz_seconds s for each target, and more for resp's"
must setup/fuzz.sh "$fuzz_seconds"

if ((${#failed[@]})); then
    step "FAILED"
    printf '  %s\n' "${failed[@]}" >&2
    exit 1
fi
step "all passed${untested:-}"
