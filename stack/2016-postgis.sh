#!/bin/bash
# One of the two PostgreSQL servers of 2016: it replicates from nobody, and to nobody.
# As images/arm-postgis/exec_postgres of github.com/AAiache/GIS-Docker-Project at 9f4131b: start
# the server (10), and the first time fill the database (46-51).
set -Eeuo pipefail

DATA=/var/lib/postgresql/17
LOCAL=(-c unix_socket_directories=/run/postgresql -c jit=off)

if [[ ! -s $DATA/filled ]]; then
    rm -rf "$DATA"
    initdb --pgdata="$DATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 > /dev/null
    echo 'host all all all scram-sha-256' >> "$DATA/pg_hba.conf"
    # no port is open before the database is whole
    pg_ctl -D "$DATA" -w -s -o "${LOCAL[*]} -c listen_addresses=''" start
    bootstrap.sh
    pg_ctl -D "$DATA" -w -s -m fast stop
    echo yes > "$DATA/filled"
fi
# a power cut leaves it behind, and its number may be another program's by now
rm -f "$DATA/postmaster.pid"
exec postgres -D "$DATA" -c listen_addresses='*' "${LOCAL[@]}"
