#!/usr/bin/env bash
# chroot-trial.sh [--suite NAME] [--worktree] [--modules] [--archives DIR] [--keep] [TARGET…]: a trial as a new user. Makes a bare
# Debian in a temporary folder, puts a fresh clone and this machine's Go into it, and runs the make
# targets there (default: run test), timed. As root; needs debootstrap. About 10 minutes.
#   --suite NAME  Debian's release (bookworm)
#   --worktree    copy the files as they lie here, instead of cloning what is committed
#   --modules     use this machine's module cache, so that only Debian's packages are downloaded
#   --archives DIR  first try the archives of a release (make release) there; without a TARGET, nothing else
#   --keep        keep the folder, and print its path
# The mirror is the one that this machine's apt uses.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD suite=bookworm worktree= modules= archives= keep= targets=()
while (($#)); do
    case $1 in
    --suite) suite=$2 && shift ;;
    --worktree) worktree=1 ;;
    --modules) modules=1 ;;
    --archives) archives=$2 && shift ;;
    --keep) keep=1 ;;
    -*) echo "unknown option $1" >&2 && exit 2 ;;
    *) targets+=("$1") ;;
    esac
    shift
done
((${#targets[@]})) || [[ $archives ]] || targets=(run test)

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}
((EUID == 0)) || fail "chroot-trial: only root can make a chroot"
command -v debootstrap >/dev/null || fail "chroot-trial: no debootstrap" "apt-get install debootstrap"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" | head -n 1)
[[ -n $mirror ]] || fail "chroot-trial: apt on this machine has no mirror for $suite"
goroot=$(go env GOROOT)

root=$(mktemp -d "${TMPDIR:-/tmp}/kvwire-chroot.XXXXXX")
chmod 755 "$root"
mounts=()
bind() { # from to [options]
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mounts+=("$root$2")
    [[ -z ${3:-} ]] || mount -o "remount,bind,$3" "$root$2"
}
clean_up() { # the trial's own root last
    local i
    for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do
        umount "${mounts[i]}" || umount -l "${mounts[i]}"
    done
    if [[ $keep ]]; then
        echo "kept: $root" >&2
    elif ! grep -q " $root[/ ]" /proc/self/mountinfo; then # never delete through a mount
        rm -rf --one-file-system "$root"
    fi
}
trap clean_up EXIT

bind "$root" "" # ip netns needs a root folder that is a mount

step() { printf '\n### %s (%ds)\n' "$*" "$SECONDS"; }

step "debootstrap $suite"
timeout 900 debootstrap --variant=minbase --include=make,git "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2 && fail "chroot-trial: debootstrap failed: $root.log"; }
rm -f "$root.log"

mkdir -p "$root/proc" "$root/sys"
mount -t proc proc "$root/proc" && mounts+=("$root/proc")
bind /sys /sys
bind /dev /dev
bind "$goroot" /usr/local/go ro
environment=(HOME=/root "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin" LANG=C.UTF-8)
for name in KVWIRE_REQUIRE GOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOTOOLCHAIN http_proxy https_proxy no_proxy; do
    value=${!name:-$(go env "$name" 2>/dev/null || true)}
    [[ -z $value ]] || environment+=("$name=$value")
done
for file in /etc/resolv.conf /etc/hosts; do # names and proxies are those of this machine
    [[ ! -e $file ]] || cp -L "$file" "$root$file"
done
if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then # certificates that this machine trusts
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
fi
if [[ $modules ]]; then
    bind "$(go env GOMODCACHE)" /root/go/pkg/mod
fi

if [[ $archives ]]; then
    step "the archives of $archives"
    mkdir "$root/root/release"
    cp "$archives"/kvwire-*.tar.gz "$archives/SHA256SUMS" setup/release-trial.sh "$root/root/release/"
    timeout --kill-after=30 900 chroot "$root" env -i "${environment[@]}" bash /root/release/release-trial.sh /root/release </dev/null
    ((${#targets[@]})) || exit 0
fi

step "a fresh clone"
if [[ $worktree ]]; then
    mkdir -p "$root/root/kvwire"
    git ls-files -z --cached --others --exclude-standard | tar -c --null --files-from=- --ignore-failed-read | tar -x -C "$root/root/kvwire"
else
    git -c safe.directory="$checkout" clone -q --no-hardlinks "$checkout" "$root/root/kvwire"
    chown -R root: "$root/root/kvwire"
fi

status=0
for target in "${targets[@]}"; do
    step "make $target"
    began=$SECONDS
    timeout --kill-after=30 3600 chroot "$root" env -i "${environment[@]}" make -C /root/kvwire "$target" </dev/null || status=$?
    printf '### make %s: exit %d after %ds\n' "$target" "$status" $((SECONDS - began))
    ((status == 0)) || break
done
exit "$status"
