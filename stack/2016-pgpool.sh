#!/bin/bash
# Wait for both servers, then become Pgpool: one that is late would be given up at once, and for
# good. In 2016 it was just started (images/arm-pgpool/Dockerfile:13), and people saw to the order.
set -Eeuo pipefail

umask 077
for role in postgres gis reader; do
    printf '%s:TEXT%s\n' "$role" "$(<"/run/secrets/${role}_password")"
done > /run/pgpool/pool_passwd
until (exec 3<>/dev/tcp/postgis1/5432 && exec 3<>/dev/tcp/postgis2/5432) 2> /dev/null; do
    sleep 1
done
rm -f /run/pgpool/pgpool.pid /run/pgpool/.s.*
exec pgpool -n -f /etc/pgpool/2016.conf -a /etc/pgpool/pool_hba.conf
