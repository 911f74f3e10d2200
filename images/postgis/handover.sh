#!/bin/bash
# Stop the primary so that a replica takes over at once; called by `gislab` for planned work.
#
# Patroni's own switchover looks at the stopping server once a second, and has everybody wait two
# seconds for the new one. A clean stop loses as little: PostgreSQL ends only when its replicas
# have all that was written (manual, 18.5, "Shutting Down the Server"), watch.sh sees the end of
# it, and Patroni fails over as after a crash, but with nothing to rewind.
set -Eeuo pipefail

DATA=/var/lib/postgresql/17
MARK=/run/postgresql/handover
# what the checkpoint of the stop has to write is written before, while clients go on
psql --no-psqlrc -qtA -d postgres -c CHECKPOINT
# The stop begins a new segment of WAL, and the archiver would take its time for the last one after
# the replicas have it. Where it has nothing else left to do, it is let off (see pgbackrest.sh):
# the new primary archives that segment, as after a crash (promoted.sh). The mark names this very
# start of PostgreSQL, so that it does not count if this member is primary again.
if ! compgen -G "$DATA/pg_wal/archive_status/*.ready" >/dev/null; then
    head -n 3 "$DATA/postmaster.pid" > "$MARK"
fi
pg_ctl stop --silent --pgdata="$DATA" --mode=fast --no-wait || { rm -f "$MARK"; exit 1; }
