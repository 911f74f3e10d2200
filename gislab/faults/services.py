"""Faults of single services: killed, frozen, or short of what they need."""

from __future__ import annotations

from .. import blows, victims
from ..settings import Lab
from .colours import BLUE, GREEN, MOSS, PEACH, SKY
from .fault import SWARM, Fault


def map_server_killed(lab: Lab) -> Fault:
    """Kill (SIGKILL) one map server; Swarm starts another."""
    return Fault(lab, "map_server_killed", "one map server killed", GREEN, ("maps",),
                 victims.any_map_server, blows.kill, blows.replaced("mapserver"),
                 see="no failed map: HAProxy asks another server again; a new container within "
                     "seconds",
                 undone=SWARM)


def service_killed(lab: Lab, service: str = "pgpool", pi: str = "") -> Fault:
    """Kill the container of a service on a Pi, by default on the first that runs it."""
    where = f" on {pi}" if pi else ""
    return Fault(lab, "service_killed", f"{service}{where} killed", MOSS,
                 ("vip", "maps", "sql"), victims.container_of(service, pi), blows.kill,
                 blows.replaced_there,
                 see="its lane may falter for a moment, and Swarm's next task stands in `gislab "
                     "status`",
                 undone=SWARM)


def haproxy_killed(lab: Lab) -> Fault:
    """Kill HAProxy on the Pi that holds the VIP; Keepalived gives the address away."""
    return Fault(lab, "haproxy_killed", "HAProxy of the VIP holder killed", SKY,
                 ("vip", "maps", "sql"), victims.of_holder("haproxy"), blows.kill,
                 blows.replaced("haproxy"),
                 see="all lanes stop together for half a second; the VIP is on another Pi then",
                 undone=SWARM)


def keepalived_killed(lab: Lab) -> Fault:
    """Kill Keepalived on the Pi that holds the VIP; the address stays behind for a moment."""
    return Fault(lab, "keepalived_killed", "Keepalived of the VIP holder killed", BLUE,
                 ("vip",), victims.of_holder("keepalived"), blows.kill,
                 blows.replaced("keepalived"),
                 see="hardly anything: two Pis hold the VIP for a moment, open connections may "
                     "break",
                 undone=SWARM)


def cpu_full(lab: Lab) -> Fault:
    """Keep every processor of every Pi busy; nothing dies, and nobody should think so."""
    return Fault(lab, "cpu_full", "every processor busy", PEACH, ("vip", "maps", "sql"),
                 victims.every_machine, blows.busy, blows.idle,
                 see="answers come later, none fails, and no role moves",
                 undone="the busy processes are ended; after 15 minutes they end by themselves")
