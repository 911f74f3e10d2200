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
# The stop begins a new segment of WAL, and PostgreSQL would not end before the archiver has brought
# away the last one and all that waits; after three seconds Patroni would take it for hung, and kill
# it. So the archiver is let off (see pgbackrest.sh): the new primary archives what is left, as after
# a crash (promoted.sh). It has the last eight segments for certain (wal_keep_size); as long as
# nearly as many wait, they are archived first, while clients go on. The mark names this very start
# of PostgreSQL, so that it does not count if this member is primary again.
patience=30
while [[ $(compgen -G "$DATA/pg_wal/archive_status/*.ready" | wc -l) -gt 5 && $((patience--)) -gt 0 ]]
do
    sleep 1
done
head -n 3 "$DATA/postmaster.pid" > "$MARK"
pg_ctl stop --silent --pgdata="$DATA" --mode=fast --no-wait || { rm -f "$MARK"; exit 1; }
# one that is on its way ends, too: in the archive is a segment whole or not at all
pkill -TERM -f 'archive-push pg_wal/' || true
