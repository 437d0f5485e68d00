# shellcheck shell=bash
# A Docker engine of our own, for a machine that has none: in its own network,
# process and mount namespaces, which end with it. So nothing that a node sends
# can leave the machine, and bridges, firewall rules, mounts and processes cannot
# outlive the engine. What is the machine's own (cgroups, sysctls) is put back by
# engine_stop. Sourced, never run.

# shellcheck source=tests/cluster/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ -z ${engine_pid_file:-} ]] || return 0
readonly engine_pid_file=$state/engine.pid
readonly engine_data=$cache/engine
readonly engine_log=$state/engine.log
readonly sysctls_file=$state/sysctls-before
readonly no_modules_file=$state/no-modules-folder
readonly cgroup_parent=trainyard-kind
# What systemd and the kubelet in the nodes, and we, set for the whole machine.
readonly sysctls='^(fs\.(file-max|nr_open|protected_[a-z]+|suid_dumpable|inotify\.max_[a-z_]+)|vm\.(overcommit_memory|panic_on_oom)|kernel\.(panic|panic_on_oops|keys\.[a-z_]+|core_(pattern|uses_pid|pipe_limit)|sysrq|pid_max)) = '

# process_identity PID: tells a process from any other, also after a reboot.
process_identity() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # Field 22, counted behind the name, which may hold anything.
    set -- "$1" "${stat##*) }"
    printf '%s %s %s\n' "$1" "$(cut -d' ' -f20 <<<"$2")" "$(cat /proc/sys/kernel/random/boot_id)"
}

# The engine's outer process, if it runs.
engine_pid() {
    local pid
    [[ -e $engine_pid_file ]] && read -r pid _ <"$engine_pid_file" || return 1
    [[ $(process_identity "$pid") == "$(cat "$engine_pid_file")" ]] && printf '%s\n' "$pid"
}

# The process that is the first of the engine's process namespace: nsenter's target.
engine_init() {
    local pid
    pid=$(engine_pid) && pgrep --parent "$pid"
}

engine_answers() { timeout 10 docker info >/dev/null 2>&1; }

# poll SECONDS COMMAND...: until it succeeds, at most so long.
poll() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

engine_start() {
    engine_pid >/dev/null && engine_answers && return 0
    engine_stop
    save_machine
    mkdir -p "$engine_data"
    # The process itself writes the pid file, so there is no moment in which it
    # runs and nobody knows its pid; the lock (9) must not live on in it.
    setsid "$cluster_dir/engine-run" 9>&- </dev/null >"$engine_log" 2>&1 &
    poll 10 engine_pid >/dev/null || fail "the engine did not start: $(tail -n 5 "$engine_log")"
    # shellcheck source=tests/cluster/env.sh
    . "$cluster_dir/env.sh"
    poll 30 engine_answers || fail "the engine does not answer: $(tail -n 5 "$engine_log")"
}

# Ends the engine and whatever it still runs; puts the machine's settings back.
# Does nothing where nothing is left.
engine_stop() {
    local init
    if init=$(engine_init); then
        kill "$init" || true
        poll 10 engine_is_gone || {
            say "the engine does not end by itself; killing it"
            kill -KILL "$init" || true
            poll 20 thaw_until_gone || fail "process $init does not end"
        }
    fi
    remove_cgroups
    restore_machine
    rm -f "$engine_pid_file" "$state/docker.sock"
}

engine_is_gone() { ! engine_pid >/dev/null; }

# SIGKILL does not reach what the cgroup v1 freezer holds.
thaw_until_gone() {
    find /sys/fs/cgroup/freezer/"$cgroup_parent" -name freezer.state 2>/dev/null | while read -r file; do
        echo THAWED >"$file" 2>/dev/null || true
    done
    engine_is_gone
}

remove_cgroups() {
    local folder
    for folder in /sys/fs/cgroup/{,*/}"$cgroup_parent"; do
        [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null ||
            say "cgroup $folder is still in use"
    done
}

# Settings are saved once: an interrupted run's are the ones to go back to.
save_machine() {
    local boot
    boot=$(cat /proc/sys/kernel/random/boot_id)
    if [[ $(head -n 1 "$sysctls_file" 2>/dev/null) != "$boot" ]]; then
        { echo "$boot"; sysctl -a 2>/dev/null | grep -E "$sysctls"; } >"$sysctls_file".partial
        mv "$sysctls_file".partial "$sysctls_file"
    fi
    # The engine makes this folder, which kind mounts into its nodes.
    [[ -d /lib/modules ]] || touch "$no_modules_file"
}

restore_machine() {
    local name value
    if [[ $(head -n 1 "$sysctls_file" 2>/dev/null) == "$(cat /proc/sys/kernel/random/boot_id)" ]]; then
        while IFS= read -r line; do
            name=${line%% = *} value=${line#* = }
            [[ $(sysctl -n "$name") == "$value" ]] || sysctl -qw "$name=$value" || say "cannot put $name back to $value"
        done < <(tail -n +2 "$sysctls_file")
    fi
    rm -f "$sysctls_file"
    [[ ! -e $no_modules_file ]] || rmdir /lib/modules 2>/dev/null || true
    rm -f "$no_modules_file"
}
