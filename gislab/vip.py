"""The floating address of the lab: which Pi holds it."""

from __future__ import annotations

from . import nodes
from .settings import Lab
from .shell import CommandFailed


def holders(lab: Lab) -> list[str]:
    """Return the names of the Pis that have the VIP on an interface; more than one is a fault.

    A Pi that does not answer over SSH is not counted, though it may hold the address still.
    """
    def holds(node: nodes.Node) -> bool:
        try:
            out = node.run(["ip", "-o", "-4", "addr", "show", "to", f"{lab.vip}/32"],
                           timeout=10).out
        except CommandFailed:
            return False
        return f" {lab.vip}/" in out

    machines = nodes.all(lab)
    answers = nodes.each(lab, holds, machines)
    return [node.name for node, yes in zip(machines, answers, strict=True) if yes]


def holder(lab: Lab) -> str | None:
    """Return the name of the Pi that holds the VIP, or None."""
    return next(iter(holders(lab)), None)
