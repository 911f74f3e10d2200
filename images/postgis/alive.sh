#!/bin/bash
# Tell this Pi's Consul twice a second that this container lives: `alive.sh <host> <check>`.
#
# The lock of the primary hangs on this check (TTL 2 s) besides serfHealth, which tells the
# death of a whole Pi only. Bash alone and no fork: it runs for ever, on a small machine.
set -uo pipefail

HOST=$1
CHECK=$2
TOKEN=$(<"$CONSUL_HTTP_TOKEN_FILE")
exec {never}<> <(:)      # reading from it is a sleep without a process

# request <path> [json] -> true if Consul answered 200
request() {
    local consul status=
    { exec {consul}<> "/dev/tcp/$HOST/8500"; } 2>/dev/null || return 1
    printf 'PUT /v1/agent/check/%s HTTP/1.1\r\nHost: consul\r\nX-Consul-Token: %s\r\n%s\r\n%s' \
        "$1" "$TOKEN" "Connection: close"$'\r\n'"Content-Length: ${#2}"$'\r\n' "$2" \
        >&"$consul" 2>/dev/null
    read -rt 1 -u "$consul" _ status _
    exec {consul}>&-
    [[ "$status" == 200 ]]
}

register() {
    request register \
        "{\"ID\": \"$CHECK\", \"Name\": \"$CHECK\", \"TTL\": \"2s\", \"Status\": \"passing\"}"
}

# The first word of a container is that the one before it is dead. Swarm has replaced it sooner than
# its check runs out, and if that just passed again, the lock would stay with a session that nobody
# renews. Consul drops one whose check fails at once; the agent tells its servers meanwhile. (Consul
# 1.8.7 does not if the check is only registered anew as critical.)
if [[ "${3:-}" == once ]]; then
    register && request "fail/$CHECK" "" || exit
    read -rt 0.3 -u "$never"
    request "pass/$CHECK" ""
    exit
fi
while true; do
    # an agent that lost its data does not know the check any more
    request "pass/$CHECK" "" || register
    read -rt 0.5 -u "$never" || true
done
