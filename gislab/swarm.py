"""The Docker Swarm of the Pis: every Pi a manager, each labelled with what it carries."""

from __future__ import annotations

import contextlib
import json

import pandas as pd

from . import handover, members, nodes, stack
from .settings import MEMBERS, Lab
from .shell import CommandFailed, Unreachable
from .wait import NotYet, WaitTimeout, patiently, rescued, until

SILENT = (CommandFailed, nodes.NodeError, json.JSONDecodeError)  # no answer at this moment
PATIENCE = 45.0  # seconds for a Pi to register with Swarm; one with new power takes about ten


class SwarmError(RuntimeError):
    """The Swarm is not as it should be; the text says what to do."""


def init(lab: Lab, say=print) -> None:
    """Make the first Pi the first manager of the lab's Swarm."""
    first = nodes.all(lab)[0]
    if any(_settled(node, say) == "active" for node in nodes.alive(lab)):
        say("swarm: stands already")
        return
    # The overlay's own pool: addresses that no Pi and no laptop is likely to use.
    first.docker("swarm", "init", "--advertise-addr", first.address,
                 "--default-addr-pool", "10.77.0.0/16", "--task-history-limit", "3")
    say(f"{first.name}: leads a new Swarm")


def join(lab: Lab, say=print) -> None:
    """Have every other Pi join the Swarm as a manager."""
    boss = until(lambda: _boss(lab), what="a Swarm with a leader", timeout=90, progress=say)
    table = status(lab)
    workers = table[(table.manager == "-") & (table.state != "not in the Swarm")].node.tolist()
    for node in nodes.all(lab):
        state = _settled(node, say)
        if state == "active":
            if node.name in workers:  # `register_anew` made it one, and was killed
                boss.docker("node", "promote", node.name)
                say(f"{node.name}: is a manager again")
            continue
        if state in ("error", "locked"):
            raise SwarmError(f"{node.name}: its Swarm state is {state}; on that Pi: "
                             "docker swarm leave --force, then gislab up")
        token = boss.docker("swarm", "join-token", "-q", "manager")
        node.docker("swarm", "join", "--advertise-addr", node.address, "--token", token,
                    f"{boss.address}:2377")
        say(f"{node.name}: joined as manager")
    ready(lab, say=say)


def label(lab: Lab, say=print) -> None:
    """Write on each Pi which database member it holds (`gislab.postgis=1`, ...)."""
    boss = nodes.manager(lab)
    for number, node in enumerate(nodes.all(lab), start=1):
        want = str(number)
        have = boss.docker("node", "inspect", node.name, "--format",
                           '{{index .Spec.Labels "gislab.postgis"}}')
        if have != want:
            boss.docker("node", "update", "--label-add", f"gislab.postgis={want}", node.name)
            say(f"{node.name}: labelled for postgis{want}")


def ready(lab: Lab, say=None, timeout: float = 90) -> None:
    """Wait until the Swarm calls every Pi Ready and a reachable manager.

    Parameters
    ----------
    timeout : float, seconds. If it is more than PATIENCE, those that Swarm has lost sight of are
        helped by then; see `register_anew`.

    Raises
    ------
    WaitTimeout : says how many are missing.
    """
    def rescue() -> None:
        with contextlib.suppress(NotYet, *SILENT, ValueError):  # ValueError: there is no leader
            register_anew(lab, say=say or print)
    rescued(lambda: whole(lab), rescue, what="the Swarm", patience=PATIENCE, timeout=timeout,
            progress=say)


def register_anew(lab: Lab, say=print) -> list[str]:
    """Have each Pi that Swarm calls Down, though it is a reachable manager, register once more.

    Seen, rarely, with one that got its power back: its agent has a session with the leader and
    is heard, but that the session before it had ended was written down last, and nobody looks
    again (the like of it: moby/moby 34827, docker/for-linux 209). A manager that is made a worker
    asks another manager for a session, and its containers go on; then it is a manager again.

    Returns the names of those Pis.
    """
    table = status(lab)
    lost = table[(table.state == "Down") & (table.manager == "Reachable")].node.tolist()
    for name in lost:
        node = nodes.get(lab, name)
        boss = nodes.get(lab, table[table.manager == "Leader"].node.item())

        def demoted(node=node) -> None:
            if node.docker("info", "--format", "{{.Swarm.ControlAvailable}}") != "false":
                raise NotYet("it is one still")
        say(f"{name}: Swarm calls it Down, though it answers; it registers anew")
        try:
            boss.docker("node", "demote", name)
            until(demoted, what=f"{name} to be no manager", timeout=60, progress=say)
        finally:
            boss.docker("node", "promote", name)
    return lost


def whole(lab: Lab) -> None:
    """Raise NotYet while a Pi is not Ready, not a reachable manager, or no manager answers."""
    table = patiently(lambda: status(lab), *SILENT)
    good = table[(table.state == "Ready") & table.manager.isin(["Leader", "Reachable"])]
    if len(good) < len(lab.machines):
        raise NotYet(f"only {len(good)} of {len(lab.machines)} managers Ready")


def status(lab: Lab) -> pd.DataFrame:
    """Return one row for each Pi: node, address, state, availability, manager, engine."""
    try:
        rows = listing(nodes.manager(lab))
    except Unreachable as error:
        raise NotYet(str(error)) from None
    known = {row["Hostname"]: row for row in rows}
    return pd.DataFrame([{
        "node": m.name, "address": m.address,
        "state": known.get(m.name, {}).get("Status", "not in the Swarm"),
        "availability": known.get(m.name, {}).get("Availability", "-"),
        "manager": known.get(m.name, {}).get("ManagerStatus", "-") or "-",
        "engine": known.get(m.name, {}).get("EngineVersion", "-"),
    } for m in lab.machines])


def drain(lab: Lab, name: str, say=print, timeout: float = 120) -> None:
    """Move all services off a Pi, for maintenance; map servers find room on the others.

    What every Pi runs, and its member of the database, rests until `activate`. If that member
    is primary, another one becomes it first; readers are let finish what they read.

    Parameters
    ----------
    timeout : float, seconds until nothing of the lab runs there any more.

    Raises
    ------
    KeyError : there is no such Pi; names those that there are.
    SwarmError : the Pis that would be left are no majority, or have one member of the database.
    WaitTimeout : some tasks still stop; says how many. The Pi stays drained.
    """
    _check_majority(lab, name)
    member = members.on(lab, name)
    _lead_elsewhere(lab, member, say)
    # PostgreSQL stops at once, and HAProxy sees it half a second later
    _without_readers(lab, member)
    _available(lab, name, "drain")

    def empty() -> None:
        out = nodes.manager(lab).docker("node", "ps", name, "--filter", "desired-state=running",
                                        "--format", "{{.Name}}")
        left = nodes.get(lab, name).docker("ps", "--filter", "label=com.docker.swarm.task.id",
                                           "--format", "{{.Names}}")
        if out or left:
            raise NotYet(f"{len((out or left).split())} tasks still stop")
    try:
        until(empty, what=f"{name} to be empty", timeout=timeout, every=0.5)
    finally:
        _readers(lab, member, "ready")  # its checks keep it out until it is back
    say(f"{name}: drained, it runs nothing of the lab")


def activate(lab: Lab, name: str, say=print) -> None:
    """Let a drained Pi run services again; see stack.spread for those that do not move back.

    Returns at once; `stack.wait` waits for its tasks. KeyError where there is no such Pi.
    """
    _available(lab, name, "active")
    say(f"{name}: takes services again")


def listing(manager: nodes.Node) -> list[dict]:
    """Return `docker node ls` as dictionaries."""
    out = manager.docker("node", "ls", "--format", "{{json .}}", timeout=20)
    return [json.loads(line) for line in out.splitlines()]


def _available(lab: Lab, name: str, wanted: str) -> None:
    lab.machine(name)  # KeyError names those that there are
    nodes.manager(lab).docker("node", "update", "--availability", wanted, name)


def _check_majority(lab: Lab, name: str) -> None:
    lab.machine(name)
    idle = [row["Hostname"] for row in listing(nodes.manager(lab)) if row["Hostname"] != name
            and (row["Availability"] != "Active" or row["Status"] != "Ready")]
    if len(idle) + 1 > (len(lab.machines) - 1) // 2:
        raise SwarmError(f"{name} cannot be drained while {', '.join(idle)} does not serve: the "
                         f"rest would be no majority. Run: gislab activate {idle[0]}")
    if members.on(lab, name) in MEMBERS:
        for other in idle:
            if members.on(lab, other) in MEMBERS:
                raise SwarmError(f"{name} cannot be drained while {other} does not serve: one "
                                 "member of the database would be left, and no write is safe on "
                                 f"one. Run: gislab activate {other}")


def _lead_elsewhere(lab: Lab, member: str, say) -> None:
    """If this member is primary, have another one be it, whose readers go to the third before."""
    try:
        if members.primary(lab) != member:
            return
        table = members.members(lab)
    except NotYet:  # a database that is down can be drained, too
        return
    others = table[members.safe(table) & (table["state"] == "streaming")]["member"]
    if others.empty:
        return
    _without_readers(lab, others.iloc[0])  # a promotion ends their connections
    try:
        handover.switchover(lab, others.iloc[0], say=say)
    finally:
        _readers(lab, others.iloc[0], "ready")


def _without_readers(lab: Lab, member: str) -> None:
    """Send new readers elsewhere, and let those who read finish; not who only sits there."""
    _readers(lab, member, "drain")
    with contextlib.suppress(WaitTimeout):
        until(lambda: _unread(lab, member), what="readers to finish", timeout=5, every=0.2)


def _readers(lab: Lab, member: str, state: str) -> None:
    """Tell every HAProxy whether new readers may go to a member of the database."""
    _haproxies(lab, f"set server replicas/{member} state {state}")


def _unread(lab: Lab, member: str) -> None:
    """Raise NotYet while somebody reads from a member through a HAProxy."""
    mark = f"replicas,{member},"  # then in CSV: qcur, qmax, scur (its manual, 9.1)
    found = sum(int(line.split(",")[4] or 0) for out in _haproxies(lab, "show stat")
                for line in out.splitlines() if line.startswith(mark))
    if found:
        raise NotYet(f"{found} connections")


def _haproxies(lab: Lab, order: str) -> list[str]:
    """Give an order to the HAProxy of every Pi that answers; return what each said."""
    def tell(pair: tuple[nodes.Node, str]) -> str:
        node, container = pair
        try:
            return node.run(["docker", "exec", container, "sh", "-c",
                             f"echo {order} | socat - /run/haproxy/admin.sock"],
                            check=False, timeout=20).out
        except CommandFailed:  # dark by now, and a dark Pi sends nobody anywhere
            return ""
    return nodes.each(lab, tell, stack.containers(lab, "haproxy"))


def _boss(lab: Lab) -> nodes.Node:
    try:
        return nodes.manager(lab)
    except nodes.NodeError as error:  # all Pis had lost their power: an election takes seconds
        raise NotYet(str(error)) from None


def _settled(node: nodes.Node, say) -> str:
    """Return a Pi's Swarm state, once it no longer looks for the Swarm that it was in."""
    def ask() -> str:
        state = _state(node)
        if state == "pending":
            raise NotYet("it looks for the other managers")
        return state
    return until(ask, what=f"{node.name} to be back in its Swarm", timeout=90, progress=say)


def _state(node: nodes.Node) -> str:
    try:
        return node.docker("info", "--format", "{{.Swarm.LocalNodeState}}", timeout=20)
    except CommandFailed as error:
        raise SwarmError(f"{node.name} does not answer: {error}; run: gislab up") from None
