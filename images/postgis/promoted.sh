#!/bin/bash
# Called by Patroni when this member's role changes: archive what the former primary could not.
#
# A replica archives nothing, and after its promotion only what it writes itself (PostgreSQL
# manual, 26.2.9). Segments that the former primary had finished but not archived when it died
# would be missing in every archive. They are here, since no write is acknowledged without.
set -uo pipefail

[[ "${2:-}" == primary && -n "${REPOSITORIES:-}" ]] || exit 0
cd /var/lib/postgresql/17 || exit 1
export PGBACKREST_ARCHIVE_ASYNC=n      # this one segment; else what PostgreSQL has marked
# Patroni calls while the promotion is under way; the new timeline's history is the end of it
for _ in {1..300}; do
    [[ "$(psql --no-psqlrc -qtA -d postgres -c 'SELECT pg_is_in_recovery()' 2>/dev/null)" != f ]] \
        || break
    sleep 0.2
done
newest=$(cd pg_wal && printf '%s\n' *.history | sort | tail -n 1)
for segment in pg_wal/[0-9A-F]???????????????????????; do
    name=${segment#pg_wal/}
    # those of this timeline are PostgreSQL's own business; and most were archived in time
    [[ "${name:0:8}" < "${newest%.history}" ]] || continue
    compgen -G "/var/lib/pgbackrest/archive/gis/17-*/${name:0:16}/$name-*" >/dev/null \
        || pgbackrest.sh archive-push "$segment"
done
