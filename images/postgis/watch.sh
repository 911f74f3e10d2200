#!/bin/bash
# Wake Patroni when its PostgreSQL is gone, and end one that is frozen: `watch.sh <data folder>`.
#
# Patroni looks once a second (loop_wait), and a crash costs up to that. This looks ten times
# a second (fifty, while one is being stopped) and does no more than start Patroni's next look; what
# to do, Patroni decides. Bash alone and no fork, as alive.sh.
set -uo pipefail

PID_FILE=$1/postmaster.pid
KNOCK=$(printf 'patroni:%s' "$PATRONI_RESTAPI_PASSWORD" | base64 --wrap=0)
exec {never}<> <(:)      # reading from it is a sleep without a process

# state <pid> -> the letter of proc(5): T is stopped, Z is dead; empty when it is gone
state() {
    local rest
    REPLY=
    { read -r _ _ REPLY rest < "/proc/$1/stat"; } 2>/dev/null
}

# An order that changes nothing (a null removes what is not there) makes Patroni's loop begin now.
wake() {
    local patroni body='{"gislab": null}'
    { exec {patroni}<> /dev/tcp/127.0.0.1/8008; } 2>/dev/null || return
    printf 'PATCH /config HTTP/1.0\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n%s' \
        "$KNOCK" "${#body}" "$body" >&"$patroni" 2>/dev/null
    read -rt 2 -u "$patroni" _ || true
    exec {patroni}>&-
}

# A frozen primary cannot give up its role; a dead one can. Its children do not notice.
end_frozen() {
    local file pid parent
    local -a family=("$1")
    for file in /proc/[0-9]*/stat; do
        { read -r pid _ _ parent _ < "$file"; } 2>/dev/null && [[ "$parent" == "$1" ]] \
            && family+=("$pid")
    done
    printf 'watch: PostgreSQL (%s) has been frozen for a second: ended it\n' "$1" >&2
    kill -KILL "${family[@]}" 2>/dev/null
}

known= stopped=0
while true; do
    file=() pause=0.1
    { mapfile -t file < "$PID_FILE"; } 2>/dev/null
    pid=${file[0]:-}
    # one that is being stopped will be gone in a moment (PostgreSQL's pidfile.h, the eighth line)
    [[ "${file[7]:-}" != stopping* ]] || pause=0.02
    if [[ -n "$known" ]]; then
        state "$known"
        case "$REPLY" in
            Z) ;;    # Patroni takes it for running until it has been reaped
            "" | X) known= ; wake ;;
            T) pause=0.1; (( ++stopped < 10 )) || { end_frozen "$known"; stopped=0; } ;;
            *) stopped=0 ;;
        esac
    elif [[ "$pid" =~ ^[0-9]+$ && -e /proc/$pid ]]; then   # a minus sign: the single-user mode
        known=$pid
    fi
    read -rt "$pause" -u "$never" || true
done
