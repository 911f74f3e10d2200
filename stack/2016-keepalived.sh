#!/bin/bash
# Keepalived as the project of 2016 had it, github.com/AAiache/GIS-Docker-Project at 9f4131b:
# images/arm-keepalived/master/keepalived.conf on the first Pi, slave/keepalived.conf on all
# others (shell_scripts/run_keepalived.sh:3-6). Both have the same lines; where they differ, the
# master's value stands first.
set -Eeuo pipefail

STATE=BACKUP PRIORITY=150 ROUTER=101        # slave, 4, 5 and 8
ADDRESS=''
for node in $NODES; do
    [[ "${node%%=*}" != "$NODE_NAME" ]] || ADDRESS=${node#*=}
done
if [[ "${NODES%%=*}" == "$NODE_NAME" ]]; then
    STATE=MASTER PRIORITY=100 ROUTER=100    # master, 4, 5 and 8: less than the slaves, and alone
fi
INTERFACE=$(ip -o -4 addr show to "$ADDRESS/32" | awk '{print $2; exit}')
[[ -n "$INTERFACE" ]] || { echo "keepalived: no interface has $ADDRESS" >&2; exit 1; }

# Kinder than 2016: what a killed one left behind goes before the next one starts.
ip -o -4 addr show to "$VIP/32" | awk '{print $4, $2}' | while read -r left device; do
    ip addr del "$left" dev "$device"
done

# Line 7, eth0, is whatever the Pi calls it. Line 10, smtp_alert, is left out: nobody was named to
# whom it could write. No vrrp_script and no track_ anything: Keepalived never asked HAProxy.
cat > /run/keepalived.conf <<CONF
vrrp_instance VI_TEST_1 {
    state $STATE
    priority $PRIORITY
    nopreempt
    interface $INTERFACE
    virtual_router_id $ROUTER
    advert_int 5
    virtual_ipaddress {
        $VIP
    }
}
CONF
# They were started one by one, by hand. Of those with one priority the first to start has the VIP:
# the last Pi, which has a database as well (see 2016.yml).
if [[ "$STATE" == BACKUP && "$NODES" != *"$NODE_NAME=$ADDRESS" ]]; then
    sleep 2
fi
exec keepalived --dont-fork --log-console --vrrp --use-file /run/keepalived.conf
