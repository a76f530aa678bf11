#!/usr/bin/env bash
# measure.sh: what make run does: it builds kvwire and measures experiments/quick here. Where there is no RDMA device, RDMA in it is over the model of a device, and
# experiments/quick-rdma is measured in a guest, too, whose disk is made while kvwire is built. The last lines name the reports. results/latest is the first one's
# folder: the guest's lies deeper, where kvwire run makes no such link.
set -euo pipefail
cd "$(dirname "$0")/.."

rdma_here=
! compgen -G '/sys/class/infiniband/*' >/dev/null || rdma_here=1
[[ $rdma_here ]] || ! command -v qemu-system-x86_64 >/dev/null || test/vm/vm.sh --prepare &
code=0
make --no-print-directory build || code=$?
wait
((code == 0)) || exit $code

device=()
[[ $rdma_here ]] || device=(--rdma-device model)
bin/kvwire run experiments/quick "${device[@]}"
main=results/$(readlink results/latest)
[[ ! $rdma_here ]] || exit 0

guest=results/guest/quick-rdma-$(date -u +%Y%m%d-%H%M%S)
echo
bin/kvwire run --vm experiments/quick-rdma --output-dir "$guest" || code=$?
if ((code == 125)); then
    rmdir -p "$guest" 2>/dev/null || true
    echo "kvwire: RDMA was not measured, only modelled: no device, and no guest (see above)" >&2
    exit 0
fi
echo
echo "Report of this machine, with RDMA over a modelled device: $main/report.html"
((code)) || echo "Report of RDMA in a guest: $guest/report.html"
exit $code
