#!/usr/bin/env bash
# kernel.sh: prints a folder with a kernel for the guest that has soft-RoCE: vmlinux or vmlinuz, base.cpio (busybox and the
# modules that the root needs), lib/modules, busybox. Made once, in 10 s, from the running kernel's own files or else
# from the distribution's package, which is downloaded and unpacked, never installed. Remove the folder to have a
# newer kernel fetched.
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kvwire/vm

# In the initramfs, loaded in this order: the disk, the console ports, and the host's root.
boot_modules=(virtio_pci virtio_console virtio_blk 9pnet_virtio 9p overlay crc32c_generic crc32c_intel ext4)
# Loaded from the root, or left to the tests.
more_modules=(crc32_generic crc32_pclmul rdma_rxe siw ib_uverbs rdma_ucm dummy veth virtio_net sch_netem sch_tbf nvme null_blk tun bridge)
# A kernel may have these built in, or not at all (Debian has no siw).
optional=' crc32c_generic crc32c_intel crc32_generic crc32_pclmul siw sch_netem sch_tbf nvme null_blk tun bridge '

fail() {
    printf 'vm: %s\n' "$@" >&2
    exit 1
}

# What is in the folder decides its name, so that an older kvwire's is not taken.
made_by=$(cksum <"${BASH_SOURCE[0]}")
made_by=${made_by%% *}
for have in "$cache"/*-"$made_by"; do
    if [[ -e $have/base.cpio ]]; then
        echo "$have"
        exit 0
    fi
done

[[ $(uname -m) == x86_64 ]] || fail "the guest is made for x86-64, and this is $(uname -m): no guest here." \
    "If this machine's kernel has rdma_rxe, make rdma-setup gives it an RDMA device without a guest."
for tool in depmod modprobe; do
    command -v "$tool" >/dev/null || PATH=$PATH:/usr/sbin:/sbin
    command -v "$tool" >/dev/null || fail "no $tool to prepare the guest's modules with" "setup/install.sh vm installs it (kmod)."
done
mkdir -p "$cache"
find "$cache" -maxdepth 1 -name '.new.*' -mmin +60 -exec rm -rf {} + # left by a kill
new=$(mktemp -d "$cache/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

# download unpacks packages into $new/unpacked.
download() {
    mkdir -p "$new/debs" "$new/unpacked"
    echo "vm: downloading $* (unpacked, not installed)" >&2
    # Root needs no sandbox user, who could not write here.
    (cd "$new/debs" && timeout 600 apt-get -q -o APT::Sandbox::User=root download "$@") >"$new/apt.log" 2>&1 ||
        fail "apt-get download $*: $(grep -m 1 '^E:' "$new/apt.log" || tail -n 1 "$new/apt.log")" \
            "If its lists are old or empty, as root: apt-get update"
    local deb
    for deb in "$new"/debs/*.deb; do
        dpkg-deb -x "$deb" "$new/unpacked" || fail "cannot unpack $deb (no space? 450 MB are needed in $cache for a moment)"
    done
    rm -r "$new/debs"
}

# depends prints the packages that one depends on and whose names match.
depends() { apt-cache depends --important "$1" 2>/dev/null | sed -nE "s/^ +Depends: ($2)\$/\1/p"; }

from=
release=$(uname -r)
if [[ -r /boot/vmlinuz-$release ]] && compgen -G "/lib/modules/$release/kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko*" >/dev/null; then
    from=/
else
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "the guest's kernel is Debian's or Ubuntu's package, and there is no apt-get here." \
            "A running kernel with rdma_rxe would do: its vmlinuz in /boot, readable, and its modules."
    image=$(depends linux-image-amd64 'linux-image-[0-9].*')
    if [[ $image ]]; then
        packages=("$image")
    else # Ubuntu: rdma_rxe is among the extra modules
        image=$(depends linux-image-generic 'linux-image-[0-9].*')
        [[ $image ]] || fail "apt knows neither linux-image-amd64 nor linux-image-generic" "As root: apt-get update"
        packages=("$image" "${image/image/modules}" "${image/image/modules-extra}")
    fi
    release=${image#linux-image-}
    release=${release#unsigned-}
    download "${packages[@]}"
    from=$new/unpacked
    [[ -e $from/lib ]] || ln -s usr/lib "$from/lib"
    depmod -b "$from" "$release"
fi

# add copies a module and what it needs, and prints their paths within lib/modules, in the order to load them.
add() {
    local what path to open
    if ! modprobe -C /dev/null -d "$from" -S "$release" --show-depends "$1" >"$new/depends" 2>"$new/modprobe.log"; then
        [[ $optional == *" $1 "* ]] || fail "the kernel $release has no module $1: $(<"$new/modprobe.log")"
        return 0
    fi
    while read -r what path _; do
        [[ $what == insmod ]] || continue # builtin
        to=kernel/${path#*/kernel/}
        case $path in
        *.xz) to=${to%.xz} open=("$busybox" xz -dc) ;;
        *.zst) to=${to%.zst} open=(zstd -q -dc) ;;
        *.gz) to=${to%.gz} open=("$busybox" gzip -dc) ;;
        *) open=(cat) ;;
        esac
        if [[ ! -e $modules/$to ]]; then
            mkdir -p "$modules/${to%/*}"
            command -v "${open[0]}" >/dev/null || fail "no ${open[0]} to unpack the kernel's modules with" "setup/install.sh vm installs it."
            "${open[@]}" <"$path" >"$modules/$to"
        fi
        echo "$to"
    done <"$new/depends"
}

# unpack_kernel takes the kernel out of its self-extracting file, which spares 3 s at each start under emulation.
# Offsets: Documentation/arch/x86/boot.rst. Where it cannot, the guest starts with the file as it is.
unpack_kernel() {
    local setup offset length unpack
    setup=$(od -An -tu1 -j 0x1f1 -N 1 "$1") offset=$(od -An -tu4 -j 0x248 -N 4 "$1") length=$(od -An -tu4 -j 0x24c -N 4 "$1")
    offset=$(((setup + 1) * 512 + offset))
    case $(od -An -tx1 -j "$offset" -N 4 "$1") in
    ' fd 37 7a 58') unpack='xz -dc --single-stream' ;;
    ' 28 b5 2f fd') unpack='zstd -dcq' ;;
    ' 1f 8b 08'*) unpack='gzip -dc' ;;
    *) return 1 ;;
    esac
    # Behind the stream stands its length, which zstd and gzip complain of.
    tail -c +$((offset + 1)) "$1" | head -c $((length)) | $unpack >"$2" 2>/dev/null || true
    [[ $(head -c 4 "$2") == $'\x7fELF' ]]
}

busybox=$(command -v busybox || true)
if [[ ! $busybox || $(ldd "$busybox" 2>&1) != *"not a dynamic"* ]]; then # the initramfs has no libraries
    download busybox-static
    busybox=$new/unpacked/bin/busybox
    [[ -e $busybox ]] || busybox=$new/unpacked/usr/bin/busybox
fi

to=$new/done
modules=$to/lib/modules/$release
mkdir -p "$modules" "$new/base/bin" "$new/base/modules"
cp "$from/boot/vmlinuz-$release" "$to/vmlinuz"
if unpack_kernel "$to/vmlinuz" "$to/vmlinux"; then
    rm "$to/vmlinuz"
else
    rm -f "$to/vmlinux"
fi
cp "$busybox" "$new/base/bin/busybox"
cp "$busybox" "$to/busybox"
number=100
for module in "${boot_modules[@]}"; do
    paths=$(add "$module")
    for path in $paths; do
        compgen -G "$new/base/modules/*-${path##*/}" >/dev/null || cp "$modules/$path" "$new/base/modules/$((number++))-${path##*/}"
    done
done
for module in "${more_modules[@]}"; do
    add "$module" >/dev/null
done
cp "$from/lib/modules/$release"/modules.{builtin,builtin.modinfo,order} "$modules"
depmod -b "$to" "$release"
(cd "$new/base" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$to/base.cpio"

final=$cache/$release-$made_by
mv -T "$to" "$final" 2>/dev/null || [[ -e $final/base.cpio ]] || fail "cannot move the kernel to $final"
# Those of an older kvwire, which another checkout may still use.
find "$cache" -maxdepth 1 -name '[0-9]*-*' ! -name "*-$made_by" -mtime +30 -exec rm -rf {} +
echo "$final"
