# Leave a container a part of the memory that it uses, or as little as the kernel allows, and have
# somebody ask for more in it, until the kernel has ended what was there before.
#
# gislab/blows.py runs this text on a Pi: bash -c TEXT squeeze CONTAINER FLOOR. The control group's
# first version takes no limit that the container is above of and cannot give up, the second ends
# it (cgroups(7); runc, "unable to set memory limit").
set -Eeuo pipefail
container=$1
floor=$2 # bytes, the least that is tried

used=$(docker exec "$container" sh -c 'cat /sys/fs/cgroup/memory.current 2> /dev/null ||
    cat /sys/fs/cgroup/memory/memory.usage_in_bytes') || {
    echo 'no control group for memory; see docs/faults.md' >&2
    exit 1
}

limit=
for part in 25 40 55 70 85 105; do # percent
    tried=$((used / 100 * part))
    ((tried >= floor)) || tried=$floor
    if said=$(docker update --memory "$tried" --memory-swap "$tried" "$container" 2>&1); then
        limit=$tried
        break
    fi
done
[[ $limit ]] || {
    echo "$said" >&2
    exit 1
}

# whom the kernel ends is in proc_pid_oom_score_adj(5): any of the service's own processes sooner
# than the one that asks
docker exec --privileged --user 0 "$container" sh -c "
    for p in /proc/[0-9]*/oom_score_adj; do echo 1000 > \$p; done 2> /dev/null
    echo 0 > /proc/self/oom_score_adj
    head -c $limit /dev/zero | tail -c $limit > /dev/null" > /dev/null 2>&1 || true
