"""Slow the network between the Pis, and nothing else: what one sends to another waits in a queue.

Where the kernel has netem, each packet is held back for DELAY (tc-netem(8)). Where it has not, a
narrow pipe stands in its place: htb lets RATE pass, and what is more waits for its turn, so that
answers of some size come late (tc-htb(8)). Packets up to SMALL bytes go by the side of it: behind
a segment of the WAL, of 16 MB, the heartbeats of VRRP and Consul would wait until everybody took
everybody for dead. `means` says which it is; a run is told it, too.

Which packets are meant is said by iptables (CLASSIFY), by the addresses of the other Pis and the
VIP: so the overlay's are slow with them, and the laptop's are not. A reboot forgets it.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import cuts, nodes
from .settings import Lab

DELAY = "50ms"  # of each packet, and so twice that for an answer
RATE = "2mbit"  # per second, of what one Pi sends to the others in packets larger than
SMALL = 500  # bytes; who gossips and who holds the VIP is said in less
NETEM, HTB = "netem", "htb"
TOLD = {NETEM: f"each packet {DELAY} later, by tc netem",
        HTB: f"{RATE} per second for packets over {SMALL} bytes, by tc htb; no netem here"}

# only what is ours: a Pi may have a queue of its owner's
FORGET = (
    f"iptables -w -t mangle -D POSTROUTING -j {cuts.CHAIN} 2>/dev/null || true; "
    f"iptables -w -t mangle -F {cuts.CHAIN} 2>/dev/null || true; "
    f"iptables -w -t mangle -X {cuts.CHAIN} 2>/dev/null || true; "
    """for dev in $(tc qdisc show | awk '$2 == "htb" && $3 == "71:" {print $5}'); """
    "do tc qdisc del dev $dev root; done")


def begin(lab: Lab) -> None:
    """Have each Pi send slowly to all others; safe to repeat."""
    how = means(lab)

    def slow(node: nodes.Node) -> None:
        others = [m.address for m in lab.machines if m.name != node.name]
        node.run(["sh", "-ec", script(node.address, [*others, lab.vip], how)])
    nodes.each(lab, slow)


def means(lab: Lab) -> str:
    """Return NETEM if the kernel of every Pi has it, else HTB."""
    def ask(node: nodes.Node) -> int:  # in a network of its own, which ends with the question
        return node.run(["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", NETEM,
                         "delay", "1ms"], check=False).code
    return HTB if any(nodes.each(lab, ask)) else NETEM


def script(own: str, others: Sequence[str], how: str) -> str:
    """Return what makes the Pi at the address `own` send slowly to `others`, for sh -e."""
    rate, queue, which = (
        ("1gbit", f"netem delay {DELAY} limit 10000", "") if how == NETEM
        else (RATE, "pfifo limit 100", f"-m length --length {SMALL + 1}: "))  # 0.6 s of packets
    return "; ".join([
        FORGET,
        f"dev=$(ip -o -4 addr show to {own}/32 | awk '{{print $2; exit}}')",
        "tc qdisc add dev $dev root handle 71: htb",
        f"tc class add dev $dev parent 71: classid 71:7 htb rate {rate}",
        f"tc qdisc add dev $dev parent 71:7 handle 72: {queue}",
        f"iptables -w -t mangle -N {cuts.CHAIN}",
        *[f"iptables -w -t mangle -A {cuts.CHAIN} -d {other} {which}-j CLASSIFY --set-class 71:7"
          for other in others],
        f"iptables -w -t mangle -I POSTROUTING -j {cuts.CHAIN}"])
