#!/usr/bin/env bash
# release-trial.sh [DIR]: unpacks the archives of a release (bin/release) and runs those for this processor: version, doctor, and a measurement of
# a few seconds. It needs no checkout, no Go and no compiler: setup/chroot-trial.sh --archives runs it in a bare Debian.
set -euo pipefail
cd "${1:-$(dirname "$0")/../bin/release}"

fail() {
    printf 'release-trial: %s\n' "$@" >&2
    exit 1
}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

sha256sum --quiet -c SHA256SUMS
ran=0
for archive in kvwire-*.tar.gz; do
    name=${archive%.tar.gz}
    tar -xzf "$archive" -C "$folder"
    for file in bin/kvwire BUILD.txt LICENSE README.md CHANGELOG.md SECURITY.md CITATION.cff licenses/go/LICENSE share/man/man1/kvwire-bench.1 \
        share/bash-completion/completions/kvwire share/zsh/site-functions/_kvwire share/fish/vendor_completions.d/kvwire.fish; do
        [[ -s $folder/$name/$file ]] || fail "$archive has no $file"
    done
    case $name in
    *-not-run)
        grep -q '^NOT RUN' "$folder/$name/BUILD.txt" || fail "$archive was not run, and its BUILD.txt does not have that"
        echo "$name: not run"
        continue
        ;;
    *-linux-amd64) parts="with io_uring, with RDMA" ;;
    *-linux-amd64-static) parts="with io_uring, without RDMA" ;;
    *) fail "what is $archive?" ;;
    esac
    if [[ $(uname -m) != x86_64 ]]; then
        echo "$name: not run on $(uname -m)"
        continue
    fi
    version=${name#kvwire-} && version=${version%%-linux-*}
    kvwire=$folder/$name/bin/kvwire
    [[ $("$kvwire" version) == "kvwire $version, go1."*", amd64, $parts"* ]] || fail "$name: $("$kvwire" version)"
    "$kvwire" doctor | sed "s/^/    /; /->/d"
    (cd "$folder" && timeout 300 "$kvwire" run quick --generations 1 --time 1s --output-dir "$name-results" >"$name.log" 2>&1) ||
        { cat "$folder/$name.log" >&2 && fail "$name: kvwire run quick failed"; }
    [[ -s $folder/$name-results/report.html ]] || fail "$name: kvwire run quick left no report.html"
    echo "$name: ran"
    ran=$((ran + 1))
done
((ran)) || fail "no archive was run"
