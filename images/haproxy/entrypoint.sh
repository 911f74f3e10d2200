#!/bin/bash
# Give HAProxy its password from a secret, prove the configuration, then become HAProxy.
set -Eeuo pipefail

# haproxy.cfg reads it as "${HAPROXY_PASSWORD}".
export_password() {
    : "${HAPROXY_PASSWORD_FILE:=/run/secrets/haproxy_password}"
    if [[ -z "${HAPROXY_PASSWORD:-}" ]]; then
        [[ -r "$HAPROXY_PASSWORD_FILE" ]] || {
            echo "haproxy: HAPROXY_PASSWORD_FILE=$HAPROXY_PASSWORD_FILE cannot be read;" \
                "give the statistics page a password, e.g. a Swarm secret haproxy_password" >&2
            exit 1
        }
        HAPROXY_PASSWORD=$(<"$HAPROXY_PASSWORD_FILE")
    fi
    [[ -n "$HAPROXY_PASSWORD" ]] || { echo "haproxy: the password is empty" >&2; exit 1; }
    export HAPROXY_PASSWORD
}

_main() {
    if [[ "$1" != haproxy ]]; then
        exec "$@"
    fi
    export_password
    haproxy -c -f "${!#}"
    exec "$@"
}

_main "$@"
