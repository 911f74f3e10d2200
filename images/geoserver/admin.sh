#!/bin/bash
# admin.sh WORDS-OF-CURL: ask GeoServer as its administrator; the password goes by curl's input,
# never by its words.
set -Eeuo pipefail

printf 'user = "admin:%s"\n' "$(<"${GEOSERVER_PASSWORD_FILE:-/run/secrets/geoserver_password}")" \
    | curl -sf -m 60 -K - "$@"
