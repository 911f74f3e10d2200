"""How long the VIP is away when its holder loses power: ours, and two others beside it.

Beside the lab's Keepalived two more run on every Pi, of the same image, each with an address and
a virtual router of its own: one with an advert a second, as Keepalived comes, one with an advert
in five seconds, as in 2016. All three addresses are held by one Pi, and one cut of its power
strikes all three, so a trial is a pair. What is asked at each address, fifty times a second, is
whether HAProxy is there: that costs no map. An unplugged cable would do as well, and cheaper; but
the power cut is what the target names, and row 3 needs it anyway: one cut serves both.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from gislab import cluster, experiment, nodes, probe, registry, run, settings, stack, vip
from gislab.faults import Fault
from gislab.question import Failed
from gislab.settings import Lab
from gislab.shell import Unreachable
from gislab.wait import NotYet, until

from . import bench_database, series

OURS = "ours"
PEERS = {"advert 1 s": "1", "advert 5 s": "5"}  # -> ADVERT_INT of the image
RATE = 50
PATIENCE = 0.4  # TCP asks again after a second (RFC 6298, 2), and a gap would be a late answer
NAME = "vip"


class Knock:
    """A question to HAProxy whether it is there, over a new connection; see question.Question."""

    def __init__(self, host: str, port: int, *, timeout: float = PATIENCE):
        self.host, self.port, self.timeout = host, port, timeout

    async def ask(self, number: int) -> str:
        """Return "" for an answer of 200; Failed says what came instead."""
        try:
            async with asyncio.timeout(self.timeout):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                    line = await reader.readline()
                finally:
                    writer.close()
        except TimeoutError:
            raise Failed("no answer in time") from None
        except OSError as error:
            raise Failed(str(error)) from None
        if b" 200 " not in line:
            raise Failed(line.decode(errors="replace").strip() or "nothing")
        return ""

    def row(self, number: int) -> None:
        return None

    async def close(self) -> None:
        return None


def addresses(lab: Lab) -> dict[str, Lab]:
    """Return setup -> the lab as seen by it: for the peers, with the next free addresses as VIP.

    The image makes the number of the virtual router of an address's last part.
    """
    taken = {lab.vip, *(m.address for m in lab.machines)}
    hosts = [str(host) for host in lab.network.hosts()]
    after = hosts.index(lab.vip) + 1
    free = [host for host in hosts[after:] + hosts[20:after] if host not in taken]
    return {OURS: lab, **{name: dataclasses.replace(lab, vip=host)
                          for name, host in zip(PEERS, free, strict=False)}}


@contextmanager
def beside(lab: Lab) -> Iterator[dict[str, Lab]]:
    """Have the peers' Keepalived run on every Pi for the length of the block."""
    seen = addresses(lab)
    _remove(lab, seen)
    try:
        for name in PEERS:
            nodes.each(lab, lambda node, name=name: node.docker(
                *create(lab, node.name, name, seen[name].vip)))
        yield seen
    finally:
        _remove(lab, seen)


def create(lab: Lab, node: str, name: str, address: str) -> list[str]:
    """Return the words after `docker` that make a peer's container, not yet running, on a Pi."""
    facts = {"NODE_NAME": node, "NODES": settings.peers(lab), "VIP": address,
             "LAB": container(name), "PORT_STATS": str(lab.ports.stats),
             "ADVERT_INT": PEERS[name]}
    # the same rights as the stack's own; it comes back with its Pi
    rights = yaml.safe_load((stack.FOLDER / stack.FILE).read_text())["services"]["keepalived"]
    return ["create", "--name", container(name), "--network", "host", "--restart", "always",
            "--read-only", "--tmpfs", "/run:size=1m", "--no-healthcheck", "--cap-drop", "ALL",
            *[word for right in rights["cap_add"] for word in ("--cap-add", right)],
            *[word for key, value in facts.items() for word in ("--env", f"{key}={value}")],
            registry.reference(lab, "keepalived")]


def container(name: str) -> str:
    """Return how a peer's container is called, the same on every Pi."""
    return "bench-" + name.replace(" ", "-")


def unite(lab: Lab, seen: dict[str, Lab]) -> None:
    """Have every address on the Pi that holds the VIP, and the other Pis ready to take it."""
    where = until(lambda: _held(lab), what="a holder of the VIP", timeout=60)
    for name, peer in seen.items():
        if name == OURS:
            continue
        if vip.holders(peer) != [where]:
            others = [node for node in nodes.all(lab) if node.name != where]
            # SIGTERM: an address is given away at once, and never left behind
            nodes.each(lab, lambda node, name=name: node.docker("stop", container(name)), others)
            nodes.get(lab, where).docker("start", container(name))
            until(lambda peer=peer: _on(peer, where), what=f"the address with {name} on {where}",
                  timeout=60, every=1)
        nodes.each(lab, lambda node, name=name: node.docker("start", container(name)))
    until(lambda: _all_on(seen, where), what=f"every address on {where}", timeout=60, every=1)


def trial(lab: Lab, seen: dict[str, Lab], folder: Path, number: int) -> None:
    """Cut the power of the holder of all addresses once; the database's trial of it is kept, too.

    That one goes to where `make bench-database` keeps its own, under the next free number.
    """
    cluster.ready(lab, say=None)
    unite(lab, seen)
    about = run.about(lab, fault="power_cut", title="power cut of the holder", rate=RATE,
                      timeout=PATIENCE, adverts=PEERS, images=stack.digests(lab))
    events: list[tuple] = []
    database = bench_database.FOLDER / "ours"
    with probe.Probes({name: Knock(peer.vip, lab.ports.stats) for name, peer in seen.items()},
                      rate=RATE) as probes:
        probes.watch(1)
        cut = noted(bench_database.fault_of(lab, "ours", "power_cut"), probes, events)
        try:
            bench_database.trial(lab, "ours", "power_cut",
                                 series.missing(database, "power_cut", 99)[0], cut)
        except experiment.ExperimentError as error:  # of the database; the addresses were asked
            print(error)
    if not any(kind == "struck" for _, kind, *_ in events):
        raise experiment.ExperimentError("the power was not cut; see: gislab status")
    about["lateness"] = probes.lateness()
    run.make(probes.samples(), events, settings=about).save(series.path(folder, NAME, number))


def busy(lab: Lab, folder: Path, minutes: float) -> None:
    """Keep every processor of every Pi busy, and have kept who held VIP and primary meanwhile."""
    cluster.ready(lab, say=None)
    experiment.measure(lab, "cpu_full", before=2, during=60 * minutes, after=1, rate=2,
                       lanes=("maps", "write_primary"), say=lambda text: None,
                       folder=series.path(folder, "busy", 1))


def noted(fault: Fault, probes: probe.Probes, events: list[tuple]) -> Fault:
    """Return a fault that is undone only when every address answers, and notes what it does."""
    def note(kind: str, what: str = "") -> None:
        events.append((probes.now(), kind, what, fault.name))

    def hit(lab: Lab, target) -> None:
        note("strike", target.what)
        fault.hit(lab, target)
        note("struck", target.what)

    def mend(lab: Lab, target) -> None:
        try:
            experiment.recovered(probes, 40, note)  # an advert in 5 s: 10 to 16 s
        finally:
            note("undo", target.what)
            fault.mend(lab, target)
            note("undone", target.what)
    return dataclasses.replace(fault, hit=hit, mend=mend)


def _held(lab: Lab) -> str:
    holding = vip.holders(lab)
    if len(holding) != 1:
        raise NotYet(f"it is held by {', '.join(holding) or 'nobody'}")
    return holding[0]


def _on(lab: Lab, where: str) -> None:
    if vip.holders(lab) != [where]:
        raise NotYet(f"{lab.vip} is held by {', '.join(vip.holders(lab)) or 'nobody'}")


def _all_on(seen: dict[str, Lab], where: str) -> None:
    for lab in seen.values():
        _on(lab, where)


def _remove(lab: Lab, seen: dict[str, Lab]) -> None:
    """Take the peers and their addresses off every Pi; safe to repeat."""
    names = " ".join(container(name) for name in PEERS)
    theirs = " ".join(peer.vip for name, peer in seen.items() if name != OURS)
    # stopped first: a killed Keepalived leaves its address behind
    script = (f"docker stop -t 5 {names}; docker rm -f {names}; for a in {theirs}; do "
              "ip -o -4 addr show to $a/32 | while read -r _ device _ address _; do "
              "ip addr del $address dev $device; done; done; true")

    def do(node: nodes.Node) -> None:
        def ask() -> None:
            try:
                node.run(["sh", "-c", script])
            except Unreachable:
                raise NotYet("no answer; see: gislab status") from None
        until(ask, what=f"{node.name} to give up the peers of the VIP", timeout=60, every=1)
    nodes.each(lab, do)
