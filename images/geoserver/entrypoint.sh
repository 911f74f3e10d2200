#!/bin/bash
# Unpack the catalog as data directory, fill in what is secret, serve, keep /health truthful.
set -Eeuo pipefail

RUN=/run/gislab
CATALOG_FILE=${CATALOG_FILE:-/etc/gislab/catalog.tar}
ALIVE='service=WFS&version=2.0.0&request=GetFeature&typeNames=alive&count=1&outputFormat=application/json'

need() {
    [[ -n "${!1:-}" ]] || { echo "geoserver: $1 is not set, e.g. $1=$2" >&2; exit 1; }
}

fill() { # placeholder value: in every datastore.xml
    local file text
    for file in $RUN/data/workspaces/*/*/datastore.xml; do
        text=$(<"$file")
        printf '%s\n' "${text//"$1"/"$2"}" > "$file"
    done
}

unpack_catalog() {
    [[ -r "$CATALOG_FILE" ]] || {
        echo "geoserver: no catalog at $CATALOG_FILE; mount what catalog.render made" >&2
        exit 1
    }
    mkdir -p $RUN/data $RUN/www /tmp/jetty
    tar -xf "$CATALOG_FILE" -C $RUN/data
    [[ -f $RUN/data/proxy-base-url ]] || {
        echo "geoserver: $CATALOG_FILE holds no proxy-base-url; it was rendered for another server" >&2
        exit 1
    }
    export WORKSPACE
    WORKSPACE=$(basename "$(dirname "$(ls $RUN/data/workspaces/*/workspace.xml)")")
    sha256sum < "$CATALOG_FILE" | head -c 12 > $RUN/www/catalog
    fill @VIP@ "$VIP"
    fill @PORT_REPLICAS@ "${PORT_REPLICAS:-5434}"
    fill @DATABASE@ "${DATABASE:-gis}"
    fill @READER_PASSWORD@ "$(<"${READER_PASSWORD_FILE:-/run/secrets/reader_password}")"
}

# Read once, at the first start of an empty security folder, and then kept as a hash only: so
# there is no moment in which admin/geoserver would be let in.
set_admin() {
    local password
    password=$(<"${GEOSERVER_PASSWORD_FILE:-/run/secrets/geoserver_password}")
    [[ -n "$password" && "$password" != geoserver ]] || {
        echo "geoserver: the administrator's password is empty or the default one" >&2
        exit 1
    }
    (umask 077 && echo "admin=$password,ROLE_ADMINISTRATOR,enabled" \
        > $RUN/data/security/users.properties)
}

start_server() {
    . /opt/geoserver/engine
    local options=(
        "-Xms128m" "-Xmx${GEOSERVER_HEAP:-320m}" -Xss512k
        -XX:TieredStopAtLevel=1 # half the CPU of a start and 70 MB less; maps are as quick
        -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError
        -Djava.awt.headless=true -Djava.io.tmpdir=/tmp -Duser.timezone=UTC
        -DGEOSERVER_DATA_DIR=$RUN/data -DGEOWEBCACHE_CACHE_DIR=/tmp/gwc
        "-DPROXY_BASE_URL=$(<$RUN/data/proxy-base-url)"
        # the catalog is the one way to change what is published
        -DGEOSERVER_CONSOLE_DISABLED=true
    )
    echo "geoserver: GeoServer $VERSION in $ENGINE, $(java --version | head -n 1)" >&2
    if [[ $ENGINE == jetty ]]; then
        java "${options[@]}" -cp "/usr/share/java/servlet-api.jar$(
            printf ':/usr/share/java/jetty9-%s.jar' http io rewrite security server servlet \
                servlets util util-ajax webapp xml)" \
            org.eclipse.jetty.xml.XmlConfiguration /etc/gislab/jetty.xml &
    else
        mkdir -p $RUN/tomcat/{conf/Catalina/localhost,webapps,work}
        cp /etc/gislab/web.xml $RUN/tomcat/conf/
        echo "RewriteRule ^/ows\$ /geoserver/$WORKSPACE/ows" \
            > $RUN/tomcat/conf/Catalina/localhost/rewrite.config
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

# The first map loads hundreds of classes: nobody shall wait for that but us.
warm_up() {
    rm -f $RUN/data/security/{users.properties*,masterpw.info}
    curl -s -m 30 -o /dev/null "http://127.0.0.1:8080/ows?service=WMS&version=1.3.0&request=$(
        )GetMap&layers=alive&styles=&crs=CRS:84&bbox=-9,-9,9,9&width=64&height=64&format=image/png" \
        || true
}

watch() {
    local idle misses=0 warm=''
    exec {idle}<> <(:)
    while kill -0 "$SERVER" 2>/dev/null; do
        if feature_comes; then
            [[ -n "$warm" ]] || { warm_up; warm=yes; }
            misses=0
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
    read -rt 1.5 <> <(:) || true
    kill -TERM "$SERVER" 2>/dev/null || true
    wait "$SERVER" || true # 143 is how Java ends
    exit 0
}

_main() {
    if [[ "$1" != geoserver ]]; then
        exec "$@"
    fi
    need VIP 172.30.16.100
    export NODE_NAME=${NODE_NAME:-$HOSTNAME}
    rm -rf $RUN/www $RUN/data
    unpack_catalog
    set_admin
    start_server
    trap drain TERM INT
    watch
    echo "geoserver: the servlet engine has ended" >&2
    exit 1
}

_main "$@"
