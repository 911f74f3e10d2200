#!/bin/bash
# Boot a virtual Pi: control groups, SSH, then the Docker engine.
set -Eeuo pipefail

# Where the outer engine may not give --privileged, the control groups come read-only;
# dockerd needs to write there. A bind remount is allowed even without CAP_SYS_RESOURCE.
make_cgroups_writable() {
    local mount
    while read -r mount; do
        mount -o remount,rw,bind "$mount" 2>/dev/null || true
    done < <(awk '$2 ~ "^/sys/fs/cgroup" {print $2}' /proc/mounts)
    # cgroup v2: no process may sit in the root that hands out controllers
    if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
        mkdir -p /sys/fs/cgroup/init
        xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs || true
        sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers \
            > /sys/fs/cgroup/cgroup.subtree_control || true
    fi
}

# On a Pi with systemd, all that its users start weighs as much on a busy processor as all services
# do (user.slice, system.slice). Without, each process of a user would weigh as much as all
# containers together.
as_a_user() {
    local group=/sys/fs/cgroup
    [[ -f $group/cgroup.controllers ]] || group+=/cpu    # control groups of version 1
    mkdir -p "$group/user" && echo "$BASHPID" > "$group/user/cgroup.procs" \
        || echo "pi: no control group for users" >&2
    exec "$@"
}

# A kernel with RT_GROUP_SCHED shares realtime out among control groups of version 1, in microseconds
# of each second, and gives a new group none. A Pi's kernel shares nothing out: whoever may ask for
# realtime has it. So here each group on the way hands some down; gislab/virtual.py gave the engine's.
share_realtime() {
    local group=/sys/fs/cgroup/cpu
    [[ -f $group/cpu.rt_runtime_us ]] || return 0
    mkdir -p $group/docker
    if { echo 100000 > $group/cpu.rt_runtime_us \
        && echo 90000 > $group/docker/cpu.rt_runtime_us; } 2>/dev/null; then
        RUNTIME=realtime
    else
        echo "pi: no realtime for containers" >&2
    fi
}

# The lab's public key comes in the environment; host keys are made once per Pi.
open_ssh() {
    : "${AUTHORIZED_KEY:?set it to the public SSH key of the lab, e.g. 'ssh-ed25519 AAAA... lab'}"
    printf '%s\n' "$AUTHORIZED_KEY" > /root/.ssh/authorized_keys
    chmod 600 /root/.ssh/authorized_keys
    ssh-keygen -A >/dev/null
    mkdir -p /run/sshd
    as_a_user /usr/sbin/sshd -D -e &
}

# A Pi keeps addresses of its own through a reboot, so none that a VIP left may stay.
forget_floating_addresses() {
    local address
    ip -4 -o addr show scope global | awk '{print $4}' | while read -r address; do
        [[ "$address" == */32 ]] && ip addr del "$address" dev eth0 2>/dev/null || true
    done
}

_main() {
    if [[ "$1" != pi ]]; then
        exec "$@"
    fi
    make_cgroups_writable
    forget_floating_addresses
    open_ssh
    RUNTIME=runc
    share_realtime
    rm -f /run/docker.pid /run/docker/containerd/containerd.pid
    # both are known at every boot: a container remembers which one it was made with
    exec dockerd --host unix:///var/run/docker.sock --log-level warn \
        --log-opt max-size=5m --log-opt max-file=2 \
        --add-runtime realtime=/usr/local/bin/runc-realtime.sh --default-runtime "$RUNTIME" \
        ${DOCKERD_OPTS:-}
}

_main "$@"
