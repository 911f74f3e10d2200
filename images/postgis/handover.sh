#!/bin/bash
# Stop the primary so that a replica takes over at once; called by `gislab` for planned work.
#
# Patroni's own switchover looks at the stopping server once a second, and has everybody wait two
# seconds for the new one. A clean stop loses as little: PostgreSQL ends only when its replicas
# have all that was written (manual, 18.5, "Shutting Down the Server"), watch.sh sees the end of
# it, and Patroni fails over as after a crash, but with nothing to rewind.
set -Eeuo pipefail

DATA=/var/lib/postgresql/17
# what the checkpoint of the stop has to write is written before, while clients go on
psql --no-psqlrc -qtA -d postgres -c CHECKPOINT
pg_ctl stop --silent --pgdata="$DATA" --mode=fast --no-wait
