"""Faults of the network between the Pis: cut, in which direction, or bad."""

from __future__ import annotations

from .. import blows, cuts, victims
from ..settings import Lab
from .colours import FOREST, MAUVE, MINT, OLIVE, SAND, STRAW, TANGERINE, TEAL
from .fault import RULES, Fault


def primary_cut_off(lab: Lab) -> Fault:
    """Cut the primary's Pi from the other Pis, both ways; clients still reach all of them."""
    return Fault(lab, "primary_cut_off", "network cut: primary from the rest", TEAL,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.alone), blows.join,
                 see="another primary within seconds; whoever still reaches the old one gets no "
                     "acknowledgement",
                 undone=RULES)


def primary_deaf(lab: Lab) -> Fault:
    """Have the primary's Pi hear nothing of the other Pis; they hear it."""
    return Fault(lab, "primary_deaf", "one-way cut: primary hears nobody", FOREST,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.deaf), blows.join,
                 see="as if cut off on both sides: it cannot renew its lock, and gives up",
                 undone=RULES)


def primary_mute(lab: Lab) -> Fault:
    """Have the other Pis hear nothing of the primary's; it hears them."""
    return Fault(lab, "primary_mute", "one-way cut: nobody hears primary", OLIVE,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.mute), blows.join,
                 see="the others elect one of them; it hears of it, and follows",
                 undone=RULES)


def link_cut(lab: Lab) -> Fault:
    """Cut the primary's Pi from one of the others; the third hears both."""
    return Fault(lab, "link_cut", "network cut: primary from one replica", SAND, ("vip", "sql"),
                 victims.a_replica_beside, blows.cut_link, blows.join,
                 see="one of three links is missing: often nothing is to be seen",
                 undone=RULES,
                 wide=True)


def ring_cut(lab: Lab) -> Fault:
    """Have each Pi hear only a part of the others, no two of them the same part."""
    return Fault(lab, "ring_cut", "network cut: a ring", MAUVE, ("vip", "sql"),
                 victims.every_machine, blows.cut(lambda lab, name: cuts.ring(lab)), blows.join,
                 see="no two Pis hear each other: writes are refused until it is undone",
                 undone=RULES,
                 wide=True)


def network_halves(lab: Lab) -> Fault:
    """Split the network in two halves, with the primary in the smaller one."""
    return Fault(lab, "network_halves", "network split: primary in the minority", MINT,
                 ("vip", "sql"), victims.pi_of_primary, blows.cut(cuts.halves), blows.join,
                 see="the larger half elects a primary of its own; each half has a VIP of its own",
                 undone=RULES)


def lossy(lab: Lab, share: float = 0.1) -> Fault:
    """Lose packets between the Pis by chance: of ten, one."""
    return Fault(lab, "lossy", f"network loses {share:.0%} of all packets", STRAW,
                 ("vip", "maps", "sql"), victims.every_machine,
                 blows.cut(cuts.everywhere, share), blows.join,
                 see="the median stays, p99 becomes long: what is lost is sent again; three lost "
                     "adverts in a row move the VIP for nothing",
                 undone=RULES,
                 wide=True)


def slow(lab: Lab) -> Fault:
    """Slow what the Pis send to each other: by netem, or without it by a narrow pipe."""
    return Fault(lab, "slow", "network between the Pis slow", TANGERINE, ("vip", "maps", "sql"),
                 victims.every_link, blows.slow, blows.fast,
                 see="every answer that two Pis have a part in comes later, none fails; a write "
                     "waits for a replica",
                 undone=RULES,
                 wide=True)
