#!/bin/bash
# Refuse to run without a certificate and users, then become the registry.
set -Eeuo pipefail

need_file() {
    local file=${!1:-}
    [[ -n "$file" ]] || { echo "registry: $1 is not set, e.g. $1=$2" >&2; exit 1; }
    [[ -s "$file" && -r "$file" ]] || {
        echo "registry: $1=$file is missing, empty or unreadable for $(id -un)" >&2
        exit 1
    }
}

_main() {
    if [[ "$1 ${2:-}" != "docker-registry serve" ]]; then
        exec "$@"
    fi
    need_file REGISTRY_HTTP_TLS_CERTIFICATE /etc/registry/registry.crt
    need_file REGISTRY_HTTP_TLS_KEY /etc/registry/registry.key
    need_file REGISTRY_AUTH_HTPASSWD_PATH /etc/registry/htpasswd
    export REGISTRY_AUTH=htpasswd
    export REGISTRY_AUTH_HTPASSWD_REALM="${REGISTRY_AUTH_HTPASSWD_REALM:-gislab}"
    exec "$@"
}

_main "$@"
