"""The faults of the catalog that the set-up of 2016 knows, too: whom they strike there.

Each has the name, the title and the colour of ours, so that a run of either is drawn beside the
other. Undone they are by hand, as they were: nothing in that set-up started anything again.

- A primary there is none: both servers are written to. For `primary_killed` the first is killed,
  with its container, since its postmaster is all that is in it.
- The VIP is on two Pis at a time, as the master's router has another number than the slaves'.
  Struck is the one that answers *this* machine, by its own neighbour table. Both have a database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from . import blows, cuts, faults, nodes, setup2016, stack, vip
from .faults import Fault
from .settings import Lab
from .victims import FaultError, Target
from .wait import WaitTimeout

NEIGHBOURS = Path("/proc/net/arp")  # proc(5): address, type, flags, hardware address, ...


def named(lab: Lab, name: str, *, force: bool = False) -> Fault:
    """Return the fault `name` for the set-up of 2016; FaultError lists those that there are."""
    if name not in ALL:
        raise FaultError(f"no fault {name!r} of the set-up of 2016; there are " + ", ".join(ALL))
    find, hit = ALL[name]
    return replace(faults.named(lab, name), find=find, hit=hit, mend=by_hand,
                   setup=setup2016.NAME,
                   force=force)


def by_hand(lab: Lab, target: Target) -> None:
    """Do what a person had to: give the power back, start what has ended, at last everything."""
    setup2016.lights_on(lab, say=lambda text: None)
    setup2016.start_again(lab, say=lambda text: None)
    try:
        setup2016.ready(lab, say=None, timeout=60)
    except WaitTimeout:
        setup2016.start_again(lab, everything=True, say=lambda text: None)
        setup2016.ready(lab, say=None)


def answering(lab: Lab) -> str:
    """Return the Pi that this machine reaches at the VIP."""
    holding = vip.holders(lab)
    if not holding:
        raise FaultError(f"no Pi holds the VIP {lab.vip}; see: gislab status")
    known = [line.split() for line in NEIGHBOURS.read_text().splitlines()]
    seen = {words[0]: words[3] for words in known if len(words) > 3}.get(lab.vip)
    # with a router in between, its neighbour is not ours: then the first that holds it
    return next((name for name in holding
                 if cuts.hardware_address(nodes.get(lab, name)) == seen), holding[0])


def _of(service: str) -> Callable[[Lab], Target]:
    """Return a search for a service that runs once, wherever it is."""
    def find(lab: Lab) -> Target:
        for node, container in stack.containers(lab, service):
            return Target(node.name, container, f"{service} on {node.name}")
        raise FaultError(f"no Pi runs {service}; see: gislab status")
    return find


def _of_answering(service: str) -> Callable[[Lab], Target]:
    """Return a search for the container of `service` on the Pi that answers at the VIP."""
    def find(lab: Lab) -> Target:
        name = answering(lab)
        for node, container in stack.containers(lab, service):
            if node.name == name:
                return Target(name, container, f"{service} on {name}")
        raise FaultError(f"{name} runs no {service}; see: gislab status")
    return find


def _whole_pi(lab: Lab) -> Target:
    """Return the Pi that answers at the VIP, and what else is on it."""
    name = answering(lab)
    on = [s for s in setup2016.SERVERS for node, _ in stack.containers(lab, s)
          if node.name == name]
    return Target(name, "", f"{name} with the VIP" + "".join(f" and {s}" for s in on))


ALL = {
    "map_server_killed": (_of("mapserver1"), blows.kill),
    "haproxy_killed": (_of_answering("haproxy"), blows.kill),
    "keepalived_killed": (_of_answering("keepalived"), blows.kill),
    "primary_killed": (_of("postgis1"), blows.kill),
    "power_cut": (_whole_pi, blows.cut_power),
}
