#!/bin/bash
# Write keepalived.conf from the lab's facts, watch the HAProxy of this Pi, run Keepalived.
set -Eeuo pipefail

WATCHED=/run/gislab/haproxy # 0: HAProxy answers; 1: it does not. Keepalived sees changes by inotify
EVENTS=/run/gislab/events   # where Keepalived tells what it has become: INSTANCE "gislab" MASTER 250

need() {
    [[ -n "${!1:-}" ]] || { echo "keepalived: $1 is not set, e.g. $1='$2'" >&2; exit 1; }
}

# Own address, peers and priority from NODES="pi1=172.30.16.11 pi2=172.30.16.12 ...".
read_nodes() {
    local node priority=250
    ADDRESS='' PEERS=''
    for node in $NODES; do
        if [[ "${node%%=*}" == "$NODE_NAME" ]]; then
            ADDRESS=${node#*=} PRIORITY=$priority
        else
            PEERS+="        ${node#*=}"$'\n'
        fi
        # 25 apart: skew (RFC 5798) then differs by a tenth of an advert, and two backups do not race
        priority=$((priority > 30 ? priority - 25 : 5))
    done
    [[ -n "$ADDRESS" ]] || { echo "keepalived: $NODE_NAME is not in NODES='$NODES'" >&2; exit 1; }
    INTERFACE=$(ip -o -4 addr show to "$ADDRESS/32" | awk '{print $2; exit}')
    [[ -n "$INTERFACE" ]] || { echo "keepalived: no interface has $ADDRESS" >&2; exit 1; }
}

# SIGKILL and a power cut leave the address behind: two Pis would then answer for it.
remove_stale_vip() {
    local line
    ip -o -4 addr show to "$VIP/32" | while read -r line; do
        # shellcheck disable=SC2086
        set -- $line
        ip addr del "$4" dev "$2" && echo "keepalived: removed a stale $4 from $2" && forget
    done
}

# Ends the connections that this Pi's own containers have to a VIP that has left. Docker's proxy
# took them here, where nothing translates their address, and two things outlive the VIP: the
# proxy's sockets, for whose sake the kernel sends no such packet on (ip_forward drops what has a
# socket), and the missing translation, without which the next holder's reset finds nobody. A client
# would wait until its own keepalive gives up; without both it is reset with its next packet.
# Clients from elsewhere are left alone: they reached HAProxy itself, and its last answers to them
# are still under way (the source of a reply to them is not the VIP).
forget() {
    ss --kill --no-header --tcp src "$VIP" > /dev/null || true
    conntrack --delete --proto tcp --orig-dst "$VIP" --reply-src "$VIP" > /dev/null \
        || true # there was none
}

# Adverts are due every $ADVERT_INT s, whatever else runs. A nice value counts among the processes of
# one control group, here the container's; realtime counts on the whole Pi. A kernel that shares out
# realtime among control groups (RT_GROUP_SCHED) may refuse it to a container.
#
# Three missed ones move the VIP. With every processor of a virtual lab busy for ten minutes it never
# moved for nothing with realtime, not even with 0.05 s; without, fifty times with 0.1 s, and eight
# times with 0.2 s.
schedule() {
    if chrt --fifo 1 true 2> /dev/null; then
        SCHEDULING='vrrp_rt_priority 1
    vrrp_rlimit_rttime 200000     # microseconds without a rest; else it is ended'
        : "${ADVERT_INT:=0.08}"
    else
        SCHEDULING='vrrp_priority -20'
        : "${ADVERT_INT:=0.2}"
    fi
}

write_config() {
    cat > /run/gislab/keepalived.conf <<CONF
global_defs {
    router_id $NODE_NAME
    vrrp_version 3
    vrrp_garp_master_repeat 3
    vrrp_garp_master_delay 1      # once more after a second, for switches that were asleep
    vrrp_garp_master_refresh 10   # and always again: a Pi may have been unplugged meanwhile
    $SCHEDULING
    vrrp_no_swap
    vrrp_notify_fifo $EVENTS
    script_user root              # there is no script; it would look for a user of its own
}
track_file haproxy {
    file $WATCHED
    weight 0                      # anything but 0 is a fault: the address is given away
}
vrrp_instance $LAB {
    state BACKUP
    nopreempt                     # a Pi that returns does not break connections again
    interface $INTERFACE
    virtual_router_id ${VIP##*.}
    priority $PRIORITY
    advert_int $ADVERT_INT
    unicast_src_ip $ADDRESS
    unicast_peer {
$PEERS    }
    virtual_ipaddress {
        $VIP/32 dev $INTERFACE
    }
    track_file {
        haproxy
    }
}
CONF
}

haproxy_answers() {
    local answer
    { exec 3<>"/dev/tcp/$ADDRESS/$PORT_STATS"; } 2>/dev/null || return 1
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3 2>/dev/null || return 1
    # a dead HAProxy refuses at once; only a frozen one, or a very busy Pi, is waited for
    IFS= read -rt 0.6 answer <&3 && [[ "$answer" == *" 200 "* ]]
}

# Four questions a second without starting a single process (a vrrp_script costs a fork and
# an exec each): bash opens the connection itself and sleeps in `read -t`, in which it hears
# of a VIP that has left, too.
watch() {
    local events event held=0 failed=2 state=1 told=1
    exec {events}<> $EVENTS
    while :; do
        if haproxy_answers; then failed=0 state=0; else failed=$((failed + 1)); fi
        exec 3>&- || true
        if ((failed >= 2)); then state=1; fi
        if ((state != told)); then
            echo $state > $WATCHED
            told=$state
        fi
        read -rt 0.25 -u "$events" event || continue
        case $event in
            *" MASTER "*) held=1 ;;
            # others tell of a holder that stays one: MASTER_RX_LOWER_PRI, another's advert came
            *" BACKUP "* | *" FAULT "* | *" STOP "*)
                ((held == 0)) || forget
                held=0
                ;;
        esac
    done
}

# The watcher may be the part that has ended, and Keepalived's last word unheard.
stop() {
    local held
    held=$(ip -o -4 addr show to "$VIP/32")
    { kill -TERM %2 2>/dev/null && wait %2; } || true # it may be gone
    [[ -z "$held" ]] || forget
}

_main() {
    if [[ "$1" != keepalived ]]; then
        exec "$@"
    fi
    need NODE_NAME pi1
    need NODES 'pi1=172.30.16.11 pi2=172.30.16.12 pi3=172.30.16.13'
    need VIP 172.30.16.100
    : "${LAB:=gislab}" "${PORT_STATS:=8404}"
    mkdir -p /run/gislab
    read_nodes
    schedule
    remove_stale_vip
    write_config
    echo 1 > $WATCHED
    rm -f $EVENTS
    mkfifo $EVENTS
    watch &
    keepalived --dont-fork --log-console --vrrp \
        --use-file /run/gislab/keepalived.conf &
    # Without its watcher Keepalived would hold on to the address of a dead HAProxy.
    trap 'stop; exit 0' TERM INT
    wait -n
    echo "keepalived: a part has ended; leaving, so that Swarm starts both again" >&2
    stop
    exit 1
}

_main "$@"
