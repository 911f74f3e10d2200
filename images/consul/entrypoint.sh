#!/bin/bash
# Write this server's settings from NODES and the secrets, then become the Consul agent.
set -Eeuo pipefail

fail() { printf 'consul: %s\n' "$1" >&2; exit 1; }

# secret CONSUL_HTTP_TOKEN /run/secrets/consul_token -> what the file named by ..._FILE holds
secret() {
    local variable="$1_FILE"
    [[ -n "${!variable:-}" ]] || fail "$variable is not set, e.g. $variable=$2"
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

at_least() { printf '%s\n%s\n' "$1" "$VERSION" | sort --version-sort --check=quiet; }

configure() {
    local address token key addresses token_name ports extra
    : "${NODE_NAME:?the name of this machine, e.g. pi1}"
    : "${NODES:?names and addresses of all machines, e.g. 'pi1=172.30.16.11 pi2=172.30.16.12'}"
    address=$(address_of "$NODE_NAME")
    token=$(secret CONSUL_HTTP_TOKEN /run/secrets/consul_token)
    key=$(secret CONSUL_GOSSIP_KEY /run/secrets/consul_gossip_key)
    addresses=$(printf '%s\n' $NODES | sed 's/.*=\(.*\)/"\1"/' | paste -sd,)
    VERSION=$(consul version | sed -n '1s/^Consul v//p')
    # names that changed: an unknown key is an error in either version
    token_name=master ports= extra=
    if at_least 1.11; then token_name=initial_management; fi
    if at_least 1.14; then ports=', "grpc_tls": -1' extra='"peering": {"enabled": false},'; fi

    umask 077
    # Gossip is tuned so that a dead machine is known in one or two seconds; the last number
    # that did not suspect the living under load. The HTTP port answers nobody without a token
    # (status would even so, hence the block); DNS and gRPC are not needed.
    cat > /run/consul/agent.json <<-JSON
	{
	  "server": true, "bootstrap_expect": $(wc -w <<< "$NODES"), "retry_join": [$addresses],
	  "retry_interval": "1s", "datacenter": "lab", "data_dir": "/var/lib/consul",
	  "node_name": "$NODE_NAME", "bind_addr": "$address", "client_addr": "127.0.0.1 $address",
	  "ports": {"dns": -1, "grpc": -1, "https": -1, "serf_wan": -1$ports},
	  "http_config": {"block_endpoints": ["/v1/status"]},
	  "performance": {"raft_multiplier": 1},
	  "gossip_lan": {"probe_interval": "250ms", "probe_timeout": "200ms", "suspicion_mult": 4},
	  "leave_on_terminate": false, "skip_leave_on_interrupt": true,
	  "disable_update_check": true, "connect": {"enabled": false}, $extra "log_level": "warn",
	  "encrypt": "$key",
	  "acl": {"enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
	          "tokens": {"$token_name": "$token", "agent": "$token"}}
	}
	JSON
}

_main() {
    case "${1:-} ${2:-}" in
        "consul agent") configure; set -- "$@" -config-file=/run/consul/agent.json ;;
        "consul validate") configure; set -- "$@" /run/consul/agent.json ;;
    esac
    exec "$@"
}

_main "$@"
