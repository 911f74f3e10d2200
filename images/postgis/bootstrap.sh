#!/bin/bash
# Called once by Patroni, on the first primary: the database, its roles and what lab needs.
set -Eeuo pipefail

GIS_PASSWORD=$(<"$GIS_PASSWORD_FILE")
READER_PASSWORD=$(<"$READER_PASSWORD_FILE")
export DATABASE GIS_PASSWORD READER_PASSWORD
exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres \
    --file /etc/patroni/bootstrap.sql
