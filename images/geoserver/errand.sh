#!/bin/bash
# What this server is to do to its tiles (docs.geoserver.org, "GeoWebCache REST API"):
#
#   errand.sh forget/WORKSPACE:LAYER
#   errand.sh seed/WORKSPACE:LAYER/FIRST/LAST    zooms; says `drawn total` of tiles every second
set -Eeuo pipefail

URL=http://127.0.0.1:8080/geoserver/gwc/rest
IFS=/ read -r VERB LAYER FIRST LAST <<< "$1"

ask() { admin.sh -o /dev/null -w '%{http_code}' -H 'Content-Type: text/xml' "$@"; }

# GeoWebCache moves the tiles aside before it answers; 400: it keeps none of this layer.
forget() {
    local status=''
    status=$(ask -d "<truncateLayer><layerName>$LAYER</layerName></truncateLayer>" \
        $URL/masstruncate) || [[ "$status" == 400 ]] || {
        echo "GeoWebCache answers $status" >&2
        return 1
    }
}

# One thread: a Pi has maps to draw meanwhile.
seed() {
    local status='' running
    status=$(ask -d "<seedRequest><name>$LAYER</name><gridSetId>EPSG:900913</gridSetId>$(
        )<zoomStart>$FIRST</zoomStart><zoomStop>$LAST</zoomStop><format>image/png</format>$(
        )<type>seed</type><threadCount>1</threadCount></seedRequest>" \
        "$URL/seed/$LAYER.xml") || { echo "GeoWebCache answers $status" >&2; return 1; }
    while true; do
        read -rt 1 <> <(:) || true
        # {"long-array-array":[[drawn, total, seconds left, task, state], ...]}
        running=$(admin.sh "$URL/seed/$LAYER.json")
        [[ "$running" =~ \[\[([0-9-]+),([0-9-]+), ]] || break
        echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
    done
}

case $VERB in
    forget) forget ;;
    seed) seed ;;
    *) echo "errand.sh: no errand $VERB; say forget or seed" >&2; exit 1 ;;
esac
