#!/bin/bash
# A map server that reads its configuration when it starts, and never again: what reloads it was
# planned in 2016, and is a comment there (foreman/geoserver-reload:68-78).
set -Eeuo pipefail

RUN=/run/gislab
export MAPSERVER_CONFIG_FILE=/etc/gislab/mapserver.conf
mkdir -p $RUN/www $RUN/current
cp /etc/gislab/gis.map $RUN/current/gis.map
(umask 077 && cat > $RUN/pg_service.conf) <<SERVICE
[gis]
host=pgpool
port=5432
dbname=${DATABASE:-gis}
user=reader
password=$(<"$READER_PASSWORD_FILE")
application_name=mapserver
SERVICE
exec lighttpd -D -f /etc/gislab/lighttpd.conf
