#!/bin/bash
# Serve the data directory that the agent gets, and keep /health truthful.
set -Eeuo pipefail

RUN=/run/gislab
TILES=/var/cache/gislab
ALIVE='service=WFS&version=2.0.0&request=GetFeature&typeNames=alive&count=1&outputFormat=application/json'

need() {
    [[ -n "${!1:-}" ]] || { echo "geoserver: $1 is not set, e.g. $1=$2" >&2; exit 1; }
}

# The agent runs beside it from the start: GeoServer begins with the catalog, not before.
start_agent() {
    agent.sh --in-turn geoserver &
    AGENT=$!
}

await_catalog() {
    local idle
    exec {idle}<> <(:)
    until [[ -e $RUN/data/proxy-base-url ]]; do
        kill -0 "$AGENT" 2>/dev/null || start_agent
        read -rt 0.2 <&$idle || true
    done
    export WORKSPACE
    WORKSPACE=$(basename "$(dirname "$(ls $RUN/data/workspaces/*/workspace.xml)")")
}

# Read once, at the first start of an empty security folder, and then kept as a hash only: so
# there is no moment in which admin/geoserver would be let in. The editor may write to layers that
# the catalog calls writable; without a password for one, there is none.
set_users() {
    local password editor
    password=$(<"${GEOSERVER_PASSWORD_FILE:-/run/secrets/geoserver_password}")
    [[ -n "$password" && "$password" != geoserver ]] || {
        echo "geoserver: the administrator's password is empty or the default one" >&2
        exit 1
    }
    editor=$(cat "${EDITOR_PASSWORD_FILE:-/run/secrets/editor_password}" 2>/dev/null || true)
    (
        umask 077
        echo "admin=$password,ROLE_ADMINISTRATOR,enabled"
        [[ -z "$editor" ]] || echo "editor=$editor,ROLE_EDITOR,enabled"
    ) > $RUN/data/security/users.properties
}

# Tiles of an earlier start may be of an earlier catalog.
set_tiles() {
    rm -rf "${TILES:?}"/*
    cp $RUN/data/geowebcache-diskquota.xml $TILES/ || true # an older catalog has none
}

start_server() {
    . /opt/geoserver/engine
    local options=(
        "-Xms128m" "-Xmx${GEOSERVER_HEAP:-320m}" -Xss512k
        -XX:TieredStopAtLevel=1 # half the CPU of a start and 70 MB less; maps are as quick
        -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError
        -Djava.awt.headless=true -Djava.io.tmpdir=/tmp -Duser.timezone=UTC
        "-DGEOSERVER_DATA_DIR=$RUN/data" "-DGEOWEBCACHE_CACHE_DIR=$TILES"
        # as the client has asked HAProxy, with TLS or without; who asks past it hears of the VIP
        "-DPROXY_BASE_URL=\${X-Forwarded-Proto}://\${X-Forwarded-Host}/geoserver $(
            <$RUN/data/proxy-base-url)"
        -DPROXY_BASE_URL_HEADERS=true
    )
    if [[ "${GEOSERVER_CONSOLE:-off}" == on ]]; then
        # a form that came by TLS says https, and GeoServer, behind HAProxy, was asked by http
        options+=("-DGEOSERVER_CSRF_WHITELIST=$VIP")
    else # the catalog is the one way to change what is published
        options+=(-DGEOSERVER_CONSOLE_DISABLED=true)
    fi
    echo "geoserver: GeoServer $VERSION in $ENGINE, $(java --version | head -n 1)" >&2
    if [[ $ENGINE == jetty ]]; then
        java "${options[@]}" -cp "/usr/share/java/servlet-api.jar$(
            printf ':/usr/share/java/jetty9-%s.jar' http io rewrite security server servlet \
                servlets util util-ajax webapp xml)" \
            org.eclipse.jetty.xml.XmlConfiguration /etc/gislab/jetty.xml &
    else
        mkdir -p $RUN/tomcat/{conf/Catalina/localhost,webapps,work}
        cp /etc/gislab/web.xml $RUN/tomcat/conf/
        printf 'RewriteRule ^/%s$ /geoserver/%s/%s\n' ows "$WORKSPACE" ows \
            wmts "$WORKSPACE" gwc/service/wmts > $RUN/tomcat/conf/Catalina/localhost/rewrite.config
        java "${options[@]}" "-Dcatalina.home=$RUN/tomcat" "-Dcatalina.base=$RUN/tomcat" \
            -cp "$(printf '%s:' /usr/share/java/tomcat11-*.jar)" \
            org.apache.catalina.startup.Tomcat --catalina -config /etc/gislab/server.xml &
    fi
    SERVER=$!
}

# One real feature through GeoServer and the database; bash opens the connection itself.
feature_comes() {
    local line found=1
    { exec 3<>/dev/tcp/127.0.0.1/8080; } 2>/dev/null || return 1
    printf 'GET /ows?%s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$ALIVE" >&3
    while IFS= read -rt 5 line <&3 || [[ -n "$line" ]]; do
        [[ "$line" == *'"geometry"'* ]] && { found=0; break; }
    done
    exec 3>&-
    return $found
}

# GeoServer has a hash of it by now.
forget_admin() {
    rm -f $RUN/data/security/{users.properties*,masterpw.info}
}

watch() {
    local idle misses=0 warm=''
    exec {idle}<> <(:)
    while kill -0 "$SERVER" 2>/dev/null; do
        kill -0 "$AGENT" 2>/dev/null || start_agent
        if [[ -e $RUN/out ]]; then
            : # hold.sh reloads the catalog, and nobody shall see half of it
        elif [[ -e $RUN/www/catalog ]] && feature_comes; then
            [[ -n "$warm" ]] || { forget_admin; warm.sh; warm=yes; }
            misses=0
            [[ ! -e $RUN/out ]] || continue
            [[ -e $RUN/www/health ]] || { echo ok > $RUN/www/health; echo "geoserver: serving" >&2; }
        elif ((++misses >= 3)) && [[ -e $RUN/www/health ]]; then
            rm -f $RUN/www/health
            echo "geoserver: no feature of alive, three times; /health says no" >&2
        fi
        if [[ -e $RUN/www/health ]]; then read -rt 2; else read -rt 0.5; fi <&$idle || true
    done
}

# The proxies stop sending within half a second; what is under way is finished.
drain() {
    trap '' TERM INT
    rm -f $RUN/www/health
    echo "geoserver: draining" >&2
    kill "$AGENT" 2>/dev/null || true
    read -rt 1.5 <> <(:) || true
    [[ -z "$SERVER" ]] || kill -TERM "$SERVER" 2>/dev/null || true
    [[ -z "$SERVER" ]] || wait "$SERVER" || true # 143 is how Java ends
    exit 0
}

_main() {
    if [[ "$1" != geoserver ]]; then
        exec "$@"
    fi
    need VIP 172.30.16.100
    need NODE_NAME pi1
    need NODES "'pi1=172.30.16.11 pi2=172.30.16.12 pi3=172.30.16.13'"
    export NODE_NAME NODES
    rm -rf $RUN/www $RUN/data $RUN/out
    mkdir -p $RUN/www /tmp/jetty
    SERVER=''
    trap drain TERM INT
    start_agent
    await_catalog
    set_users
    set_tiles
    start_server
    watch
    echo "geoserver: the servlet engine has ended" >&2
    exit 1
}

_main "$@"
