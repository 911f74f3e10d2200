#!/bin/bash
# Give Patroni what differs between members and what is secret, then become Patroni.
# `docker exec <container> entrypoint.sh patronictl list` works likewise.
set -Eeuo pipefail

fail() { printf 'postgis: %s\n' "$1" >&2; exit 1; }

# secret GIS_PASSWORD -> what the file named by GIS_PASSWORD_FILE holds
secret() {
    local variable="$1_FILE"
    [[ -n "${!variable:-}" ]] || fail "$variable is not set, e.g. $variable=/run/secrets/${1,,}"
    [[ -s "${!variable}" ]] || fail "$variable names ${!variable}, which is missing or empty"
    cat "${!variable}"
}

address_of() {
    local pair
    for pair in $NODES; do
        [[ "${pair%%=*}" != "$1" ]] || { echo "${pair#*=}"; return; }
    done
    fail "NODE_NAME $1 is not in NODES ($NODES)"
}

configure() {
    : "${MEMBER:?the DNS name of this member, e.g. postgis1}"
    : "${SCOPE:?the name of the lab, e.g. gislab}"
    : "${NODE_NAME:?the name of this machine, e.g. pi1}"
    : "${NODES:?names and addresses of all machines, e.g. 'pi1=172.30.16.11 pi2=172.30.16.12'}"
    export DATABASE=${DATABASE:-gis}
    CONSUL=$(address_of "$NODE_NAME")
    # assigned before they are exported, so that a failure ends this script
    PATRONI_CONSUL_TOKEN=$(secret CONSUL_HTTP_TOKEN)
    PATRONI_RESTAPI_PASSWORD=$(secret PATRONI_PASSWORD)
    PATRONI_SUPERUSER_PASSWORD=$(secret POSTGRES_PASSWORD)
    PATRONI_REPLICATION_PASSWORD=$(secret REPLICATION_PASSWORD)
    RELAY=$(relay.sh port "$MEMBER")
    secret GIS_PASSWORD >/dev/null
    secret READER_PASSWORD >/dev/null
    # without REPOSITORIES there are no backups, e.g. in a bench of the image
    [[ -z "${REPOSITORIES:-}" ]] || secret BACKUP_IDENTITY >/dev/null
    export PATRONI_CONSUL_TOKEN PATRONI_RESTAPI_PASSWORD
    export PATRONI_SUPERUSER_PASSWORD PATRONI_REPLICATION_PASSWORD
    export PATRONI_NAME=$MEMBER PATRONI_SCOPE=$SCOPE
    export PATRONI_CONSUL_HOST=$CONSUL:8500
    # not even empty without: Patroni would send a text where Consul wants a list
    ! has checks || export PATRONI_CONSUL_CHECKS="serfHealth,$MEMBER-alive"
    export PATRONI_POSTGRESQL_CONNECT_ADDRESS=$MEMBER:5432
    # by the relay in each member's own container, see peers.cfg
    export PATRONI_RESTAPI_CONNECT_ADDRESS=127.0.0.1:$RELAY
    has relay || PATRONI_RESTAPI_CONNECT_ADDRESS=$MEMBER:8008
    export PATRONI_RESTAPI_USERNAME=patroni
    export PATRONI_SUPERUSER_USERNAME=postgres PATRONI_REPLICATION_USERNAME=replicator
    # who streams all data may as well read the files of it; see bootstrap.sql
    export PATRONI_REWIND_USERNAME=replicator PATRONI_REWIND_PASSWORD=$PATRONI_REPLICATION_PASSWORD
    export PATRONICTL_CONFIG_FILE=/etc/patroni/patroni.yml
}

# WITHOUT="watch relay checks" leaves these out: Patroni as it comes, to compare with
has() { [[ " ${WITHOUT:-} " != *" $1 "* ]]; }

# The check has to exist before Patroni makes a session that hangs on it.
be_alive() {
    until alive.sh "$CONSUL" "$MEMBER-alive" once; do
        echo "$MEMBER: waiting for Consul at $CONSUL:8500" >&2
        sleep 1
    done
    alive.sh "$CONSUL" "$MEMBER-alive" &
}

_main() {
    case "${1:-}" in
        patroni)
            if [[ "${2:-}" != --* ]]; then
                configure
                be_alive
                relay.sh run &
                if has watch; then
                    watch.sh /var/lib/postgresql/17 &
                else
                    set -- /usr/bin/patroni "${@:2}"    # Debian's own
                fi
                guard.sh &
                [[ -z "${REPOSITORIES:-}" ]] || repository.sh &
            fi
            ;;
        patronictl) configure ;;
    esac
    exec "$@"
}

_main "$@"
