"""Break a part of the lab and mend it again: each fault is a context manager with a name.

    with faults.power_cut(lab) as fault:
        ...                                  # the Pi is dark
    # here it runs again, even if the block was interrupted

`aim` looks for the victim and brings the lab into the state that the fault needs; `strike`
breaks; `undo` mends and waits until the lab is whole. `with` calls all three. Whom it strikes is
in victims.py, what is done to him in blows.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import blows, cuts, victims
from .settings import Lab
from .victims import FaultError, Target

__all__ = ["ALL", "OPEN", "Fault", "FaultError", "Target", "named"]

# Okabe and Ito's colours, told apart by colour-blind readers ("Color Universal Design", 2008)
GREEN, SKY, BLUE = "#009E73", "#56B4E9", "#0072B2"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
BROWN = "#7A5230"  # not theirs, but as dark as none of them
# Paul Tol's "muted" ("Colour Schemes", 2021), for the faults of the database and the network
INDIGO, CYAN, TEAL, FOREST, OLIVE = "#332288", "#88CCEE", "#44AA99", "#117733", "#999933"
SAND, ROSE, WINE, MAUVE = "#DDCC77", "#CC6677", "#882255", "#AA4499"
NIGHT, ASH = "#000000", "#BBBBBB"


@dataclass
class Fault:
    """One fault, ready to be made. `touches` names the parts that it can disturb."""

    lab: Lab
    name: str
    title: str
    colour: str
    touches: tuple[str, ...]
    find: Callable[[Lab], Target] = field(repr=False)
    hit: Callable[[Lab, Target], None] = field(repr=False)
    mend: Callable[[Lab, Target], None] = field(repr=False)
    target: Target | None = None
    setup: str = ""  # of what it is a part: empty for ours, "2016"

    def aim(self) -> Target:
        """Choose the victim, once; FaultError if there is none."""
        self.target = self.target or self.find(self.lab)
        return self.target

    def strike(self) -> None:
        """Break it; returns when it is broken."""
        self.hit(self.lab, self.aim())

    def undo(self) -> None:
        """Mend it and wait until the lab is whole; safe to repeat, and where nothing broke."""
        if self.target is not None:
            self.mend(self.lab, self.target)

    def __enter__(self) -> Fault:
        self.aim()
        try:
            self.strike()
        except BaseException:  # an interrupt comes as one; it may have been broken already
            self.undo()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.undo()


def switchover(lab: Lab) -> Fault:
    """Hand the primary's role to a replica, as planned work does; nothing dies."""
    return Fault(lab, "switchover", "planned switchover of the primary", BROWN, ("sql",),
                 victims.primary, blows.hand_over, blows.whole)


def map_server_killed(lab: Lab) -> Fault:
    """Kill (SIGKILL) one map server; Swarm starts another."""
    return Fault(lab, "map_server_killed", "one map server killed", GREEN, ("maps",),
                 victims.any_map_server, blows.kill, blows.replaced("mapserver"))


def service_killed(lab: Lab, service: str = "pgpool", pi: str = "") -> Fault:
    """Kill the container of a service on a Pi, by default on the first that runs it."""
    where = f" on {pi}" if pi else ""
    return Fault(lab, "service_killed", f"{service}{where} killed", "#AAAA00",
                 ("vip", "maps", "sql"), victims.container_of(service, pi), blows.kill,
                 blows.replaced_there)


def haproxy_killed(lab: Lab) -> Fault:
    """Kill HAProxy on the Pi that holds the VIP; Keepalived gives the address away."""
    return Fault(lab, "haproxy_killed", "HAProxy of the VIP holder killed", SKY,
                 ("vip", "maps", "sql"), victims.of_holder("haproxy"), blows.kill,
                 blows.replaced("haproxy"))


def keepalived_killed(lab: Lab) -> Fault:
    """Kill Keepalived on the Pi that holds the VIP; the address stays behind for a moment."""
    return Fault(lab, "keepalived_killed", "Keepalived of the VIP holder killed", BLUE,
                 ("vip",), victims.of_holder("keepalived"), blows.kill,
                 blows.replaced("keepalived"))


def primary_killed(lab: Lab) -> Fault:
    """Kill (kill -9) the postmaster of the database primary; Patroni lives and sees it."""
    return Fault(lab, "primary_killed", "postmaster of the primary killed", ORANGE, ("sql",),
                 victims.primary, blows.kill_postmaster, blows.whole)


def primary_container_killed(lab: Lab) -> Fault:
    """Kill the primary's container with Patroni in it: nobody is left to give up the lock."""
    return Fault(lab, "primary_container_killed", "container of the primary killed", PURPLE,
                 ("sql",), victims.primary, blows.kill, blows.whole)


def primary_frozen(lab: Lab) -> Fault:
    """Stop (SIGSTOP) the primary's PostgreSQL: it lives, keeps every connection, and is silent."""
    return Fault(lab, "primary_frozen", "PostgreSQL of the primary frozen", INDIGO, ("sql",),
                 victims.primary, blows.stop_postgres, blows.go_on_postgres)


def primary_paused(lab: Lab) -> Fault:
    """Freeze the primary's whole container, Patroni in it: as a machine that hangs."""
    return Fault(lab, "primary_paused", "container of the primary frozen", CYAN, ("sql",),
                 victims.primary, blows.pause, blows.unpause)


def power_cut(lab: Lab) -> Fault:
    """Cut the power of the Pi that holds the VIP and the primary; it returns at the end."""
    return Fault(lab, "power_cut", "power cut: VIP and primary", VERMILION,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.cut_power,
                 blows.give_power)


def pi_power_cut(lab: Lab, pick: int = 0) -> Fault:
    """Cut the power of the Pi at place `pick`, whatever it does at that moment."""
    return Fault(lab, "pi_power_cut", "power cut: any Pi", ROSE, ("vip", "maps", "sql"),
                 victims.machine(pick), blows.cut_power, blows.give_power)


def primary_and_standby_dark(lab: Lab) -> Fault:
    """Cut the power of the primary's Pi and of a synchronous replica's: one Pi is left."""
    return Fault(lab, "primary_and_standby_dark", "power cut: primary and a replica", WINE,
                 ("vip", "maps", "sql"), victims.primary_and_standby, blows.cut_power,
                 blows.give_power)


def unplugged(lab: Lab) -> Fault:
    """Pull the network cable of the Pi that holds the VIP and the primary."""
    return Fault(lab, "unplugged", "cable pulled: VIP and primary", GREY,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.unplug, blows.plug)


def primary_cut_off(lab: Lab) -> Fault:
    """Cut the primary's Pi from the other Pis, both ways; clients still reach all of them."""
    return Fault(lab, "primary_cut_off", "network cut: primary from the rest", TEAL,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.alone), blows.join)


def primary_deaf(lab: Lab) -> Fault:
    """Have the primary's Pi hear nothing of the other Pis; they hear it."""
    return Fault(lab, "primary_deaf", "one-way cut: primary hears nobody", FOREST,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.deaf), blows.join)


def primary_mute(lab: Lab) -> Fault:
    """Have the other Pis hear nothing of the primary's; it hears them."""
    return Fault(lab, "primary_mute", "one-way cut: nobody hears primary", OLIVE,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.mute), blows.join)


def link_cut(lab: Lab) -> Fault:
    """Cut the primary's Pi from one of the others; the third hears both."""
    return Fault(lab, "link_cut", "network cut: primary from one replica", SAND, ("vip", "sql"),
                 victims.a_replica_beside, blows.cut_link, blows.join)


def ring_cut(lab: Lab) -> Fault:
    """Have each Pi hear only a part of the others, no two of them the same part."""
    return Fault(lab, "ring_cut", "network cut: a ring", MAUVE, ("vip", "sql"),
                 victims.every_machine, blows.cut(lambda lab, name: cuts.ring(lab)), blows.join)


def consul_leader_lost(lab: Lab) -> Fault:
    """Freeze the Consul server that leads; two others are a majority."""
    return Fault(lab, "consul_leader_lost", "Consul's leader lost", ASH, ("sql",),
                 victims.consul_servers(1), blows.pause_consul, blows.unpause)


def consul_majority_lost(lab: Lab) -> Fault:
    """Freeze two of three Consul servers: nobody can take, or keep, a lock."""
    return Fault(lab, "consul_majority_lost", "two Consul servers lost", NIGHT, ("sql",),
                 victims.consul_servers(2), blows.pause_consul, blows.unpause)


def cpu_full(lab: Lab) -> Fault:
    """Keep every processor of every Pi busy; nothing dies, and nobody should think so."""
    return Fault(lab, "cpu_full", "every processor busy", "#EE8866", ("vip", "maps", "sql"),
                 victims.every_machine, blows.busy, blows.idle)


ALL = {make.__name__: make for make in (
    switchover, map_server_killed, service_killed, haproxy_killed, keepalived_killed,
    primary_killed, primary_container_killed, primary_frozen, primary_paused, power_cut,
    pi_power_cut, primary_and_standby_dark, unplugged, primary_cut_off, primary_deaf,
    primary_mute, link_cut, ring_cut, consul_leader_lost, consul_majority_lost, cpu_full)}
OPEN = ("pi_power_cut",)  # these take a `pick`


def named(lab: Lab, name: str, **choice: int) -> Fault:
    """Return the fault `name`; FaultError lists those that there are.

    Parameters
    ----------
    choice : what the fault leaves open, e.g. pick=2 for pi_power_cut.
    """
    if name not in ALL:
        raise FaultError(f"no fault {name!r}; there are " + ", ".join(ALL))
    return ALL[name](lab, **choice)
