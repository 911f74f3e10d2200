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
    PORT=$(port_of "$MEMBER")
    secret GIS_PASSWORD >/dev/null
    secret READER_PASSWORD >/dev/null
    export PATRONI_CONSUL_TOKEN PATRONI_RESTAPI_PASSWORD
    export PATRONI_SUPERUSER_PASSWORD PATRONI_REPLICATION_PASSWORD
    export PATRONI_NAME=$MEMBER PATRONI_SCOPE=$SCOPE
    export PATRONI_CONSUL_HOST=$CONSUL:8500 PATRONI_CONSUL_CHECKS="serfHealth,$MEMBER-alive"
    export PATRONI_POSTGRESQL_CONNECT_ADDRESS=$MEMBER:5432
    # by the relay in each member's own container, see peers.cfg
    export PATRONI_RESTAPI_CONNECT_ADDRESS=127.0.0.1:$PORT
    export PATRONI_RESTAPI_USERNAME=patroni
    export PATRONI_SUPERUSER_USERNAME=postgres PATRONI_REPLICATION_USERNAME=replicator
    export PATRONICTL_CONFIG_FILE=/etc/patroni/patroni.yml
}

# postgis2 -> 8012, where the relay of each member listens for it
port_of() {
    [[ "$1" =~ ([0-9]+)$ ]] || fail "MEMBER and MEMBERS end in a number, e.g. postgis1 (not $1)"
    echo $(( 8010 + 10#${BASH_REMATCH[1]} ))
}

# The way to the other members' Patroni, started again should it ever end.
relay() {
    local member
    for member in ${MEMBERS:-postgis1 postgis2 postgis3}; do
        printf 'listen %s\n    bind 127.0.0.1:%d\n' "$member" "$(port_of "$member")"
        # an order such as a switchover may take long, a question may not
        printf '    http-request set-timeout server 1s if { method GET }\n'
        printf '    server %s %s:8008 resolvers swarm init-addr none\n' "$member" "$member"
    done > /tmp/peers.cfg
    while true; do
        haproxy -db -q -f /etc/patroni/peers.cfg -f /tmp/peers.cfg || true
        sleep 1
    done
}

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
                relay &
                watch.sh /var/lib/postgresql/17 &
                guard.sh &
            fi
            ;;
        patronictl) configure ;;
    esac
    exec "$@"
}

_main "$@"
