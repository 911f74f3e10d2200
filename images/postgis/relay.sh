#!/bin/bash
# The way to every member's Patroni, see peers.cfg: `relay.sh port <member>`, `relay.sh run`.
set -Eeuo pipefail

# postgis2 -> 8012, where the relay of each member listens for it
port_of() {
    [[ "$1" =~ ([0-9]+)$ ]] \
        || { echo "postgis: a member's name ends in a number, e.g. postgis1 (not $1)" >&2; exit 1; }
    echo $(( 8010 + 10#${BASH_REMATCH[1]} ))
}

run() {
    local member
    for member in ${MEMBERS:-postgis1 postgis2 postgis3}; do
        printf 'listen %s from peers\n    bind 127.0.0.1:%d\n' "$member" "$(port_of "$member")"
        # an order such as a switchover may take long, a question may not
        printf '    http-request set-timeout server 1500ms if { method GET }\n'
        printf '    server %s %s:8008 resolvers swarm init-addr none\n' "$member" "$member"
    done > /tmp/peers.cfg
    while true; do    # started again should it ever end
        ROLE_KNOWN_AT=$(( $(date +%s) + 3 )) \
            haproxy -db -q -f /etc/patroni/peers.cfg -f /tmp/peers.cfg || true
        sleep 1
    done
}

case "${1:-}" in
    port) port_of "$2" ;;
    run) run ;;
esac
