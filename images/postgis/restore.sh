#!/bin/bash
# Bring this member's files back to a moment, and go on from there as a primary on a new timeline:
# `restore.sh <time or latest> <timeline> <repository's number> <label of the backup>`.
#
# Patroni is paused meanwhile, so that no member starts or is promoted; and the files are put
# aside, since even a paused Patroni would meddle with a server that replays. Safe to repeat from
# any point at which it was interrupted.
set -Eeuo pipefail

TO=$1 TIMELINE=$2 REPOSITORY=$3 LABEL=$4
DATA=/var/lib/postgresql/17
LOG=/tmp/restore.log
export RESTORING=/var/lib/postgresql/restoring      # for pgbackrest.sh, too

fail() { printf 'restore: %s\n' "$1" >&2; exit 1; }
broken() { fail "$(grep -aE 'FATAL|PANIC|ERROR|last completed' "$LOG" | tail -n 4)"; }

running() {  # the number in a file that a power cut left behind may be another program's by now
    local pid
    pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) || return 1
    [[ "$(readlink "/proc/$pid/exe")" == */postgres ]]
}

put_aside() {
    local folder
    for folder in "$DATA" "$RESTORING"; do
        ! running "$folder" || pg_ctl -D "$folder" -w -m immediate stop >/dev/null
    done
    # interrupted before: only what Patroni has written since may be in the old place
    [[ -d $RESTORING ]] || mv -T "$DATA" "$RESTORING"
    rm -f "$RESTORING/postmaster.pid"
}

# what was written but never archived is part of the timeline that is left
keep() {
    local ready
    for ready in "$RESTORING"/pg_wal/archive_status/*.ready; do
        [[ ! -e "$ready" ]] || (cd "$RESTORING" && PGBACKREST_ARCHIVE_ASYNC=n \
            pgbackrest.sh archive-push "pg_wal/$(basename "$ready" .ready)") \
            || fail "WAL was not archived: $ready"
    done
}

recover() {
    # it only replays until the moment, and is promoted: no client finds it
    local options="-c hot_standby=off -c listen_addresses='' -c unix_socket_directories=/tmp"
    options+=" -c hba_file=$RESTORING/pg_hba.conf -c ident_file=$RESTORING/pg_ident.conf"
    options+=" -c synchronous_standby_names='' -c recovery_target_timeline=$TIMELINE"
    options+=" -c recovery_target_action=promote"
    options+=" -c restore_command='pgbackrest.sh archive-get %f %p'"
    [[ "$TO" == latest ]] || options+=" -c recovery_target_time=$TO"
    # A primary that was a replica before has all targets in its settings, empty ones by Patroni,
    # and PostgreSQL takes an empty one after ours for a second one. Patroni writes them anew.
    sed -i '/^recovery_target/d' "$RESTORING/postgresql.conf"
    touch "$RESTORING/recovery.signal"
    pg_ctl -D "$RESTORING" -w -t 86400 -l "$LOG" -o "$options" start >/dev/null 9>&- || broken
    # pg_ctl is content with a replay under way; the eighth line says `ready` after the promotion
    # (PostgreSQL, pidfile.h, LOCK_FILE_LINE_PM_STATUS)
    until [[ "$(sed -n 8p "$RESTORING/postmaster.pid" 2>/dev/null)" == ready* ]]; do
        running "$RESTORING" || broken
        sleep 0.2
    done
    pg_ctl -D "$RESTORING" -w -t 600 -m fast stop >/dev/null
}

# Patroni finds a primary that runs, and takes the lock for it.
put_back() {
    rm -rf "$DATA"
    mv -T "$RESTORING" "$DATA"
    unset RESTORING
    pg_ctl -D "$DATA" -w -t 600 -l "$LOG" start >/dev/null 9>&- || broken
}

_main() {
    exec 9>/tmp/restore.lock
    flock -w 900 9 || fail "another restore is at work in this container"
    put_aside
    keep
    : >"$LOG"
    pgbackrest.sh restore --repo="$REPOSITORY" --set="$LABEL" --delta --type=none
    recover
    put_back
    grep -aoE 'recovery stopping (before|after) .*|last completed transaction .*' "$LOG" \
        | tail -n 1 || true
}

_main
