"""Faults of whole Pis: without power, or without their cable."""

from __future__ import annotations

from .. import blows, victims
from ..settings import Lab
from .colours import COBALT, GREY, NAVY, ROSE, VERMILION, WINE
from .fault import BY_HAND_CABLE, BY_HAND_POWER, CABLE, POWER, Fault


def power_cut(lab: Lab) -> Fault:
    """Cut the power of the Pi that holds the VIP and the primary; it returns at the end."""
    return Fault(lab, "power_cut", "power cut: VIP and primary", VERMILION,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.cut_power,
                 blows.give_power,
                 see="maps stop for less than a second, writes for some seconds; then two Pis "
                     "serve all",
                 undone=POWER, on_pis=BY_HAND_POWER)


def pi_power_cut(lab: Lab, pick: int = 0, pi: str = "") -> Fault:
    """Cut the power of the Pi of that name, or at place `pick`, whatever it does just then."""
    return Fault(lab, "pi_power_cut", f"power cut: {pi or 'any Pi'}", ROSE,
                 ("vip", "maps", "sql"), victims.machine(pick, pi), blows.cut_power,
                 blows.give_power,
                 see="as much as that Pi was for: with neither VIP nor primary on it, next to "
                     "nothing",
                 undone=POWER, on_pis=BY_HAND_POWER)


def primary_and_standby_dark(lab: Lab) -> Fault:
    """Cut the power of the primary's Pi and of a synchronous replica's: one Pi is left."""
    return Fault(lab, "primary_and_standby_dark", "power cut: primary and a replica", WINE,
                 ("vip", "maps", "sql"), victims.primary_and_standby, blows.cut_power,
                 blows.give_power,
                 see="maps may go on, writes are refused for as long as it lasts: one Pi is no "
                     "majority",
                 undone=POWER, on_pis=BY_HAND_POWER,
                 wide=True)


def unplugged(lab: Lab) -> Fault:
    """Pull the network cable of the Pi that holds the VIP and the primary."""
    return Fault(lab, "unplugged", "cable pulled: VIP and primary", GREY,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.unplug, blows.plug,
                 see="for clients a power cut; yet the Pi lives, and must not think that it is "
                     "primary still",
                 undone=CABLE, on_pis=BY_HAND_CABLE)


def swarm_leader_lost(lab: Lab) -> Fault:
    """Cut the power of the Pi that leads the Swarm, whatever else it does."""
    return Fault(lab, "swarm_leader_lost", "power cut: the Swarm's leader", COBALT,
                 ("vip", "maps", "sql"), victims.swarm_leader, blows.cut_power, blows.give_power,
                 see="of the leader itself nothing: what runs needs no leader, another is elected "
                     "within seconds; else as pi_power_cut",
                 undone=POWER, on_pis=BY_HAND_POWER)


def swarm_majority_lost(lab: Lab) -> Fault:
    """Cut the power of the Swarm's leader and of so many managers that the rest is no majority."""
    return Fault(lab, "swarm_majority_lost", "power cut: the Swarm's majority", NAVY,
                 ("vip", "maps", "sql"), victims.swarm_majority, blows.cut_power,
                 blows.give_power,
                 see="`docker node ls` says that the Swarm has no leader: what is left runs on, "
                     "nothing is replaced; with power it has its quorum again (docs/faults.md)",
                 undone=POWER, on_pis=BY_HAND_POWER,
                 wide=True)
