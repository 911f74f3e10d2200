"""Faults of the database, and of Consul, in which the lock of its primary is kept."""

from __future__ import annotations

from .. import blows, victims
from ..settings import Lab
from .colours import ASH, BROWN, CYAN, INDIGO, NIGHT, ORANGE, PURPLE
from .fault import PATRONI, THAW, Fault


def switchover(lab: Lab) -> Fault:
    """Hand the primary's role to a replica, as planned work does; nothing dies."""
    return Fault(lab, "switchover", "planned switchover of the primary", BROWN, ("sql",),
                 victims.primary, blows.hand_over, blows.whole,
                 see="writes wait for about a second and none fails; the primary's name is "
                     "another",
                 undone="nothing to undo; the former primary is a replica")


def primary_killed(lab: Lab) -> Fault:
    """Kill (kill -9) the postmaster of the database primary; Patroni lives and sees it."""
    return Fault(lab, "primary_killed", "postmaster of the primary killed", ORANGE, ("sql",),
                 victims.primary, blows.kill_postmaster, blows.whole,
                 see="writes fail for less than a second; maps go on; another member is primary",
                 undone=PATRONI)


def primary_container_killed(lab: Lab) -> Fault:
    """Kill the primary's container with Patroni in it: nobody is left to give up the lock."""
    return Fault(lab, "primary_container_killed", "container of the primary killed", PURPLE,
                 ("sql",), victims.primary, blows.kill, blows.whole,
                 see="writes fail until Consul's check of that member runs out, some 2 s; maps "
                     "go on",
                 undone="Swarm starts the container again, and Patroni in it a replica")


def primary_frozen(lab: Lab) -> Fault:
    """Stop (SIGSTOP) the primary's PostgreSQL: it lives, keeps every connection, and is silent."""
    return Fault(lab, "primary_frozen", "PostgreSQL of the primary frozen", INDIGO, ("sql",),
                 victims.primary, blows.stop_postgres, blows.go_on_postgres,
                 see="writes get no answer at all; the member's watcher ends the silent one "
                     "after 1 s",
                 undone=THAW)


def primary_paused(lab: Lab) -> Fault:
    """Freeze the primary's whole container, Patroni in it: as a machine that hangs."""
    return Fault(lab, "primary_paused", "container of the primary frozen", CYAN, ("sql",),
                 victims.primary, blows.pause, blows.unpause,
                 see="writes get no answer until the lock runs out; later the former primary "
                     "acknowledges none",
                 undone=THAW)


def consul_leader_lost(lab: Lab) -> Fault:
    """Freeze the Consul server that leads; two others are a majority."""
    return Fault(lab, "consul_leader_lost", "Consul's leader lost", ASH, ("sql",),
                 victims.consul_servers(1), blows.pause_consul, blows.unpause,
                 see="nothing: another server leads after an election, and locks are kept "
                     "meanwhile",
                 undone=THAW)


def consul_majority_lost(lab: Lab) -> Fault:
    """Freeze two of three Consul servers: nobody can take, or keep, a lock."""
    return Fault(lab, "consul_majority_lost", "two Consul servers lost", NIGHT, ("sql",),
                 victims.consul_servers(2), blows.pause_consul, blows.unpause,
                 see="nothing: Patroni's failsafe mode keeps the primary, but no failover could "
                     "come",
                 undone=THAW,
                 wide=True)
