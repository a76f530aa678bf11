#!/usr/bin/env bash
# profile.sh [SECONDS]: divides the server's CPU time by perf's stacks, for each way to use sockets; null backend, gets of 64 B. One line
# for each way, in ns per operation. A virtual machine has no performance counter that interrupts while interrupts are off, so the time of such a
# section of the kernel is attributed to its end. Needs perf (apt-get install linux-perf) and root. 3 minutes by default.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
[[ -x bin/kvwire ]] || { echo "profile: bin/kvwire is missing: make build" >&2 && exit 1; }
command -v perf >/dev/null || { echo "profile: perf is missing: apt-get install linux-perf" >&2 && exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
variants=("--transport=tcp" "--transport=tcp --tcp-engine=goroutine" "--transport=uring" "--transport=uring --uring-receive=multishot"
    "--transport=uring --uring-receive=multishot --uring-fixed-files" "--transport=uring --taskrun=coop")
columns="send,loopback,wakes,receive,io_uring,epoll,sleep,kernel,go,kvwire"
for load in "1 1" "1 16" "64 1" "64 16"; do
    read -r conns depth <<<"$load"
    echo
    echo "$conns connections, $depth in flight: CPU time of the server for an operation, in ns"
    printf '%9s' all ${columns//,/ } && printf '  samples\n'
    for v in "${variants[@]}"; do
        read -ra flags <<<"$v"
        bin/kvwire bench --backend null --conns "$conns" --depth "$depth" --value-bytes 64 --duration "$((seconds + 2))s" --warmup 500ms --json "${flags[@]}" >"$dir/row" 2>"$dir/err" &
        bench=$!
        server=
        for _ in {1..50}; do
            sleep 0.1
            server=$(pgrep -P "$bench" | head -1) && [[ $server ]] && break
        done
        sleep 1
        timeout 60 perf record -q -e cpu-clock -F 1999 -g -p "$server" -o "$dir/perf.data" -- sleep "$seconds" 2>"$dir/err" ||
            { cat "$dir/err" >&2 && exit 1; }
        wait "$bench" || { cat "$dir/err" >&2 && echo "profile: kvwire bench ${flags[*]} failed" >&2 && exit 1; }
        ns=$({ grep -oE '"server_(user|sys)_ns_per_op":[0-9.e+]+' "$dir/row" || true; } | awk -F: '{ n += $2 } END { print n }')
        [[ $ns ]] || { echo "profile: kvwire bench ${flags[*]} gives no CPU time of its server" >&2 && exit 1; }
        timeout 120 perf script -i "$dir/perf.data" -F ip,sym,dso 2>/dev/null | awk -v ns="$ns" -v columns="$columns" '
            # A sample has its frames, the innermost first, and an empty line. The innermost frame that matches a column decides.
            function judge() {
                if (!frames) return
                if (!where) where = kernel ? "kernel" : goes ? "go" : "kvwire"
                count[where]++; all++
                where = ""; frames = kernel = goes = 0
            }
            NF == 0 { judge(); next }
            {
                sym = $2; frames++
                if (frames == 1) { kernel = /kernel/; goes = !kernel && sym ~ /^(runtime|internal\/runtime|syscall|internal\/poll|net|sync)[.\/]/ }
                if (where) next
                if (sym ~ /^(sock_def_readable|__wake_up|ep_poll_callback|try_to_wake_up|io_poll_wake|io_req_task_work_add)/) where = "wakes"
                else if (sym ~ /^(tcp_v4_rcv|ip_rcv|net_rx_action|__netif_receive|process_backlog|ip_local_deliver|handle_softirqs)/) where = "loopback"
                else if (sym ~ /^(tcp_sendmsg|tcp_write_xmit|sock_sendmsg|__sys_sendmsg|__sys_sendto|sock_write_iter)/) where = "send"
                else if (sym ~ /^(tcp_recvmsg|sock_recvmsg|inet_recvmsg|__sys_recvmsg|sock_read_iter)/) where = "receive"
                else if (sym ~ /^(schedule|__schedule|do_nanosleep|futex_|__futex|do_futex)/) where = "sleep"
                else if (sym ~ /^(do_epoll_|ep_|__x64_sys_epoll)/) where = "epoll"
                else if (sym ~ /^(io_|__io_|__do_sys_io_uring|__x64_sys_io_uring|tctx_task_work)/) where = "io_uring"
            }
            END {
                judge()
                if (!all) { print "no samples"; exit }
                printf "%9.0f", ns
                n = split(columns, c, ",")
                for (i = 1; i <= n; i++) printf "%9.0f", ns * count[c[i]] / all
                printf "%9d", all
            }'
        printf '  %s\n' "$v"
    done
done
