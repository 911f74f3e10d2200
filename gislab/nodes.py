"""The machines of the lab, real or virtual, all reached in the same way: over SSH."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import virtual
from .settings import Lab
from .shell import CommandFailed, Local, Remote, Result, Ssh, Unreachable
from .wait import NotYet, WaitTimeout, until

BY_HAND = 600  # seconds in which a person pulls a plug, or puts it back


class NodeError(RuntimeError):
    """A Pi cannot do what was asked; the text says what to do."""


@dataclass(frozen=True)
class Node:
    """One Pi and the way to it."""

    name: str
    address: str
    remote: Remote

    def run(self, args: Sequence[str], **how) -> Result:
        """Run a command on the Pi; see shell.Remote."""
        return self.remote.run(args, **how)

    def docker(self, *args: str, **how) -> str:
        """Run `docker ...` on the Pi and return what it printed."""
        return self.remote.run(["docker", *args], **how).out.strip()

    def answers(self) -> bool:
        """Tell whether the Pi can be reached over SSH at this moment."""
        try:
            self.run(["true"], timeout=6)
        except CommandFailed:
            return False
        return True


def all(lab: Lab) -> list[Node]:
    """Return every Pi of the lab, in the order of its settings; sends no command."""
    key = private_key(lab)
    return [Node(m.name, m.address, Ssh(m, key=key, known_hosts=lab.home / "known_hosts"))
            for m in lab.machines]


def get(lab: Lab, name: str) -> Node:
    """Return the Pi `name`; KeyError names those that there are."""
    machine = lab.machine(name)
    return next(node for node in all(lab) if node.name == machine.name)


def each(lab: Lab, do, nodes: Sequence[Node] | None = None) -> list:
    """Call `do(node)` for every Pi at once and return the answers in order."""
    nodes = all(lab) if nodes is None else nodes
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return list(pool.map(do, nodes))


def alive(lab: Lab) -> list[Node]:
    """Return the Pis that answer over SSH now."""
    nodes = all(lab)
    return [n for n, ok in zip(nodes, each(lab, Node.answers, nodes), strict=True) if ok]


def manager(lab: Lab) -> Node:
    """Return a Pi that answers as a manager of the Swarm; NodeError if none does."""
    for node in all(lab):
        try:
            node.docker("node", "ls", "-q", timeout=15)
        except CommandFailed:
            continue
        return node
    raise NodeError("no Pi answers as a manager of the Swarm; run: gislab up")


def up(lab: Lab, say=print) -> list[Node]:
    """Have every Pi powered, reachable and its Docker engine running."""
    if lab.kind == "virtual":
        virtual.up(lab, public_key(lab), say=say)
    found = all(lab)
    for node in found:
        until(lambda node=node: _ready(node), what=f"{node.name} to answer over SSH",
              timeout=90, progress=say)
    return found


def power_cut(lab: Lab, name: str, say=print) -> None:
    """Take the power from a Pi at once, as pulling its plug would; of a real Pi, somebody does."""
    if lab.kind == "pi":
        _gone_by_hand(lab, name, "pull the power plug of", say)
    else:
        virtual.power_cut(lab, lab.machine(name).name)


def power_on(lab: Lab, name: str, say=print) -> None:
    """Give a Pi its power back and wait until it answers over SSH."""
    if lab.kind == "pi":
        _back_by_hand(lab, name, "plug the power back into", say)
        return
    virtual.power_on(lab, lab.machine(name).name)
    node = get(lab, name)
    until(lambda: _ready(node), what=f"{name} to boot", timeout=90)


def unplug(lab: Lab, name: str, say=print) -> None:
    """Pull the network cable of a Pi; its programs go on running."""
    if lab.kind == "pi":
        _gone_by_hand(lab, name, "pull the network cable of", say)
    else:
        virtual.unplug(lab, lab.machine(name).name)


def plug(lab: Lab, name: str, say=print) -> None:
    """Put the network cable of a Pi back."""
    if lab.kind == "pi":
        _back_by_hand(lab, name, "put the network cable back into", say)
    else:
        virtual.plug(lab, lab.machine(name).name)


def private_key(lab: Lab) -> Path:
    """Return the private SSH key that opens the Pis; a virtual lab makes one of its own."""
    if lab.kind == "pi":
        key = Path(os.path.expanduser(lab.ssh_key))
        if not key.exists():
            raise NodeError(f"the SSH key {key} does not exist; make it with: "
                            f"ssh-keygen -t ed25519 -f {key}, and copy it with ssh-copy-id")
        return key
    key = lab.home / "id_ed25519"
    if not key.exists():
        Local().run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {lab.name}",
                     "-f", str(key)])
    return key


def public_key(lab: Lab) -> str:
    return private_key(lab).with_suffix(".pub").read_text().strip()


def _ready(node: Node) -> None:
    try:
        result = node.run(["docker", "info", "--format", "{{.ServerVersion}}"],
                          check=False, timeout=10)
    except Unreachable as error:
        said = error.result.err.strip()
        if "Permission denied" in said or "HOST IDENTIFICATION" in said:
            raise NodeError(f"{node.name} ({node.address}) does not take the lab's SSH key: "
                            f"{said[-200:]}") from None
        raise NotYet("no answer over SSH") from None
    if result.code == 127:
        raise NodeError(f"{node.name} has no Docker; on that Pi: sudo apt-get install docker.io")
    if result.code:
        raise NotYet("its Docker engine is not running yet")


def _gone_by_hand(lab: Lab, name: str, do: str, say) -> None:
    """Ask for a real Pi's plug to be pulled, and wait until it answers no more."""
    node = get(lab, name)
    say(f"{name} is a real Pi: {do} {name} now")

    def ask() -> None:
        if node.answers():
            raise NotYet(f"{name} still answers: {do} {name}")
    until(ask, what=f"{name} to fall silent", timeout=BY_HAND, every=0.2)
    say(f"{name}: silent")


def _back_by_hand(lab: Lab, name: str, do: str, say) -> None:
    """Ask for a real Pi's plug to be put back, unless it answers, and wait until it does."""
    node = get(lab, name)
    try:
        _ready(node)
        return  # somebody has been sooner, or it was never pulled
    except NotYet:
        say(f"{name} is a real Pi and does not answer: {do} {name} now")
    try:
        until(lambda: _ready(node), what=f"{name} to answer", timeout=BY_HAND)
    except WaitTimeout as error:
        raise NodeError(f"{error}; {do} {name}, then run: gislab heal") from None
    say(f"{name}: answers again")
