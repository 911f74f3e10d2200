"""Break a part of the lab and mend it again: each fault is a context manager with a name.

    with faults.power_cut(lab) as fault:
        ...                                  # the Pi is dark
    # here it runs again, even if the block was interrupted; or after the next command of the
    # lab, if this program was killed meanwhile

Whom a fault strikes is in victims.py, what is done to him in blows.py; `table` tells them all.
"""

from __future__ import annotations

import inspect
from dataclasses import replace

import pandas as pd

from ..settings import Lab
from ..victims import HERE, FaultError, Target
from .colours import GREEN, SKY, VERMILION
from .database import (
    consul_leader_lost,
    consul_majority_lost,
    primary_container_killed,
    primary_frozen,
    primary_killed,
    primary_paused,
    switchover,
)
from .fault import Fault
from .machines import (
    pi_power_cut,
    power_cut,
    primary_and_standby_dark,
    swarm_leader_lost,
    swarm_majority_lost,
    unplugged,
)
from .network import (
    link_cut,
    lossy,
    network_halves,
    primary_cut_off,
    primary_deaf,
    primary_mute,
    ring_cut,
    slow,
)
from .services import (
    cpu_full,
    disk_full,
    haproxy_killed,
    keepalived_killed,
    map_server_killed,
    memory_limit,
    registry_lost,
    service_frozen,
    service_killed,
)

__all__ = ["ALL", "GREEN", "HERE", "OPEN", "SKY", "VERMILION", "Fault", "FaultError", "Target",
           "named", "table"]

ALL = {make.__name__: make for make in (
    switchover, map_server_killed, service_killed, haproxy_killed, keepalived_killed,
    primary_killed, primary_container_killed, primary_frozen, primary_paused, power_cut,
    pi_power_cut, primary_and_standby_dark, unplugged, primary_cut_off, primary_deaf,
    primary_mute, link_cut, ring_cut, consul_leader_lost, consul_majority_lost, cpu_full,
    service_frozen, swarm_leader_lost, swarm_majority_lost, registry_lost, network_halves, lossy,
    slow, memory_limit, disk_full)}
OPEN = ("pi_power_cut",)  # these take a `pick`


def named(lab: Lab, name: str, *, force: bool = False, **choice: int | str) -> Fault:
    """Return the fault `name`; FaultError lists those that there are.

    Parameters
    ----------
    force : strike even where other Pis are silent, and the rest would be no majority.
    choice : what the fault leaves open, e.g. pick=2 for pi_power_cut, service="haproxy" and
        pi="pi2" for service_killed.
    """
    if name not in ALL:
        raise FaultError(f"no fault {name!r}; there are " + ", ".join(ALL))
    takes = inspect.signature(ALL[name])
    try:
        takes.bind(lab, **choice)
    except TypeError:
        raise FaultError(f"{name} does not know all of {', '.join(choice)}; it leaves open: "
                         + (", ".join(list(takes.parameters)[1:]) or "nothing")) from None
    return replace(ALL[name](lab, **choice), force=force)


def table(lab: Lab) -> pd.DataFrame:
    """Return one line per fault: what it does and touches, what to look for, how it is undone."""
    return pd.DataFrame([{
        "fault": fault.name, "what": fault.title, "touches": ", ".join(fault.touches),
        "what one should see": fault.see, "undone": fault.undone, "on real Pis": fault.on_pis}
        for fault in (make(lab) for make in ALL.values())])
