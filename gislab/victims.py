"""Look for what a fault is to strike: by its role at this moment, or by its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from . import cluster, delay, members, postgis, stack, swarm, vip
from .settings import Lab
from .wait import until

HERE = "this machine"  # in the place of a Pi's name
DOORS = ("haproxy", "keepalived")  # clients meet that one only which is where the VIP is


class FaultError(RuntimeError):
    """A fault cannot be made now; the text says why, and what to do."""


@dataclass(frozen=True)
class Target:
    """What is to be broken: a Pi, a container on it, and how a reader would call it."""

    node: str
    container: str = ""
    what: str = ""
    others: tuple[str, ...] = ()  # more Pis that are struck at the same moment

    @property
    def nodes(self) -> tuple[str, ...]:
        return (self.node, *self.others)


def any_map_server(lab: Lab) -> Target:
    """Return one of the map servers."""
    found = stack.containers(lab, "mapserver")
    if not found:
        raise FaultError("no map server runs; see: gislab status")
    node, container = found[0]
    return Target(node.name, container, f"a map server on {node.name}")


def of_holder(service: str) -> Callable[[Lab], Target]:
    """Return a search for the container of `service` on the Pi that holds the VIP."""
    def find(lab: Lab) -> Target:
        holder = _holder(lab)
        return Target(holder, _container(lab, service, holder), f"{service} on {holder}")
    return find


def container_of(service: str, pi: str = "") -> Callable[[Lab], Target]:
    """Return a search for a container of `service`, on the Pi of that name if one is given."""
    def find(lab: Lab) -> Target:
        for node, container in stack.containers(lab, service):
            if pi in ("", node.name):
                return Target(node.name, container, f"{service} on {node.name}")
        raise FaultError(f"{pi or 'no Pi that answers'} runs no {service}; see: gislab status")
    return find


def at_the_door(service: str, pi: str = "") -> Callable[[Lab], Target]:
    """Return a search as `container_of`; of HAProxy and Keepalived, that one that clients meet."""
    return of_holder(service) if service in DOORS and not pi else container_of(service, pi)


def primary(lab: Lab) -> Target:
    """Return the database primary: its Pi and its container."""
    member = until(lambda: postgis.primary(lab), what="a primary to strike", timeout=30)
    for node, container in stack.containers(lab, member):
        return Target(node.name, container, f"{member} on {node.name}")
    raise FaultError(f"{member} is primary, but no Pi that answers runs it; see: gislab status")


def pi_of_primary(lab: Lab) -> Target:
    """Return the Pi that the primary runs on, whoever holds the VIP."""
    found = primary(lab)
    holds = " and the VIP" if vip.holder(lab) == found.node else ""
    return Target(found.node, "", f"{found.node} with {found.what.split()[0]}{holds}")


def holder_with_primary(lab: Lab) -> Target:
    """Have the primary on the holder's Pi, by a planned switchover, if it is elsewhere."""
    holder, found = _holder(lab), primary(lab)
    if found.node != holder:
        on = postgis.members(lab).set_index("node")["member"]
        postgis.switchover(lab, on[holder], say=lambda text: None)
        cluster.ready(lab, say=None, timeout=120)
        holder, found = _holder(lab), primary(lab)
    if found.node != holder:
        raise FaultError(f"the VIP is on {holder}, the primary on {found.node}, and a "
                         "switchover did not bring them together; see: gislab status")
    return Target(holder, "", f"{holder} with the VIP and {found.what.split()[0]}")


def primary_and_standby(lab: Lab) -> Target:
    """Return the Pi of the primary, and of a replica that may have acknowledged its writes."""
    found = primary(lab)
    table = postgis.members(lab)
    able = table[members.safe(table)]
    if able.empty:
        raise FaultError("no replica is synchronous at this moment; see: gislab status")
    other = able.iloc[0]
    return Target(found.node, "", f"{found.what}, and {other['member']} on {other['node']}",
                  (other["node"],))


def a_replica_beside(lab: Lab) -> Target:
    """Return the Pi of the primary, and that of one of its replicas."""
    found = primary(lab)
    other = next(m.name for m in lab.machines if m.name != found.node)
    return Target(found.node, "", f"between {found.node} with {found.what.split()[0]} "
                  f"and {other}", (other,))


def machine(number: int, name: str = "") -> Callable[[Lab], Target]:
    """Return a search for a Pi by its name, or place in the lab, from 0, round and round."""
    def find(lab: Lab) -> Target:
        found = lab.machine(name) if name else lab.machines[number % len(lab.machines)]
        return Target(found.name, "", found.name)
    return find


def every_machine(lab: Lab) -> Target:
    """Return all Pis."""
    first, *rest = [m.name for m in lab.machines]
    return Target(first, "", "all Pis", tuple(rest))


def every_link(lab: Lab) -> Target:
    """Return all Pis, and by which means the network between them can be slowed."""
    found = every_machine(lab)
    return replace(found, what=f"{found.what}: {delay.TOLD[delay.means(lab)]}")


def consul_servers(count: int) -> Callable[[Lab], Target]:
    """Return a search for the leader of Consul and so many servers that they are `count`."""
    def find(lab: Lab) -> Target:
        peers = cluster.consul_peers(lab)
        chosen = sorted(peers, key=lambda name: (peers[name] != "leader", name))[:count]
        if len(chosen) < count or peers[chosen[0]] != "leader":
            raise FaultError(f"Consul's servers are {peers}; see: gislab status")
        return Target(chosen[0], "", "Consul on " + " and ".join(chosen), tuple(chosen[1:]))
    return find


def swarm_leader(lab: Lab) -> Target:
    """Return the Pi of the Swarm's leader."""
    name = _managers(lab)[0]
    return Target(name, "", f"{name}, which leads the Swarm")


def swarm_majority(lab: Lab) -> Target:
    """Return the Pi of the Swarm's leader and so many managers that the rest is no majority."""
    chosen = _managers(lab)[:len(lab.machines) - len(lab.machines) // 2]
    return Target(chosen[0], "", "managers of the Swarm: " + " and ".join(chosen),
                  tuple(chosen[1:]))


def the_registry(lab: Lab) -> Target:
    """Return the registry, which is on this machine and on no Pi."""
    return Target(HERE, "", f"the registry on {HERE}")


def _managers(lab: Lab) -> list[str]:
    """Return the Swarm's managers that can be reached, the leader first."""
    said = dict(swarm.status(lab)[["node", "manager"]].itertuples(index=False))
    found = [name for wanted in ("Leader", "Reachable") for name in said if said[name] == wanted]
    if "Leader" not in said.values():
        raise FaultError("the Swarm has no leader; see: gislab status")
    return found


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
