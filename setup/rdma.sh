#!/usr/bin/env bash
usage='Usage: setup/rdma.sh [--yes] add [INTERFACE] | undo
add gives this machine an RDMA device in software (rdma_rxe, or else siw) on a network interface: the named one, or
that of the default route. undo removes what add has added since the machine started, and nothing else. Both print
the commands for root, and ask; --yes skips the question.'

# $state lists what was added, newest first: "link NAME" and "module NAME".
set -euo pipefail
state=/run/kvwire/rdma
PATH=$PATH:/usr/sbin:/sbin

fail() {
    printf 'kvwire: %s\n' "$*" >&2
    exit 1
}

yes= as_root=()
[[ ${1:-} != --yes ]] || { yes=1 && shift; }
((EUID == 0)) || as_root=(sudo)

# agree shows the steps, one for each line of stdin, and asks.
agree() {
    local steps answer=
    steps=$(cat)
    if ((EUID != 0)); then
        command -v sudo >/dev/null || fail "only root may do this, and there is no sudo here: run the same as root"
    fi
    printf 'As root, this will run:\n%s\n' "$(sed 's/^/  /' <<<"$steps")" >&2
    [[ ! $yes ]] || return 0
    [[ -t 0 ]] || fail "standard input is no terminal, so nobody can agree: make rdma-setup YES=1 agrees beforehand"
    read -rp 'Continue? [y/N] ' answer || true
    [[ $answer == [yY]* ]] || fail "nothing was changed"
}

# try runs a command as root, or fails with its output and the remedy.
try() { # what to do, command…
    local output
    output=$("${as_root[@]}" "${@:2}" 2>&1) || { echo "kvwire: ${*:2}: ${output//$'\n'/; } ($1)" >&2 && return 1; }
}

note() { # a line
    "${as_root[@]}" sh -c 'mkdir -p "${1%/*}" && touch "$1" && { echo "$2" && cat "$1"; } >"$1.new" && mv "$1.new" "$1"' note "$state" "$1"
}

modules() { cut -d ' ' -f 1 /proc/modules; }

interfaces() { ls /sys/class/net | grep -vx lo | paste -sd ' ' || true; }

# device is the RDMA device on an interface, or nothing.
device() {
    local f
    for f in /sys/class/infiniband/*/ports/*/gid_attrs/ndevs/0; do
        [[ $(cat "$f" 2>/dev/null) != "$1" ]] || { f=${f#/sys/class/infiniband/} && echo "${f%%/*}" && return; }
    done
}

pick_interface() { # NAME, or nothing
    netdev=$1
    if [[ ! $netdev ]]; then
        netdev=$(ip -o -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
        [[ $netdev ]] || fail "no default route here that would name an interface: make rdma-setup IF=NAME (here: $(interfaces))"
    fi
    [[ -e /sys/class/net/$netdev ]] || fail "no interface $netdev: make rdma-setup IF=NAME (here: $(interfaces))"
    [[ $netdev != lo ]] || fail "lo: RDMA does not work over the address of lo: make rdma-setup IF=NAME (here: $(interfaces))"
    (($(<"/sys/class/net/$netdev/flags") & 1)) || fail "$netdev is down: as root: ip link set $netdev up"
    address=$(ip -o -4 address show dev "$netdev" | sed -n 's/.* inet \([0-9.]*\).*/\1/p' | head -n 1)
    [[ $address ]] || fail "$netdev has no IPv4 address, which RDMA needs: as root: ip address add 10.77.0.1/24 dev $netdev; or make rdma-setup IF=ANOTHER (here: $(interfaces))"
}

pick_driver() {
    command -v modprobe >/dev/null || fail "no modprobe here to load rdma_rxe with: setup/install.sh vm installs it (Debian's package: kmod)"
    local module release
    for module in rdma_rxe siw; do
        if [[ -e /sys/module/$module ]] || modprobe -n -q "$module"; then
            driver=$module
            return
        fi
    done
    release=$(uname -r)
    fail "the kernel $release has neither rdma_rxe nor siw: make vm CMD='kvwire doctor' runs a command in a guest that has it (or, on Ubuntu: apt-get install linux-modules-extra-$release)"
}

add() {
    command -v ip >/dev/null && command -v rdma >/dev/null || fail "no ip or no rdma here: setup/install.sh vm installs them (Debian's package: iproute2)"
    pick_interface "${1:-}"
    local have name n=0 before loaded
    have=$(device "$netdev")
    if [[ $have ]]; then
        echo "kvwire: $netdev has the RDMA device $have already, by the address $address: nothing to do"
        return
    fi
    if [[ -r /proc/1/ns/net && $(readlink /proc/1/ns/net) != "$(readlink /proc/self/ns/net)" ]]; then
        fail "this is a container's network, and software RDMA works in the machine's own only: use docker run --network host"
    fi
    pick_driver
    while [[ -e /sys/class/infiniband/${driver#rdma_}$n ]]; do ((++n)); done
    name=${driver#rdma_}$n
    agree <<<"modprobe -a $driver rdma_ucm
rdma link add $name type ${driver#rdma_} netdev $netdev"

    before=$(modules)
    try "see dmesg, or use make vm" modprobe "$driver" || exit 1
    "${as_root[@]}" modprobe -q rdma_ucm || true # for connections by rdma_cm alone
    loaded=$(grep -vxF "$before" <(modules) | tac || true) # the kernel lists the newest first
    for have in $loaded; do note "module $have"; done
    if ! try "see dmesg" rdma link add "$name" type "${driver#rdma_}" netdev "$netdev"; then
        yes=1
        undo >/dev/null 2>&1
        exit 1
    fi
    note "link $name"
    echo "kvwire: $name is on $netdev, by the address $address (bin/kvwire doctor shows it; make rdma-undo removes it)"
}

undo() {
    if [[ ! -e $state ]]; then
        echo "kvwire: nothing to undo: make rdma-setup has added nothing since this machine started"
        return
    fi
    agree < <(sed 's/^link/rdma link delete/; s/^module/rmmod/' "$state")
    local what name failed=
    while read -r what name; do
        case $what in
        link) [[ ! -e /sys/class/infiniband/$name ]] || try "end what uses it, and try again" rdma link delete "$name" || failed=1 ;;
        module) [[ ! -e /sys/module/$name ]] || try "end what uses it, and try again" rmmod "$name" || failed=1 ;;
        esac
    done <"$state"
    [[ ! $failed ]] || exit 1 # the list stays
    "${as_root[@]}" rm "$state"
    echo "kvwire: undone"
}

case ${1:-} in
add) add "${2:-}" ;;
undo) undo ;;
--help | -h) echo "$usage" ;;
*) fail "setup/rdma.sh ${*:-}: unknown command: add or undo (see --help)" ;;
esac
