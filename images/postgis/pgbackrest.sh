#!/bin/bash
# pgBackRest with the Pis that answer now: `pgbackrest.sh archive-push pg_wal/0000...`.
#
# Each Pi has a repository of its own, which its member serves, and WAL goes to all of them: to
# other Pis than the primary's, wherever that is. Left to itself, pgBackRest would keep all WAL
# for one that is away, and at archive-push-queue-max drop even what the living have not got yet.
# So a repository that does not answer within five seconds is left out of this one call. What it
# misses meanwhile is read from the others, until its next backup makes it whole again.
set -Eeuo pipefail

: "${MEMBER:?the DNS name of this member, e.g. postgis1}"
IDENTITY=/run/postgresql/identity.pem
LOCAL=/var/lib/pgbackrest
MARK=/run/postgresql/handover

# tell pgBackRest of a member: `host REPO 2 postgis2`
host() {
    export "PGBACKREST_$1$2_HOST=$3" "PGBACKREST_$1$2_HOST_TYPE=tls"
    export "PGBACKREST_$1$2_HOST_CA_FILE=$IDENTITY" "PGBACKREST_$1$2_HOST_CERT_FILE=$IDENTITY"
    export "PGBACKREST_$1$2_HOST_KEY_FILE=$IDENTITY"
}

data() {
    export "PGBACKREST_PG$1_PATH=${RESTORING:-/var/lib/postgresql/17}"
    export "PGBACKREST_PG$1_SOCKET_PATH=/run/postgresql"
}

# others -> the other members whose server answers, asked all at once
others() {
    local name
    for name in $REPOSITORIES; do
        [[ "$name" == "$MEMBER" ]] \
            || { pgbackrest --io-timeout=5 server-ping "$name" >/dev/null 2>&1 && echo "$name"; } &
    done
    wait
}

# the repositories of some members, each with its number in REPOSITORIES
repositories() {
    local name number=0
    for name in $REPOSITORIES; do
        number=$((number + 1))
        [[ " $* " == *" $name "* ]] || continue
        if [[ "$name" != "$MEMBER" ]]; then
            host REPO $number "$name"
        elif [[ -e $LOCAL/archive/gis/archive.info ]]; then
            export "PGBACKREST_REPO${number}_PATH=$LOCAL"
        fi
    done
}

# PostgreSQL, in whose data folder we are, stops for a planned switchover: see handover.sh
handing_over() {
    [[ -s "$MARK" && "$(head -n 3 postmaster.pid 2>/dev/null)" == "$(<"$MARK")" ]]
}

# push_to PATH MEMBER...: to the repositories of these members; fails if one of them fails
push_to() {
    local answer patience=30
    # Who pushes has a repository for itself. It may be a former primary that brings its last WAL,
    # or one that died in the middle and is given up by then.
    until answer=$( (repositories "${@:2}"; exec pgbackrest --stanza=gis archive-push "$1") 2>&1 )
    do
        echo "$answer" >&2
        [[ "$answer" == *LockAcquireError* && $((patience--)) -gt 0 ]] || return 1
        sleep 1
    done
    [[ -z "$answer" ]] || echo "$answer" >&2
}

# left_behind SEGMENT: does it hold the end of a timeline that this member has left?
#
# The next timeline begins with a copy of what counts of it. What follows there differs between
# members: a former primary goes on with what nobody else has, a replica with what the file held
# before. PostgreSQL renames it to .partial on the member that is promoted, but on another that is
# promoted later it finds it without a mark and has it archived, where it would be refused for ever
# as soon as another member's is there. (PostgreSQL manual, 25.3.6; xlogarchive.c,
# XLogArchiveCheckDone; a history file has a line for each timeline: number, end, reason)
left_behind() {
    local timeline end newest segment
    newest=$(printf '%s\n' pg_wal/*.history | sort | tail -n 1)
    [[ "$1" =~ ^[0-9A-F]{24}$ && -e "$newest" ]] || return 1
    segment=$(( 16#${1:8:8} * 256 + 16#${1:16:8} ))    # of 16 MB, as is usual
    while read -r timeline end _; do
        [[ "$timeline" == $(( 16#${1:0:8} )) ]] || continue
        (( segment >= 16#${end%/*} * 256 + 16#${end#*/} / 16#1000000 ))
        return
    done < "$newest"
    return 1
}

push() {
    local found name taken=
    if [[ "$1" == *.partial ]] || left_behind "${1##*/}"; then
        return 0
    fi
    found=$(others)
    # on the primary's own Pi alone WAL is not safe: fail, keep it, and be asked again
    [[ -n "$found" ]] || found=$REPOSITORIES
    # shellcheck disable=SC2086
    ! push_to "$1" "$MEMBER" $found || return 0
    # One that answers but cannot take it, on a full disk or with a spoilt card, must not hold up
    # the others: each by itself, and one on another Pi is enough.
    for name in "$MEMBER" $found; do
        push_to "$1" "$name" || { echo "$name took no WAL" >&2; continue; }
        [[ "$name" == "$MEMBER" ]] || taken=$name
    done
    [[ -n "$taken" ]]
}

# the repository of this Pi, and every member whose server answers
members() {
    local name number=1
    export PGBACKREST_REPO1_PATH=$LOCAL PGBACKREST_REPO1_RETENTION_FULL=2
    # small files together, and of large ones only the blocks that changed
    export PGBACKREST_REPO1_BUNDLE=y PGBACKREST_REPO1_BLOCK=y
    for name in $(others); do
        number=$((number + 1))
        host PG $number "$name"
        data $number
    done
}

_main() {
    local code=0
    data 1
    case "${1:-}" in
        archive-push)
            # `docker run` without a lab has no repository, and no WAL that is worth one
            [[ -n "${REPOSITORIES:-}" ]] || exit 0
            # above 125 ends the archiver at once, and the file stays marked as not archived; 1
            # would have it try twice more, a second apart (PostgreSQL manual, 25.3.1)
            ! handing_over || exit 255
            push "$2"
            exit ;;
        archive-get)
            # shellcheck disable=SC2046
            repositories "$MEMBER" $(others)
            pgbackrest --stanza=gis "$@" || code=$?
            # 1: there is no such file. Else it is not known, and PostgreSQL must not go on as if
            # the WAL ended here (PostgreSQL manual, 25.3.5: above 125 stops it)
            exit $((code > 1 ? 255 : code)) ;;
        # shellcheck disable=SC2046
        restore) repositories "$MEMBER" $(others) ;;
        backup|stanza-create) members ;;
        *) export PGBACKREST_REPO1_PATH=$LOCAL ;;
    esac
    exec pgbackrest --stanza=gis "$@"
}

_main "$@"
