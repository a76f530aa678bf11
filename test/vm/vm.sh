#!/usr/bin/env bash
usage='Usage: test/vm/vm.sh [options] [--] COMMAND [ARGUMENT…]
Examples:
  test/vm/vm.sh ibv_devinfo
  test/vm/vm.sh --timeout 5m -- bin/kvwire run experiments/quick
  test/vm/vm.sh --two --server "ibv_rc_pingpong -g 1" -- ibv_rc_pingpong -g 1 10.78.0.1

Boots a guest that has soft-RoCE (rxe0 on dummy0, 10.77.0.1/24), runs a command in it as root, and ends with the
command'"'"'s exit code. The guest sees this machine'"'"'s files as they are; what it writes stays in its memory, except in the
results/ of this checkout and of the working folder, and in --rw folders. /var/tmp is a scratch disk. The
environment that the guest gets: PATH, HOME, LANG, TERM, KVWIRE_*, GO*; KVWIRE_ACCEL is kvm or tcg (emulation: its times
mean nothing as absolute figures). ^C interrupts the command; a second one ends the guest.

  --timeout D   end the guest after that time, boot included: 90, 90s, 15m, 1h (15m)
  --rw DIR      a folder that the guest may write, too; may be repeated
  --ro DIR      a folder that the guest sees though it lies in /tmp or /run, which are its own; may be repeated
  --mem MIB     memory of the guest (2048)
  --cpus N      CPUs of the guest (2)
  --disk MIB    size of the scratch disk (4096)
  --prepare     run nothing: get the kernel and try kvm, so that the next guest starts sooner
  --two         two guests on one wire, 10.78.0.1 and 10.78.0.2: the first runs --server CMD, and as soon as that
                listens on TCP (or after 20 s), the second runs COMMAND. On 2 cores without kvm this shows that things
                work, and not how fast: 44 ms a round trip.
  --server CMD  for --two: a line for bash; ends when COMMAND has ended
  --help        this

KVWIRE_VM_ACCEL=kvm or =tcg on this machine chooses. The guest'"'"'s clock is compared with this machine'"'"'s before the command
starts and when it has ended. It runs by the time-stamp counter, whose frequency is measured here and given to the guest'"'"'s
kernel; KVWIRE_VM_TSC_KHZ=N gives N, and 0 leaves it to that kernel. Exit codes of its own: 2 usage, 123 the guest'"'"'s clock ran
more than 1 % too fast or too slow, 124 timeout, 125 no guest or a guest that died, 130 ended by ^C.'

# How: the kernel is kernel.sh'"'"'s, the initramfs runs init (see there), qemu passes this machine'"'"'s root in over 9p,
# and three virtio console ports are the command'"'"'s stdout and stderr (files, followed) and a channel for messages (fifos).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
checkout=${here%/test/vm}

fail() { # code, what happened, what to do
    local code=$1
    shift
    printf 'vm: %s\n' "$@" >&2
    exit "$code"
}

number() { # name, value
    [[ $2 =~ ^[1-9][0-9]{0,6}$ ]] || fail 2 "$1 $2: not a number"
}

timeout=900 mem=2048 cpus=2 disk=4096 two= prepare= server= writable=() visible=()
while (($#)); do
    case $1 in
    --help | -h) echo "$usage" && exit 0 ;;
    --two) two=1 ;;
    --prepare) prepare=1 ;;
    --timeout | --mem | --cpus | --disk | --server | --rw | --ro)
        (($# > 1)) || fail 2 "$1 needs a value"
        case $1 in
        --timeout)
            [[ $2 =~ ^([1-9][0-9]{0,5})(s|m|h|)$ ]] || fail 2 "--timeout $2: write 90s, 15m or 1h"
            case ${BASH_REMATCH[2]} in
            m) timeout=$((BASH_REMATCH[1] * 60)) ;;
            h) timeout=$((BASH_REMATCH[1] * 3600)) ;;
            *) timeout=${BASH_REMATCH[1]} ;;
            esac
            ;;
        --mem | --cpus | --disk) number "$1" "$2" && declare "${1#--}=$2" ;;
        --server) server=$2 ;;
        --rw | --ro)
            [[ -d $2 ]] || fail 2 "$1 $2: no such folder"
            dir=$(cd "$2" && pwd -P)
            if [[ $1 == --rw ]]; then writable+=("$dir"); else visible+=("$dir"); fi
            ;;
        esac
        shift
        ;;
    --) shift && break ;;
    -*) fail 2 "unknown option $1 (--help lists them)" ;;
    *) break ;;
    esac
    shift
done
[[ ! $prepare ]] || set -- true
(($#)) || fail 2 "no command to run in the guest (--help has examples)"
[[ -z $two || $server ]] || fail 2 "--two needs --server CMD, the command of the first guest"
[[ $two || -z $server ]] || fail 2 "--server is for --two"
case ${KVWIRE_VM_ACCEL:-} in
'' | kvm | tcg) ;;
*) fail 2 "KVWIRE_VM_ACCEL=$KVWIRE_VM_ACCEL: must be kvm or tcg" ;;
esac
[[ ${KVWIRE_VM_TSC_KHZ:-0} =~ ^(0|[1-9][0-9]{4,7})$ ]] || fail 2 "KVWIRE_VM_TSC_KHZ=$KVWIRE_VM_TSC_KHZ: must be a number of kHz (5 to 8 digits), or 0"
for d in "$checkout/results" "$PWD/results"; do
    [[ $d != "$checkout/results" ]] || mkdir -p "$d" 2>/dev/null || continue # a checkout that is read-only
    [[ ! -d $d ]] || writable+=("$(cd "$d" && pwd -P)")
done
mapfile -t writable < <(printf '%s\n' "${writable[@]}" | sort -u) # an outer folder comes first
visible+=("$checkout" "$PWD")
for d in "${writable[@]}" "${visible[@]}"; do
    [[ $d != *[$',\n']* ]] || fail 2 "$d: a folder with a comma or a line break in its name cannot be passed in"
done

for tool in qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs ip:iproute2 rdma:iproute2 modprobe:kmod; do
    command -v "${tool%:*}" >/dev/null || [[ -x /usr/sbin/${tool%:*} || -x /sbin/${tool%:*} ]] ||
        fail 125 "no ${tool%:*} here, which the guest needs" "setup/install.sh vm installs it (Debian's package: ${tool#*:})."
done
kernel=$("$here/kernel.sh") || exit 125
PATH=$PATH:/usr/sbin:/sbin

# The scratch disk is best where O_DIRECT works, which it may not in memory.
tmp=${TMPDIR:-/tmp}
case $(stat -f -c %T "$tmp") in tmpfs | ramfs) tmp=/var/tmp ;; esac
for d in "$tmp"/kvwire-vm.*; do # left by a killed vm.sh
    owner=$(cat "$d/pid" 2>/dev/null || true)
    [[ ! -O $d || ! $owner ]] || kill -0 "$owner" 2>/dev/null || rm -rf "$d"
done
tmp=$(mktemp -d "$tmp/kvwire-vm.XXXXXX")
echo $$ >"$tmp/pid"
guests=(0) pids=() followers=()
[[ -z $two ]] || guests=(0 1)

end_guests() {
    local p
    for p in "${pids[@]}"; do
        kill -KILL "$p" 2>/dev/null || true
    done
    for p in "${pids[@]}" "${followers[@]}"; do # a follower ends with its guest
        wait "$p" 2>/dev/null || true
    done
    pids=() followers=()
}
clean_up() {
    trap '' INT TERM HUP
    end_guests
    rm -rf "$tmp"
}
trap clean_up EXIT
interrupts=0
trap 'interrupt INT' INT
trap 'interrupt TERM' TERM
trap 'interrupt TERM' HUP

# tsc_khz prints the frequency of the counter by which the guest's clock runs: with kvm, and with emulation on x86, it is this machine's.
# A guest's kernel would measure it against emulated timers, and has been ten times off where qemu was not scheduled meanwhile.
tsc_khz() {
    [[ ! ${KVWIRE_VM_TSC_KHZ:-} ]] || { echo "$KVWIRE_VM_TSC_KHZ" && return; }
    local sum program
    sum=$(cksum <"$here/tsc.c")
    program=$kernel/../tsc-${sum%% *}
    if [[ ! -x $program ]]; then
        cc -O1 -o "$program.$$" "$here/tsc.c" 2>"$tmp/cc.log" && mv "$program.$$" "$program" || {
            echo "vm: cc cannot compile tsc.c: the guest's kernel measures the rate of its clock itself ($(head -n 1 "$tmp/cc.log"))" >&2
            echo 0 && return
        }
    fi
    "$program" || echo 0
}

# script_of prints a script that runs a command with this environment.
script_of() {
    local name
    printf 'echo $$ >/run/kvwire/pid\nexec >/run/kvwire/out 2>/run/kvwire/err\n'
    for name in $(compgen -e); do
        case $name in
        HOME | LANG | LC_* | TERM | KVWIRE_* | GO*) printf 'export %s=%q\n' "$name" "${!name}" ;;
        esac
    done
    printf 'export PATH=%q KVWIRE_ACCEL=%q\n' "$checkout/bin:$PATH" "$accel"
    printf 'cd %q || exit 125\n' "$PWD"
    [[ ! /dev/stdout -ef /dev/stderr ]] || printf 'exec 2>&1\n' # the same file: keep the order
    printf 'exec'
    printf ' %q' "$@"
    printf '\n'
}

# boot starts guest $1 with the command that follows.
boot() {
    local g=$1 dir=$tmp/$1 d n=0
    shift
    rm -rf "$dir"
    mkdir -p "$dir/vm"
    {
        printf 'KERNEL=%q\nVISIBLE=%q\n' "$kernel" "$(printf '%s\n' "${visible[@]}" "$kernel")"
        printf 'WRITABLE=%q\n' "$(printf '%s\n' "${writable[@]}")"
        if [[ $two ]]; then
            printf 'HOSTNAME=kvwire-vm%d\nDEVICE=eth0\nADDRESS=10.78.0.%d/24\n' $((g + 1)) $((g + 1))
        else
            printf 'HOSTNAME=kvwire-vm\nDEVICE=dummy0\nADDRESS=10.77.0.1/24\n'
        fi
    } >"$dir/vm/config"
    script_of "$@" >"$dir/vm/command"
    cp "$here/init" "$dir/init"
    chmod 755 "$dir/init"
    (cd "$dir" && find init vm | "$kernel/busybox" cpio -o -H newc 2>/dev/null) | cat "$kernel/base.cpio" - >"$dir/initrd"

    truncate -s "${disk}M" "$dir/disk"
    mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "$dir/disk" ||
        fail 125 "no scratch disk for the guest in $dir"
    local cache=writeback
    ! dd if=/dev/zero of="$dir/probe" bs=4096 count=1 oflag=direct 2>/dev/null || cache=none

    mkfifo "$dir/ctl.in" "$dir/ctl.out"
    : >"$dir/out" >"$dir/err"
    # This process opens both ends, so no open blocks.
    eval "exec $((20 + g))<>'$dir/ctl.out' $((30 + g))<>'$dir/ctl.in'"
    local image=$kernel/vmlinux
    [[ -e $image ]] || image=$kernel/vmlinuz
    local args=(-accel "$accel" -cpu max)
    [[ $accel == kvm ]] || args=(-accel tcg,thread=multi -cpu max)
    local tsc
    tsc=$(tsc_khz)
    if ((tsc)); then tsc="tsc_early_khz=$tsc"; else tsc=; fi
    args+=(-machine pc -smp "$cpus" -m "$mem" -nodefaults -no-user-config -display none -no-reboot
        -kernel "$image" -initrd "$dir/initrd"
        -append "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off tsc=reliable clocksource=tsc $tsc random.trust_cpu=on cryptomgr.notests"
        -serial "file:$dir/console"
        -device virtio-serial-pci
        -chardev "file,id=out,path=$dir/out" -device virtserialport,chardev=out,name=out
        -chardev "file,id=err,path=$dir/err" -device virtserialport,chardev=err,name=err
        -chardev "pipe,id=ctl,path=$dir/ctl" -device virtserialport,chardev=ctl,name=ctl
        -drive "file=$dir/disk,format=raw,if=none,id=disk,cache=$cache,discard=unmap" -device virtio-blk-pci,drive=disk
        -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap)
    for d in "${writable[@]}"; do
        args+=(-virtfs "local,path=$d,mount_tag=rw$((n++)),security_model=none,multidevs=remap")
    done
    if [[ $two ]]; then
        args+=(-netdev "dgram,id=wire,local.type=unix,local.path=$tmp/wire$g,remote.type=unix,remote.path=$tmp/wire$((1 - g))"
            -device "virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:78:00:0$((g + 1))")
    fi
    # Its own session: ^C is for vm.sh to handle. It dies with vm.sh, even if that is killed.
    setsid setpriv --pdeathsig KILL qemu-system-x86_64 "${args[@]}" </dev/null >"$dir/qemu.log" 2>&1 &
    pids[g]=$!
}

# follow passes on what a guest prints, until that guest is gone.
follow() {
    local dir=$tmp/$1 pid=${pids[$1]}
    if [[ $two && $1 == 0 ]]; then
        tail -q -c +1 -s 0.2 -f --pid="$pid" "$dir/out" "$dir/err" | sed -u 's/^/server: /' >&2 &
        followers+=($!)
        return
    fi
    tail -c +1 -s 0.2 -f --pid="$pid" "$dir/out" &
    followers+=($!)
    tail -c +1 -s 0.2 -f --pid="$pid" "$dir/err" >&2 &
    followers+=($!)
}

states=() codes=()
boot_all() {
    local g
    for g in "${guests[@]}"; do
        states[g]=boot first[g]=
        if [[ $two && $g == 0 ]]; then
            boot 0 bash -c "$server"
        else
            boot "$g" "$@"
        fi
        follow "$g"
    done
    up_by=$((SECONDS + 15)) ready_by=$((SECONDS + 180))
}

send() { # guest, message
    printf '%s\n' "$2" >&$((30 + $1))
}

# uptime is this machine's clock, in hundredths of a second.
uptime() {
    local up
    read -r up _ </proc/uptime
    echo $((10#${up/./}))
}

# ask_clock requests the clock of a guest. The guest reads it at some moment between request and answer, so the times of both are recorded.
asked=() first_asked=() first_answered=() first=()
ask_clock() { # guest
    asked[$1]=$(uptime)
    send "$1" clock
}

# check_clock compares the time since the first answer by the guest's clock and by this machine's. It records the first answer. This machine's
# time is known to within the time between requests and answers, and each clock to within its step: only a difference of more than 1 % beyond that counts.
check_clock() { # guest, its clock
    local now passed least most
    now=$(uptime) passed=$((10#${2/./}))
    if [[ ! ${first[$1]:-} ]]; then
        first_asked[$1]=${asked[$1]} first_answered[$1]=$now first[$1]=$passed
        return
    fi
    ((passed -= first[$1])) || true
    least=$((asked[$1] - first_answered[$1])) most=$((now - first_asked[$1]))
    (((passed + 1) * 100 < (least - 1) * 99 || (passed - 1) * 100 > (most + 1) * 101)) || return 0
    lost 123 "$(awk -v g=$passed -v a=$least -v b=$most 'BEGIN {
        printf "the clock of the guest went on by %.2f s in %.2f to %.2f s: its deadlines and figures are wrong (start it again", g / 100, a / 100, b / 100 }'
    )$([[ ! ${KVWIRE_VM_TSC_KHZ:-} ]] && echo ')' || echo ', without KVWIRE_VM_TSC_KHZ)')" "$1"
}

# lost ends with code $1 after a guest failed. It keeps the console log until the next failure.
lost() {
    local code=$1 why=$2 g=$3 panic
    end_guests
    cat "$tmp/$g/console" "$tmp/$g/qemu.log" >"$kernel/../console.log" 2>/dev/null || true
    panic=$(grep -a -m 1 -o 'Kernel panic.*' "$tmp/$g/console" || tail -n 1 "$tmp/$g/qemu.log" || true)
    fail "$code" "$why${panic:+: ${panic%$'\r'}} (console log: $(realpath "$kernel/../console.log"))"
}

# interrupt passes the first signal to the command, which may write its results.
interrupt() {
    ((++interrupts))
    if ((interrupts > 1)) || [[ ${states[-1]:-boot} != run ]]; then
        echo "vm: interrupted: the guest was ended" >&2
        exit 130
    fi
    echo "vm: interrupting the command in the guest (again to end the guest)" >&2
    send "${guests[-1]}" "$1"
    ((deadline < SECONDS + 30)) || deadline=$((SECONDS + 30))
}

handle() { # guest, word, rest
    local g=$1
    case $2 in
    up | ready)
        states[g]=$([[ $2 == up ]] && echo up || echo booted)
        ask_clock "$g"
        ;;
    clock)
        check_clock "$g" "$3"
        case ${states[g]} in
        booted)
            states[g]=ready
            # The second guest's command waits for the first one's.
            ((g == 1)) || send "$g" go
            ;;
        ended)
            states[g]=exit
            send "$g" bye
            ;;
        esac
        ;;
    run)
        states[g]=run
        ((g == 1)) || start_by=$((SECONDS + 20))
        ;;
    listening) ((g == 1)) || start_by=$SECONDS ;;
    failed) lost 125 "the guest failed: $3" "$g" ;;
    exit)
        states[g]=ended codes[g]=$3
        ask_clock "$g"
        ;;
    esac
}

# receive reads a guest's next line into word and rest, or fails after a while. A time-out in the middle of a line keeps its
# beginning for the next time.
word='' rest='' begun=()
receive() { # guest, seconds
    local part= code=0
    IFS= read -r -t "$2" -u $((20 + $1)) part || code=$?
    begun[$1]=${begun[$1]:-}$part
    ((code == 0)) || return 1
    read -r word rest <<<"${begun[$1]}"
    begun[$1]=
}

watch_guests() {
    local g
    while [[ ${states[-1]} != exit ]]; do
        for g in "${guests[@]}"; do
            if receive "$g" 0.1; then
                handle "$g" "$word" "$rest"
                continue
            fi
            [[ ${states[g]} != exit ]] || continue
            if [[ $accel == kvm && ${states[g]} == boot ]] && { ((SECONDS >= up_by)) || ! kill -0 "${pids[g]}" 2>/dev/null; }; then
                return 1
            fi
            if ! kill -0 "${pids[g]}" 2>/dev/null; then # its last line may still be in the pipe
                receive "$g" 0.1 || lost 125 "the guest died" "$g"
                handle "$g" "$word" "$rest"
            fi
        done
        if [[ $two && ${states[0]} == exit && ${states[1]} == ready ]]; then
            fail 125 "the server's command ended with code ${codes[0]} before the client's began"
        elif [[ $two && ${states[1]} == ready && ${states[0]} == run ]] && ((SECONDS >= start_by)); then
            send 1 go
            states[1]=started
        fi
        ((SECONDS < ready_by)) || [[ ${states[*]} != *boot* && ${states[*]} != *up* ]] || lost 125 "the guest was not ready after 3 minutes" 0
        if ((SECONDS >= deadline)); then
            expire
        fi
    done
}

# expire ends the guests after the deadline. It sends TERM to the command first, and passes on its last output.
expire() {
    ((!interrupts)) || lost 130 "the command did not end 30 s after ^C" "${guests[-1]}"
    local g grace=$((SECONDS + 5))
    for g in "${guests[@]}"; do
        [[ ${states[g]} != run ]] || send "$g" TERM
    done
    g=${guests[-1]}
    while [[ ${states[g]} == run ]] && ((SECONDS < grace)); do
        ! receive "$g" 1 || [[ $word != exit ]] || break
    done
    case ${states[g]} in
    run) lost 124 "timeout: the command had not ended after $timeout s" "$g" ;;
    ended) lost 124 "timeout: the command had ended, but the guest had not sent its clock, after $timeout s" "$g" ;;
    *) lost 124 "timeout: the guest had not started the command after $timeout s" "$g" ;;
    esac
}

# A kvm that opens may still hang a kernel before its first line; this is recorded until this machine boots again.
accel=${KVWIRE_VM_ACCEL:-}
boot_id=$(</proc/sys/kernel/random/boot_id)
no_kvm=$kernel/../kvm-hangs
if [[ -z $accel ]]; then
    accel=tcg
    if { : <>/dev/kvm; } 2>/dev/null && [[ $(cat "$no_kvm" 2>/dev/null) != "$boot_id" ]]; then
        accel=kvm
    fi
fi
[[ ! $prepare || $accel == kvm ]] || exit 0
deadline=$((SECONDS + timeout)) start_by=$deadline
boot_all "$@"
if ! watch_guests; then
    [[ -z ${KVWIRE_VM_ACCEL:-} ]] || lost 125 "with kvm the guest did not start within 15 s" 0
    echo "vm: with kvm the guest does not start: continuing with emulation (tcg)" >&2
    end_guests
    echo "$boot_id" >"$no_kvm"
    [[ ! $prepare ]] || exit 0
    accel=tcg
    boot_all "$@"
    watch_guests
fi
if [[ $two && ${states[0]} == run ]]; then
    send 0 TERM
    if receive 0 5 && [[ $word == exit ]]; then
        ask_clock 0
        if receive 0 5 && [[ $word == clock ]]; then
            check_clock 0 "$rest"
        fi
        send 0 bye
    fi
fi
for p in "${pids[@]}"; do # they power off
    for ((i = 0; i < 50; i++)); do
        kill -0 "$p" 2>/dev/null || break
        sleep 0.1
    done
done
end_guests
exit "${codes[-1]}"
