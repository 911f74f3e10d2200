"""The members of the database: which there are, who is primary, in which container each runs."""

from __future__ import annotations

import json

import pandas as pd

from . import nodes, stack
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet

# Bash speaks HTTP well enough: a Python or a curl each second would cost a Pi more.
_CLUSTER = ("exec 3<>/dev/tcp/localhost/8008 && printf 'GET /cluster HTTP/1.0\\r\\n\\r\\n' >&3 "
            "&& cat <&3")
_COLUMNS = ["member", "node", "role", "state", "lag", "timeline"]


def members(lab: Lab) -> pd.DataFrame:
    """Return what Patroni says: member, node, role, state, lag (bytes), timeline.

    The role of the primary is `leader`; of a replica `sync_standby` or `quorum_standby` if it
    may become primary without losing a write, else `replica`.

    Raises
    ------
    NotYet : no member answers at this moment.
    """
    for node, container in containers(lab).values():
        try:
            answer = node.docker("exec", container, "bash", "-c", _CLUSTER, timeout=10)
            listed = json.loads(answer[answer.index("{"):])["members"]
        except (CommandFailed, ValueError, KeyError):
            continue  # this one starts or stops; the next one knows as well
        rows = [(m["name"], pi(lab, m["name"]), m["role"], m["state"],
                 m.get("lag", 0 if m["role"] == "leader" else None), m.get("timeline"))
                for m in listed]
        table = pd.DataFrame(sorted(rows), columns=_COLUMNS)
        table["lag"] = pd.to_numeric(table["lag"], errors="coerce").astype("Int64")
        return table
    raise NotYet("no member of the database answers; see: gislab status")


def primary(lab: Lab) -> str:
    """Return the name of the member that takes writes, e.g. `postgis1`; NotYet if none does."""
    table = members(lab)
    leaders = table[(table["role"] == "leader") & (table["state"] == "running")]
    if leaders.empty:
        raise NotYet("no member is primary at this moment")
    return leaders["member"].iloc[0]


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


def pi(lab: Lab, member: str) -> str:
    """Return the Pi of a member: postgis1 is pinned to the first, see swarm.label."""
    return lab.machines[int(member.removeprefix("postgis")) - 1].name
