"""Faults of whole Pis: without power, or without their cable."""

from __future__ import annotations

from .. import blows, victims
from ..settings import Lab
from .colours import GREY, ROSE, VERMILION, WINE
from .fault import BY_HAND_CABLE, BY_HAND_POWER, CABLE, POWER, Fault


def power_cut(lab: Lab) -> Fault:
    """Cut the power of the Pi that holds the VIP and the primary; it returns at the end."""
    return Fault(lab, "power_cut", "power cut: VIP and primary", VERMILION,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.cut_power,
                 blows.give_power,
                 see="maps stop for less than a second, writes for some seconds; then two Pis "
                     "serve all",
                 undone=POWER, on_pis=BY_HAND_POWER)


def pi_power_cut(lab: Lab, pick: int = 0) -> Fault:
    """Cut the power of the Pi at place `pick`, whatever it does at that moment."""
    return Fault(lab, "pi_power_cut", "power cut: any Pi", ROSE, ("vip", "maps", "sql"),
                 victims.machine(pick), blows.cut_power, blows.give_power,
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
                 undone=POWER, on_pis=BY_HAND_POWER)


def unplugged(lab: Lab) -> Fault:
    """Pull the network cable of the Pi that holds the VIP and the primary."""
    return Fault(lab, "unplugged", "cable pulled: VIP and primary", GREY,
                 ("vip", "maps", "sql"), victims.holder_with_primary, blows.unplug, blows.plug,
                 see="for clients a power cut; yet the Pi lives, and must not think that it is "
                     "primary still",
                 undone=CABLE, on_pis=BY_HAND_CABLE)
