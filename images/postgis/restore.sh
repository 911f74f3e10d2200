#!/bin/bash
# Bring this member's files back to a moment, and end as a stopped primary of a new timeline:
# `restore.sh <time or latest> <timeline> <repository's number> <label of the backup>`.
#
# Patroni is paused meanwhile, so that no member starts or is promoted. Safe to repeat from any
# point at which it was interrupted.
set -Eeuo pipefail

TO=$1 TIMELINE=$2 REPOSITORY=$3 LABEL=$4
DATA=/var/lib/postgresql/17
LOG=/tmp/restore.log

fail() { printf 'restore: %s\n' "$1" >&2; exit 1; }

running() {  # the number in a file that a power cut left behind may be another program's by now
    local pid
    pid=$(head -n 1 "$DATA/postmaster.pid" 2>/dev/null) || return 1
    [[ "$(readlink "/proc/$pid/exe")" == */postgres ]]
}

# what was written but never archived is part of the timeline that is left
keep() {
    local ready
    for ready in "$DATA"/pg_wal/archive_status/*.ready; do
        [[ ! -e "$ready" ]] || (cd "$DATA" && PGBACKREST_ARCHIVE_ASYNC=n \
            pgbackrest.sh archive-push "pg_wal/$(basename "$ready" .ready)") \
            || fail "WAL was not archived: $ready"
    done
}

recover() {
    # It only replays until the moment, and is promoted: no client finds it, not even Patroni.
    # `hot_standby=off` has pg_ctl wait until that has happened.
    local options="-c hot_standby=off -c listen_addresses='' -c unix_socket_directories=/tmp"
    options+=" -c synchronous_standby_names=''"
    options+=" -c restore_command='pgbackrest.sh archive-get %f %p'"
    options+=" -c recovery_target_timeline=$TIMELINE -c recovery_target_action=promote"
    [[ "$TO" == latest ]] || options+=" -c recovery_target_time=$TO"
    touch "$DATA/recovery.signal"
    pg_ctl -D "$DATA" -w -t 86400 -l "$LOG" -o "$options" start >/dev/null 9>&- \
        || fail "$(grep -aE 'FATAL|PANIC|ERROR|last completed' "$LOG" | tail -n 4)"
}

_main() {
    exec 9>/tmp/restore.lock
    flock -w 900 9 || fail "another restore is at work in this container"
    ! running || pg_ctl -D "$DATA" -w -m immediate stop >/dev/null
    rm -f "$DATA/postmaster.pid"
    keep
    : >"$LOG"
    pgbackrest.sh restore --repo="$REPOSITORY" --set="$LABEL" --delta --type=none
    recover
    grep -aoE 'recovery stopping (before|after) .*|last completed transaction .*' "$LOG" \
        | tail -n 1 || true
    pg_ctl -D "$DATA" -w -t 600 -m fast stop >/dev/null
}

_main
