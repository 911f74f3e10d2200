"""The members of the database: which there are, who is primary, in which container each runs."""

from __future__ import annotations

import json

import pandas as pd

from . import nodes, stack
from .settings import MEMBERS, Lab
from .shell import CommandFailed
from .wait import NotYet

SILENT = "no member of the database answers; see: gislab status"
_COLUMNS = ["member", "node", "role", "state", "lag", "timeline"]


def members(lab: Lab) -> pd.DataFrame:
    """Return what Patroni says: member, node, role, state, lag (bytes), timeline.

    The role of the primary is `leader`; of a replica `sync_standby` or `quorum_standby` if it
    may become primary without losing a write, else `replica`.

    Raises
    ------
    NotYet : no member answers at this moment.
    """
    rows = [(m["name"], pi(lab, m["name"]), m["role"], m["state"],
             m.get("lag", 0 if m["role"] == "leader" else None), m.get("timeline"))
            for m in patroni(lab, "cluster", wanted="members")["members"]]
    table = pd.DataFrame(sorted(rows), columns=_COLUMNS)
    table["lag"] = pd.to_numeric(table["lag"], errors="coerce").astype("Int64")
    return table


def primary(lab: Lab) -> str:
    """Return the name of the member that takes writes, e.g. `postgis1`; NotYet if none does."""
    table = members(lab)
    leaders = table[(table["role"] == "leader") & (table["state"] == "running")]
    if leaders.empty:
        raise NotYet("no member is primary at this moment")
    return leaders["member"].iloc[0]


def safe(table: pd.DataFrame) -> pd.Series:
    """Tell of each line of `members` whether it is a replica with every acknowledged write."""
    return table["role"].isin(["sync_standby", "quorum_standby"])


def replicating(table: pd.DataFrame, replicas: int = len(MEMBERS) - 1) -> None:
    """Raise NotYet unless one member is primary, so many replicas stream, and one of them is safe.

    Parameters
    ----------
    table : see `members`.
    """
    leaders = int((table["role"] == "leader").sum())
    streaming = int((table["state"] == "streaming").sum())
    if leaders != 1 or streaming < replicas:
        raise NotYet(f"{leaders} primary, {streaming} of {replicas} replicas streaming")
    if not safe(table).any():
        raise NotYet("no replica is synchronous")  # a write would have to wait


def patroni(lab: Lab, path: str, *, wanted: str | None = None) -> dict:
    """Return what Patroni says at a path of its API, e.g. `cluster`; any member knows it.

    Parameters
    ----------
    wanted : a key without which an answer is none.

    Raises
    ------
    NotYet : no member answers at this moment.
    """
    # Bash speaks HTTP well enough: a Python or a curl each second would cost a Pi more.
    script = (f"exec 3<>/dev/tcp/localhost/8008 && printf 'GET /{path} HTTP/1.0\\r\\n\\r\\n' >&3 "
              "&& cat <&3")
    for node, container in containers(lab).values():
        try:
            said = node.docker("exec", container, "bash", "-c", script, timeout=10)
            answer = json.loads(said[said.index("{"):])
        except (CommandFailed, ValueError):
            continue  # this one starts or stops; the next one knows as well
        if wanted is None or wanted in answer:
            return answer
    raise NotYet(SILENT)


def patronictl(lab: Lab, verb: str, *words: str, through: str | None = None,
               timeout: float = 180) -> None:
    """Tell Patroni something; what is so already is no mistake.

    Parameters
    ----------
    through : the member that is to be asked. By default the first that does as it is told.

    Raises
    ------
    NotYet : no member answers at this moment.
    CommandFailed : the last one that was asked refused.
    """
    found = containers(lab)
    error: Exception = NotYet(SILENT)
    for node, container in found.values() if through is None else [found[through]]:
        try:
            node.docker("exec", container, "entrypoint.sh", "patronictl", verb, lab.name, *words,
                        timeout=timeout)
            return
        except CommandFailed as failed:
            if "already paused" in str(failed) or "is not paused" in str(failed):
                return
            error = failed
    raise error


def containers(lab: Lab) -> dict[str, tuple[nodes.Node, str]]:
    """Return member -> (Pi, container id), in the order of members, of those Pis that answer."""
    service = '{{.Label "com.docker.swarm.service.name"}}'

    def ask(node: nodes.Node) -> list[tuple[str, tuple[nodes.Node, str]]]:
        try:
            out = node.docker("ps", "--filter", f"name={stack.NAME}_postgis",
                              "--format", "{{.ID}} " + service, timeout=15)
        except CommandFailed:
            return []
        pairs = [line.split() for line in out.splitlines()]
        return [(name.removeprefix(f"{stack.NAME}_"), (node, container))
                for container, name in pairs]
    found = dict(pair for pairs in nodes.each(lab, ask) for pair in pairs)
    return dict(sorted(found.items()))


def on(lab: Lab, pi: str) -> str:
    """Return the member that is pinned to a Pi; of a fourth Pi, a name that nobody has."""
    return f"postgis{[m.name for m in lab.machines].index(pi) + 1}"


def pi(lab: Lab, member: str) -> str:
    """Return the Pi of a member: postgis1 is pinned to the first, see swarm.label."""
    return lab.machines[int(member.removeprefix("postgis")) - 1].name
