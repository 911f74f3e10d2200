"""Break a part of the lab and mend it again: each fault is a context manager with a name.

    with faults.power_cut(lab) as fault:
        ...                                  # the Pi is dark
    # here it runs again, even if the block was interrupted

`aim` looks for the victim and brings the lab into the state that the fault needs; `strike`
breaks; `undo` mends and waits until the lab is whole. `with` calls all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from . import cluster, nodes, postgis, stack, vip
from .settings import Lab
from .wait import NotYet, until

# Okabe and Ito's colours, told apart by colour-blind readers ("Color Universal Design", 2008)
GREEN, SKY, BLUE = "#009E73", "#56B4E9", "#0072B2"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
BROWN = "#7A5230"  # not theirs, but as dark as none of them


class FaultError(RuntimeError):
    """A fault cannot be made now; the text says why, and what to do."""


@dataclass(frozen=True)
class Target:
    """What is to be broken: a Pi, a container on it, and how a reader would call it."""

    node: str
    container: str = ""
    what: str = ""


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


def map_server_killed(lab: Lab) -> Fault:
    """Kill (SIGKILL) one map server; Swarm starts another."""
    return Fault(lab, "map_server_killed", "one map server killed", GREEN, ("maps",),
                 _any_map_server, _kill, _replaced("mapserver"))


def haproxy_killed(lab: Lab) -> Fault:
    """Kill HAProxy on the Pi that holds the VIP; Keepalived gives the address away."""
    return Fault(lab, "haproxy_killed", "HAProxy of the VIP holder killed", SKY,
                 ("vip", "maps", "sql"), _of_holder("haproxy"), _kill, _replaced("haproxy"))


def keepalived_killed(lab: Lab) -> Fault:
    """Kill Keepalived on the Pi that holds the VIP; the address stays behind for a moment."""
    return Fault(lab, "keepalived_killed", "Keepalived of the VIP holder killed", BLUE,
                 ("vip",), _of_holder("keepalived"), _kill, _replaced("keepalived"))


def primary_killed(lab: Lab) -> Fault:
    """Kill (kill -9) the postmaster of the database primary; Patroni lives and sees it."""
    return Fault(lab, "primary_killed", "postmaster of the primary killed", ORANGE, ("sql",),
                 _primary, _kill_postmaster, _whole)


def primary_container_killed(lab: Lab) -> Fault:
    """Kill the primary's container with Patroni in it: nobody is left to give up the lock."""
    return Fault(lab, "primary_container_killed", "container of the primary killed", PURPLE,
                 ("sql",), _primary, _kill, _whole)


def power_cut(lab: Lab) -> Fault:
    """Cut the power of the Pi that holds the VIP and the primary; it returns at the end."""
    return Fault(lab, "power_cut", "power cut: VIP and primary", VERMILION,
                 ("vip", "maps", "sql"), _holder_with_primary,
                 lambda lab, target: nodes.power_cut(lab, target.node), _powered)


def unplugged(lab: Lab) -> Fault:
    """Pull the network cable of the Pi that holds the VIP and the primary."""
    return Fault(lab, "unplugged", "cable pulled: VIP and primary", GREY,
                 ("vip", "maps", "sql"), _holder_with_primary,
                 lambda lab, target: nodes.unplug(lab, target.node), _plugged)


def switchover(lab: Lab) -> Fault:
    """Hand the primary's role to a replica, as planned work does; nothing dies."""
    return Fault(lab, "switchover", "planned switchover of the primary", BROWN, ("sql",),
                 _primary, lambda lab, target: _hand_over(lab), _whole)


ALL = {make.__name__: make for make in (
    switchover, map_server_killed, haproxy_killed, keepalived_killed, primary_killed,
    primary_container_killed, power_cut, unplugged)}


def named(lab: Lab, name: str) -> Fault:
    """Return the fault `name`; FaultError lists those that there are."""
    if name not in ALL:
        raise FaultError(f"no fault {name!r}; there are " + ", ".join(ALL))
    return ALL[name](lab)


def _any_map_server(lab: Lab) -> Target:
    found = stack.containers(lab, "mapserver")
    if not found:
        raise FaultError("no map server runs; see: gislab status")
    node, container = found[0]
    return Target(node.name, container, f"a map server on {node.name}")


def _of_holder(service: str) -> Callable[[Lab], Target]:
    def find(lab: Lab) -> Target:
        holder = _holder(lab)
        return Target(holder, _container(lab, service, holder), f"{service} on {holder}")
    return find


def _primary(lab: Lab) -> Target:
    member = until(lambda: postgis.primary(lab), what="a primary to strike", timeout=30)
    for node, container in stack.containers(lab, member):
        return Target(node.name, container, f"{member} on {node.name}")
    raise FaultError(f"{member} is primary, but no Pi that answers runs it; see: gislab status")


def _holder_with_primary(lab: Lab) -> Target:
    """Have the primary on the holder's Pi, by a planned switchover, if it is elsewhere."""
    holder, primary = _holder(lab), _primary(lab)
    if primary.node != holder:
        members = postgis.members(lab).set_index("node")["member"]
        postgis.switchover(lab, members[holder], say=lambda text: None)
        cluster.ready(lab, say=None, timeout=120)
        holder, primary = _holder(lab), _primary(lab)
    if primary.node != holder:
        raise FaultError(f"the VIP is on {holder}, the primary on {primary.node}, and a "
                         "switchover did not bring them together; see: gislab status")
    return Target(holder, "", f"{holder} with the VIP and {primary.what.split()[0]}")


def _holder(lab: Lab) -> str:
    holder = vip.holder(lab)
    if holder is None:
        raise FaultError(f"no Pi holds the VIP {lab.vip}; see: gislab status")
    return holder


def _container(lab: Lab, service: str, node_name: str) -> str:
    for node, container in stack.containers(lab, service):
        if node.name == node_name:
            return container
    raise FaultError(f"{node_name} runs no {service}; see: gislab status")


def _hand_over(lab: Lab) -> None:
    postgis.switchover(lab, say=lambda text: None)


def _kill(lab: Lab, target: Target) -> None:
    nodes.get(lab, target.node).docker("kill", "--signal", "KILL", target.container)


def _kill_postmaster(lab: Lab, target: Target) -> None:
    # The first line of postmaster.pid is the postmaster's number (PostgreSQL, 17.3, "Starting
    # the Database Server"). Its children notice its death and end by themselves.
    script = "kill -9 $(head -qn 1 /var/lib/postgresql/*/postmaster.pid)"
    nodes.get(lab, target.node).docker("exec", target.container, "sh", "-c", script)


def _replaced(service: str) -> Callable[[Lab, Target], None]:
    """Return a `mend` that waits until Swarm has put a new container in the dead one's place."""
    def mend(lab: Lab, target: Target) -> None:
        def ask() -> None:
            # The containers are counted on the Pis: Swarm's own count lags behind a kill.
            replicas = {s["Name"]: s["Replicas"].split()[0] for s in stack.services(lab)}
            wanted = int(replicas[f"{stack.NAME}_{service}"].partition("/")[2])
            running = len(stack.containers(lab, service))
            if running < wanted:
                raise NotYet(f"{running} of {wanted} run")
        until(ask, what=f"{service} on {target.node} to be replaced", timeout=120)
        _whole(lab, target)
    return mend


def _whole(lab: Lab, target: Target) -> None:
    cluster.ready(lab, say=None, timeout=180)


def _powered(lab: Lab, target: Target) -> None:
    nodes.power_on(lab, target.node)
    _whole(lab, target)


def _plugged(lab: Lab, target: Target) -> None:
    nodes.plug(lab, target.node)
    _whole(lab, target)
