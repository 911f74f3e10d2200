#!/bin/bash
# hold.sh FOLDER: serve the data directory in FOLDER, or say why not.
#
# GeoServer reads its files at its start, and when told to reload; a reload breaks what is asked
# meanwhile. So it leaves HAProxy's pool first, as if it stopped, and comes back warm.
set -Eeuo pipefail

RUN=/run/gislab
DATA=$RUN/data

rest() { read -rt "$1" <> <(:) || true; }

# What is secret, or this lab's own, comes out of the container.
fill() {
    local file text
    for file in "$1"/workspaces/*/*/datastore.xml; do
        text=$(<"$file")
        text=${text//@VIP@/"$VIP"}
        text=${text//@PORT_REPLICAS@/"${PORT_REPLICAS:-5434}"}
        text=${text//@PORT_PRIMARY@/"${PORT_PRIMARY:-5433}"}
        text=${text//@DATABASE@/"${DATABASE:-gis}"}
        text=${text//@READER_PASSWORD@/"$(<"${READER_PASSWORD_FILE:-/run/secrets/reader_password}")"}
        [[ "$text" != *@GIS_PASSWORD@* ]] \
            || text=${text//@GIS_PASSWORD@/"$(<"${GIS_PASSWORD_FILE:-/run/secrets/gis_password}")"}
        printf '%s\n' "$text" > "$file"
    done
}

# ready FOLDER seconds: until GeoServer has every layer. Its REST knows those, too, whose tables
# are not there yet; capabilities leave them out.
ready() {
    local end=$((SECONDS + $2)) offered layer missing=''
    while ((SECONDS < end)); do
        offered=$(admin.sh "http://127.0.0.1:8080/geoserver/rest/layers.json" || true)
        missing=''
        for layer in "$1"/workspaces/*/*/*/layer.xml; do
            layer=${layer%/layer.xml}
            [[ "$offered" =~ \"name\":\"([a-z0-9_]+:)?"${layer##*/}"\" ]] || missing+=" ${layer##*/}"
        done
        [[ -n "$missing" ]] || return 0
        rest 0.5
    done
    echo "GeoServer does not have$missing" >&2
    return 1
}

# enable FOLDER: its stores. GeoServer connects to each while it loads them, and disables those that
# do not answer then, for good ("Error connecting to 'lab'. Disabling."): a database that failed
# over in that second would be gone for this server. An enabled store connects when it is asked.
enable() {
    local store space
    for store in "$1"/workspaces/*/*/datastore.xml; do
        store=${store%/datastore.xml} space=${store%/*}
        admin.sh -X PUT -o /dev/null -H 'Content-Type: text/xml' \
            -d '<dataStore><enabled>true</enabled></dataStore>' \
            "http://127.0.0.1:8080/geoserver/rest/workspaces/${space##*/}/datastores/${store##*/}" \
            || { echo "GeoServer does not enable the store ${store##*/}" >&2; return 1; }
    done
}

# What a new version replaces whole, beside the files of the services.
PARTS='workspaces gwc-layers tiles security/layers.properties security/services.properties'

place() { # FOLDER: its files in the place of the old ones; what GeoServer made itself stays
    rm -rf $DATA/{workspaces,gwc-layers,tiles}
    cp -r "$1"/. $DATA/
    [[ ! -e $1/geowebcache-diskquota.xml ]] || cp "$1/geowebcache-diskquota.xml" /var/cache/gislab/
}

reload() {
    admin.sh -X POST -o /dev/null http://127.0.0.1:8080/geoserver/rest/reload \
        || { echo "GeoServer refuses to reload" >&2; return 1; }
}

# forget_changed FOLDER: tiles that were drawn by another style or of another table than its own.
# Before the reload: GeoServer still knows the layers that go, and nobody asks it meanwhile.
forget_changed() {
    local layer mark
    [[ -e $DATA/tiles ]] || return 0
    while read -r layer mark; do
        grep -qsxF "$layer $mark" "$1/tiles" || errand.sh "forget/$layer" || return 1
    done < $DATA/tiles
}

back() {
    rm -f $RUN/out
    local end=$((SECONDS + 15))
    until [[ -e $RUN/www/health ]] || ((SECONDS > end)); do rest 0.2; done
    rest 0.8 # HAProxy looks four times a second; then the next server may go
}

_main() {
    local old file
    for file in $RUN/catalog/*; do # those before were copied, and the memory is small
        [[ "$file" == "$1" ]] || rm -rf "$file"
    done
    [[ -d $1/workspaces ]] || { echo "there is no data directory in it" >&2; exit 1; }
    if [[ ! -e $DATA/proxy-base-url ]]; then # the first one: the entrypoint waits for it
        fill "$1"
        mkdir -p $DATA
        mv "$1/proxy-base-url" $RUN/last
        cp -r "$1"/. $DATA/
        mv $RUN/last $DATA/proxy-base-url # the sign that all is there
        ready "$1" 600 && enable "$1"
        return
    fi
    [[ -d $1/workspaces/$WORKSPACE_NOW ]] || {
        echo "its workspace is not $WORKSPACE_NOW, which this server began with" >&2
        exit 1
    }
    fill "$1"
    old=$RUN/before
    rm -rf $old && mkdir -p $old
    for file in $PARTS; do
        [[ ! -e $DATA/$file ]] || (cd $DATA && cp -r --parents "$file" $old/)
    done
    for file in "$1"/*.xml; do cp "$DATA/${file##*/}" $old/ || true; done
    trap back EXIT
    : > $RUN/out
    rm -f $RUN/www/health
    rest 0.3
    rm -f $RUN/www/health # the entrypoint may just have been about to write it
    rest 1.5
    forget_changed "$1" || { echo "GeoServer does not forget its tiles" >&2; exit 1; }
    place "$1"
    reload && ready "$1" 120 && enable "$1" && warm.sh || {
        place $old
        reload
        ready $old 120
        enable $old
        exit 1
    }
}

WORKSPACE_NOW=$(basename "$(dirname "$(ls $DATA/workspaces/*/workspace.xml 2>/dev/null)")" 2>/dev/null || true)
_main "$@"
