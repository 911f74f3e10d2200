#!/bin/bash
# Have the next primary be on a Pi that does not lead Consul: `apart.sh <host of Consul>`.
#
# A Pi that has both roles loses both at once, and the lock of the primary falls only when Consul
# has elected another leader, two seconds later. So each member says by a tag whether its Pi leads
# Consul, and of two that hold the same WAL the one of higher failover_priority takes the lock
# (Patroni, "YAML Configuration Settings", tags). A member whose Consul says nothing could not
# take it, and must not have another one wait for it.
#
# Patroni reads its settings anew for that, and looks at nothing for a second meanwhile. So only
# what has been so for ten seconds counts: never the election in the middle of a failover.
set -uo pipefail

HOST=$1
TAGS=/tmp/tags.yml
TOKEN=$(<"$CONSUL_HTTP_TOKEN_FILE")
KNOCK=$(printf 'patroni:%s' "$PATRONI_RESTAPI_PASSWORD" | base64 --wrap=0)
LEADER='"Node": *"([^"]*)"[^}]*"Leader": *true'
exec {never}<> <(:)      # reading from it is a sleep without a process

# request <host> <port> <what> <header> -> the answer in REPLY
request() {
    local server
    REPLY=
    { exec {server}<> "/dev/tcp/$1/$2"; } 2>/dev/null || return
    printf '%s HTTP/1.0\r\n%s\r\nContent-Length: 0\r\n\r\n' "$3" "$4" >&"$server" 2>/dev/null
    IFS= read -rd '' -t 1 -u "$server" REPLY
    exec {server}>&-
}

told=1 wanted=1 looks=0      # 1 is what a member has that says nothing
while true; do
    request "$HOST" 8500 "GET /v1/operator/raft/configuration?stale" "X-Consul-Token: $TOKEN"
    now=1
    if [[ "$REPLY" =~ $LEADER && "${BASH_REMATCH[1]}" != "$NODE_NAME" ]]; then now=2; fi
    if [[ "$now" != "$wanted" ]]; then wanted=$now looks=0; fi
    if [[ "$wanted" != "$told" ]] && (( ++looks > 10 )); then
        printf 'tags: {failover_priority: %d}\n' "$wanted" > "$TAGS"
        request 127.0.0.1 8008 "POST /reload" "Authorization: Basic $KNOCK"
        if [[ "$REPLY" == *" 202 "* ]]; then told=$wanted; fi
    fi
    read -rt 1 -u "$never" || true
done
