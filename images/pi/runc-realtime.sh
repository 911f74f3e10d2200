#!/bin/bash
# runc, and a share of realtime for each container that may ask for it (CAP_SYS_NICE).
#
# A kernel that shares realtime out among control groups (see entrypoint.sh) gives a container's
# none, and Swarm has no option for it. A container is made first and started then: in between its
# group is there. Where nothing is left to share, it starts without.
set -Eeuo pipefail

[[ " $* " == *" create "* ]] || exec runc "$@"
runc "$@"
while [[ $# -gt 1 ]]; do
    [[ "$1" != --bundle ]] || bundle=$2
    shift
done
# the container's name is the last word
if grep -q CAP_SYS_NICE "$bundle/config.json"; then
    { echo 20000 > "/sys/fs/cgroup/cpu/docker/$1/cpu.rt_runtime_us"; } 2>/dev/null || true
fi
