"""Cut the network between Pis, each direction by itself: who drops what arrives from whom.

As in Jepsen (`jepsen.nemesis`, "grudge"), a cut is a table: Pi -> the Pis whose packets it drops.
A symmetric cut names both, a one-way cut only one of them. They are told apart by the hardware
address of the sender, so that the VIP, which may be on any of them, is cut with its holder. The
laptop's packets pass, so that a cut can always be undone from there.

All rules are in one chain of the table `raw`, which each packet that arrives meets first: what is
for the Pi itself, for a published port and for the overlay network. A reboot forgets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from . import nodes
from .settings import Lab
from .shell import CommandFailed, Unreachable
from .wait import NotYet, until

CHAIN = "GISLAB"

Grudge = Mapping[str, Iterable[str]]


def cut(lab: Lab, grudge: Grudge, share: float = 1) -> None:
    """Have each Pi of `grudge` drop what arrives from the Pis that it names.

    Safe to repeat: what was cut before is replaced.

    Parameters
    ----------
    share : of the packets, by chance, each for itself; 1: all. (iptables-extensions(8),
        "statistic", which kernels without netem have, too)
    """
    chance = f" -m statistic --mode random --probability {share:g}" if share < 1 else ""
    hardware = dict(nodes.each(lab, lambda node: (node.name, hardware_address(node))))
    # the jump last: all of a Pi's rules begin to count at once
    for name, senders in grudge.items():
        rules = [f"iptables -w -t raw -A {CHAIN} -m mac --mac-source {hardware[sender]}"
                 f"{chance} -j DROP"
                 for sender in senders]
        nodes.get(lab, name).run(["sh", "-ec", "; ".join(
            [_FORGET, f"iptables -w -t raw -N {CHAIN}", *rules,
             f"iptables -w -t raw -I PREROUTING -j {CHAIN}"])])


def mend(lab: Lab) -> None:
    """Take every cut away, on every Pi; safe to repeat, and where nothing was cut.

    A Pi that does not answer is asked again for half a minute.
    """
    left = {node.name for node in nodes.all(lab)}

    def ask() -> None:
        for name in sorted(left):
            try:
                mend_on(nodes.get(lab, name))
            except Unreachable:
                continue
            left.discard(name)
        if left:
            raise NotYet(f"{', '.join(sorted(left))} cannot be reached; see: gislab status")
    until(ask, what="the network to be mended", timeout=30, every=1)


def mend_on(node: nodes.Node) -> None:
    """Let one Pi hear all others again; safe to repeat, and where nothing was cut."""
    node.run(["sh", "-c", _FORGET])


def cuts(lab: Lab) -> dict[str, int]:
    """Return for each Pi from how many others it drops what arrives; those that answer only."""
    def ask(node: nodes.Node) -> tuple[str, int | None]:
        try:
            out = node.run(["iptables", "-w", "-t", "raw", "-S"]).out
        except CommandFailed:
            return node.name, None
        return node.name, out.count(f"-A {CHAIN} -m mac")
    return {name: n for name, n in nodes.each(lab, ask) if n is not None}


def alone(lab: Lab, name: str) -> dict[str, list[str]]:
    """Return the grudge of a Pi that is cut from all others, both ways."""
    return {**deaf(lab, name), **mute(lab, name)}


def deaf(lab: Lab, name: str) -> dict[str, list[str]]:
    """Return the grudge of a Pi that hears none of the others, while they hear it."""
    return {name: [m.name for m in lab.machines if m.name != name]}


def mute(lab: Lab, name: str) -> dict[str, list[str]]:
    """Return the grudge of a Pi that none of the others hears, while it hears them."""
    return {m.name: [name] for m in lab.machines if m.name != name}


def ring(lab: Lab) -> dict[str, list[str]]:
    """Return the grudge in which each Pi hears only some, and no two hear the same ones.

    Each drops the next half of the circle; with three Pis, each hears one other, and nobody hears
    the one that it hears. (jepsen.nemesis, `majorities-ring`, is this for five and more.)
    """
    names = [m.name for m in lab.machines]
    half = len(names) // 2
    return {name: [names[(i + k) % len(names)] for k in range(1, half + 1)]
            for i, name in enumerate(names)}


def halves(lab: Lab, name: str) -> dict[str, list[str]]:
    """Return the grudge in which the Pis fall into two halves, with this one in the smaller.

    Of three it is one against two, of five two against three, of seven three against four.
    """
    names = [m.name for m in lab.machines]
    first = names.index(name)
    around = names[first:] + names[:first]
    few, many = around[:len(names) // 2], around[len(names) // 2:]
    return {**dict.fromkeys(few, many), **dict.fromkeys(many, few)}


def everywhere(lab: Lab, name: str) -> dict[str, list[str]]:
    """Return the grudge of all Pis against all others, for a network that is bad everywhere."""
    names = [m.name for m in lab.machines]
    return {one: [other for other in names if other != one] for one in names}


_FORGET = (f"iptables -w -t raw -D PREROUTING -j {CHAIN} 2>/dev/null || true; "
           f"iptables -w -t raw -F {CHAIN} 2>/dev/null || true; "
           f"iptables -w -t raw -X {CHAIN} 2>/dev/null || true")


def hardware_address(node: nodes.Node) -> str:
    """Return the hardware address of the interface by which a Pi is in the lab's network."""
    script = (f"cat /sys/class/net/$(ip -o -4 addr show to {node.address}/32 | "
              "awk '{print $2; exit}')/address")
    return node.run(["sh", "-c", script]).out.strip()
