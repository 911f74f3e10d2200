#!/bin/bash
# Tell libpq where the database is, serve what the agent gets, and keep /health truthful.
set -Eeuo pipefail

RUN=/run/gislab

need() {
    [[ -n "${!1:-}" ]] || { echo "mapserver: $1 is not set, e.g. $1=$2" >&2; exit 1; }
}

# The mapfile says `service=gis`, so neither addresses nor passwords are in it. Every wait is
# bounded: a database that swallows packets must not hold a map for minutes.
write_service() {
    (umask 077 && cat > $RUN/pg_service.conf) <<SERVICE
[gis]
host=$VIP
port=${PORT_REPLICAS:-5434}
dbname=${DATABASE:-gis}
user=reader
password=$(<"${READER_PASSWORD_FILE:-/run/secrets/reader_password}")
connect_timeout=2
tcp_user_timeout=2000
keepalives_idle=1
keepalives_interval=1
keepalives_count=2
application_name=mapserver
options=-c statement_timeout=10s
SERVICE
}

# One real feature through MapServer and the database; bash opens the connection itself.
feature_comes() {
    local line found=1
    { exec 3<>/dev/tcp/127.0.0.1/8080; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "/ows?service=WFS&version=2.0.0&$(
        )request=GetFeature&typeNames=alive&count=1&outputFormat=application/json" >&3
    while IFS= read -rt 3 line <&3 || [[ -n "$line" ]]; do
        [[ "$line" == *'"geometry"'* ]] && { found=0; break; }
    done
    exec 3>&-
    return $found
}

start_agent() {
    agent.sh mapserver &
    AGENT=$!
}

watch() {
    local idle misses=0
    exec {idle}<> <(:)
    while kill -0 "$SERVER" 2>/dev/null; do
        kill -0 "$AGENT" 2>/dev/null || start_agent
        # without a catalog there is nothing to ask for
        if [[ -e $RUN/www/catalog ]] && feature_comes; then
            misses=0
            [[ -e $RUN/healthy ]] || { : > $RUN/healthy; echo "mapserver: serving" >&2; }
        elif ((++misses >= 3)) && [[ -e $RUN/healthy ]]; then
            rm -f $RUN/healthy
            echo "mapserver: no feature of alive, three times; /health says 503" >&2
        fi
        # quick while it is not healthy yet, so that a start costs no needless seconds
        if [[ -e $RUN/healthy ]]; then read -rt 2; else read -rt 0.3; fi <&$idle || true
    done
}

# What lighttpd said since its last answer (broken.lua passes on the rest).
last_words() {
    cat $RUN/log >&2 || true
}

# The proxies stop sending within half a second; what is under way is finished.
drain() {
    trap '' TERM INT
    rm -f $RUN/healthy
    echo "mapserver: draining" >&2
    kill "$AGENT" 2>/dev/null || true
    read -rt 1.5 <> <(:) || true
    kill -INT "$SERVER" 2>/dev/null && wait "$SERVER"
    last_words
    exit 0
}

_main() {
    if [[ "$1" != mapserver ]]; then
        exec "$@"
    fi
    need VIP 172.30.16.100
    need NODE_NAME pi1
    need NODES "'pi1=172.30.16.11 pi2=172.30.16.12 pi3=172.30.16.13'"
    export NODE_NAME NODES MAPSERVER_CONFIG_FILE=/etc/gislab/mapserver.conf
    mkdir -p $RUN/www
    rm -f $RUN/healthy $RUN/www/catalog
    write_service
    start_agent
    lighttpd -D -f /etc/gislab/lighttpd.conf &
    SERVER=$!
    trap drain TERM INT
    watch
    last_words
    echo "mapserver: lighttpd has ended" >&2
    exit 1
}

_main "$@"
