#!/usr/bin/env bash
# suite.sh FOLDER: runs the tests that need RDMA, compiled into FOLDER by setup/test.sh, and a smoke experiment. Made for the
# guest (it is root there, and loads modules), in which a test that skips for want of RDMA fails.
# Without KVWIRE_LONG it is what the model of a device cannot show, which has the rest on the machine itself: that soft-RoCE does what the model
# does (TestDevicesAgree), data by each verb, rdma_cm, Valkey's protocol, what the kernel frees, memory that may not be locked, networks that go away,
# a history with kills, a soak, and each command by which users meet a device.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
tests=$(cd "$1" && pwd)
export KVWIRE_REQUIRE=rdma,uring,guest
failed=()

run() { # seconds, package, arguments…
    local began=$SECONDS code=0
    # The kill is for one whose stacks cannot be had any more.
    (cd "$2" && timeout -k 20 $(($1 + 30)) "$tests/${2##*/}.test" -test.timeout "$1s" "${@:3}") || code=$?
    printf 'guest: %-14s %s (%ds)\n' "$2" "$( ((code)) && echo "FAILED, exit code $code" || echo ok)" $((SECONDS - began))
    ((code == 0)) || failed+=("$2")
}

smoke() { # all verbs, and tcp beside them
    local began=$SECONDS code=0
    KVWIRE_TEST_AS_PROGRAM=1 timeout -k 20 480 "$tests/kvwire.test" run experiments/quick-rdma --generations 1 --time 10s --output-dir /tmp/smoke 2>/tmp/smoke.log || code=$?
    ((code == 0)) || cat /tmp/smoke.log
    printf 'guest: %-14s %s (%ds)\n' quick-rdma "$( ((code)) && echo "FAILED, exit code $code" || echo ok)" $((SECONDS - began))
    ((code == 0)) || failed+=(quick-rdma)
}

long=${KVWIRE_LONG:-} short=
[[ $long ]] || short=-test.short
run 120 cgo/verbs # the limits are for a guest beside which other tests run
run 120 rdma/device
run "$([[ $long ]] && echo 14000 || echo 1200)" rdma # long: a million torn READs
# One after the other: they listen on the device's address and one port.
run "$([[ $long ]] && echo 1200 || echo 600)" cmd/kvwire $short -test.parallel 1 -test.run '^TestScript$/^(rdma(_.*)?|doctor)$'
run "$([[ $long ]] && echo 1500 || echo 400)" verify -test.run "^TestHistories\$/^rdma-$([[ $long ]] || echo 'write$/colocated/disk-cow')"
run 400 verify -test.run "^TestSoak\$"
smoke
run 120 setup -test.run '^TestRDMASetup' # last: it takes rxe0 away, and brings it back
((${#failed[@]} == 0)) || { echo "guest: failed: ${failed[*]}" && exit 1; }
