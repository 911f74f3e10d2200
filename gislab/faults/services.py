"""Faults of single services: killed, frozen, or short of what they need."""

from __future__ import annotations

from .. import blows, victims
from ..settings import Lab
from .colours import BLUE, GREEN, MOSS, PALE, PEACH, PEAR, PINK, RED, SKY
from .fault import SWARM, THAW, Fault


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
                 undone="the busy processes are ended; after 15 minutes they end by themselves",
                 wide=True)


def service_frozen(lab: Lab, service: str = "haproxy", pi: str = "") -> Fault:
    """Freeze the container of a service on a Pi: it lives, keeps its connections, and is silent.

    By default on the first Pi that runs it; HAProxy and Keepalived where the VIP is.
    """
    where = f" on {pi}" if pi else ""
    return Fault(lab, "service_frozen", f"{service}{where} frozen", PEAR, ("vip", "maps", "sql"),
                 victims.at_the_door(service, pi), blows.pause, blows.unpause,
                 see="longer than if it were killed: nobody is refused, so everybody waits for "
                     "a check; and Swarm calls it Running",
                 undone=THAW)


def memory_limit(lab: Lab, service: str = "mapserver", pi: str = "") -> Fault:
    """Leave a service's container a quarter of the memory that it uses, or as little as can be,
    and have the kernel end what is in it for want of more.

    By default on the first Pi that runs it; HAProxy and Keepalived where the VIP is. A member of
    the database is a service of its own: "postgis1".
    """
    where = f" on {pi}" if pi else ""
    return Fault(lab, "memory_limit", f"{service}{where} short of memory", PINK,
                 ("maps",) if service == "mapserver" else ("vip", "maps", "sql"),
                 victims.at_the_door(service, pi), blows.squeeze, blows.relieve,
                 see="the kernel ends the service or its workers, and clients are served by the "
                     f"others; `docker service ps gis_{service}` may say 137",
                 undone="it has its memory back; if it did not survive, Swarm has replaced it")


def disk_full(lab: Lab) -> Fault:
    """Fill the small disk in memory in which a map server keeps its catalog.

    Not the database's: on virtual Pis that is the disk of this machine.
    """
    return Fault(lab, "disk_full", "the disk of a map server full", RED, ("maps",),
                 victims.container_of("mapserver"), blows.fill, blows.clear,
                 see="maps go on; but the server cannot take a new catalog, and stops reporting: "
                     "after 20 s `gislab catalog` does not name it",
                 undone="the file that fills it is removed")


def registry_lost(lab: Lab) -> Fault:
    """Freeze the registry on this machine, from which the Pis pull their images."""
    return Fault(lab, "registry_lost", "the registry lost", PALE, ("images",),
                 victims.the_registry, blows.pause_registry, blows.unpause_registry,
                 see="nothing: each Pi has its images; only an update to a new one waits",
                 undone=THAW)
