#!/bin/bash
# Write the addresses and the passwords that Pgpool needs to a tmpfs, then become Pgpool.
set -Eeuo pipefail

fail() { printf 'pgpool: %s\n' "$1" >&2; exit 1; }

# secret GIS_PASSWORD -> what the file named by GIS_PASSWORD_FILE holds
secret() {
    local variable="$1_FILE"
    [[ -n "${!variable:-}" ]] || fail "$variable is not set, e.g. $variable=/run/secrets/${1,,}"
    [[ -s "${!variable}" ]] || fail "$variable names ${!variable}, which is missing or empty"
    cat "${!variable}"
}

# children [NODES] -> how many clients this Pgpool takes: its share of what three of them have
children() {
    local -a all
    local pis
    read -ra all <<< "$*"
    pis=${#all[@]}
    echo $(( 72 / (pis > 3 ? pis : 3) ))
}

configure() {
    local role password
    : "${VIP:?the address that HAProxy serves the database at, e.g. 172.30.16.100}"
    umask 077
    for role in postgres gis reader; do
        # to prove itself to PostgreSQL by SCRAM, Pgpool needs the password, not its hash
        password=$(secret "${role^^}_PASSWORD")
        printf '%s:TEXT%s\n' "$role" "$password"
    done > /run/pgpool/pool_passwd
    {
        sed "s/^num_init_children = .*/num_init_children = $(children "${NODES:-}")/" \
            /etc/pgpool/pgpool.conf
        printf "backend_hostname0 = '%s'\nbackend_port0 = %d\n" "$VIP" "${PORT_PRIMARY:-5433}"
        printf "backend_hostname1 = '%s'\nbackend_port1 = %d\n" "$VIP" "${PORT_REPLICAS:-5434}"
    } > /run/pgpool/pgpool.conf
    rm -f /run/pgpool/pgpool.pid /run/pgpool/.s.*
}

_main() {
    if [[ "$*" == pgpool ]]; then
        configure
        # Who waits for an answer sends nothing, and so never learns that the VIP has gone to another
        # Pi meanwhile; and if its client gives up, Pgpool spins. Given up after about 9 s (tcp(7)).
        export LD_PRELOAD=libkeepalive.so KEEPIDLE=5 KEEPINTVL=2 KEEPCNT=2
        # -D: what it remembers of its backends is forgotten
        set -- pgpool -n -D -f /run/pgpool/pgpool.conf -a /etc/pgpool/pool_hba.conf
    fi
    exec "$@"
}

_main "$@"
