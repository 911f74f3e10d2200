#!/bin/bash
# An SQL answer through Pgpool, as the role that may only read.
set -Eeuo pipefail

PGPASSWORD=$(<"$READER_PASSWORD_FILE")
export PGPASSWORD PGCONNECT_TIMEOUT=4
psql --no-psqlrc -qtA -h 127.0.0.1 -U reader -d "${DATABASE:-gis}" \
    -c 'SELECT id FROM lab.alive' >/dev/null
