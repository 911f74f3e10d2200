#!/bin/bash
# Called by Patroni when this member's role changes: archive what the former primary could not.
#
# A replica archives nothing, and after its promotion only what it writes itself (PostgreSQL
# manual, 26.2.9). Segments that the former primary had finished but not archived when it died
# would be missing in every archive. They are here, since no write is acknowledged without.
set -uo pipefail

[[ "${2:-}" == primary && -n "${REPOSITORIES:-}" ]] || exit 0
cd /var/lib/postgresql/17 || exit 1
# Patroni calls while the promotion is under way; at its end PostgreSQL removes what it recycled as
# segments to come of the former timeline, which would look like finished ones
tries=300
until [[ "$(psql --no-psqlrc -qtA -d postgres -c 'SELECT pg_is_in_recovery()' 2>/dev/null)" == f ]]
do
    [[ $((tries--)) -gt 0 ]] || exit 1
    sleep 0.2
done
newest=$(cd pg_wal && printf '%s\n' *.history | sort | tail -n 1)
status=pg_wal/archive_status
archive=/var/lib/pgbackrest/archive/gis/17-*
last= lacking=()
for file in pg_wal/[0-9A-F]??????????????????????? pg_wal/*.history; do
    name=${file#pg_wal/}
    # those of this timeline are PostgreSQL's own business; and most were archived in time
    [[ "${name:0:8}" < "${newest%.history}" ]] || continue
    if compgen -G "$archive/${name:0:16}/$name-*" >/dev/null; then
        last=$name
    elif ! compgen -G "$archive/$name" >/dev/null; then     # a timeline's history
        lacking+=("$name")
    fi
done
# the last one in this Pi's repository may have been on its way to the others
for name in $last "${lacking[@]}"; do
    # what a replica has received it marks as archived; PostgreSQL's archiver does not give up
    mv "$status/$name.done" "$status/$name.ready" 2>/dev/null || touch "$status/$name.ready"
done
psql --no-psqlrc -qtA -d postgres -c 'SELECT pg_reload_conf()' >/dev/null   # wakes the archiver
