"""The replicated database: who is primary, how far replicas lag, what each member holds.

Members talk on the Swarm's own network only, so they are asked inside their containers.
"""

from __future__ import annotations

import json

import geopandas
import pandas as pd

from . import loading, nodes, stack
from .database import NAME, connect, url
from .settings import Lab
from .shell import CommandFailed
from .wait import NotYet, until

__all__ = ["connect", "content_hash", "each", "lag", "members", "primary", "replayed",
           "switchover", "url", "verify"]

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
    for node, container in _containers(lab).values():
        try:
            answer = node.docker("exec", container, "bash", "-c", _CLUSTER, timeout=10)
            listed = json.loads(answer[answer.index("{"):])["members"]
        except (CommandFailed, ValueError, KeyError):
            continue  # this one starts or stops; the next one knows as well
        rows = [(m["name"], _pi(lab, m["name"]), m["role"], m["state"],
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


def lag(lab: Lab) -> pd.DataFrame:
    """Return how far each replica is behind the primary, in bytes of WAL and in milliseconds.

    Columns: member, sync (`quorum`, `sync` or `async`), and bytes not yet sent to it, written
    by it, flushed to its disk, replayed so that readers see them; `replay_ms` is how long the
    last commit took to get that far (PostgreSQL manual, 27.2.4).
    """
    query = """
        select application_name, sync_state,
               pg_current_wal_lsn() - sent_lsn, pg_current_wal_lsn() - write_lsn,
               pg_current_wal_lsn() - flush_lsn, pg_current_wal_lsn() - replay_lsn,
               round(extract(epoch from replay_lag) * 1000, 1)
        from pg_stat_replication order by application_name"""
    with connect(lab, "postgres", port=lab.ports.primary) as connection:
        rows = connection.execute(query).fetchall()
    table = pd.DataFrame(rows, columns=["member", "sync", "unsent", "unwritten", "unflushed",
                                        "unreplayed", "replay_ms"])
    numbers = table.columns[2:]
    return table.astype({name: float for name in numbers}).astype(
        {name: "Int64" for name in numbers[:4]})


def each(lab: Lab, statement: str) -> pd.DataFrame:
    """Ask every member the same, on itself: member, node, answer (text; an error is one too)."""
    found = _containers(lab)
    if not found:
        raise NotYet("no member of the database answers; see: gislab status")

    def ask(member: str) -> tuple[str, str, str]:
        node, container = found[member]
        done = node.run(["docker", "exec", "-i", container, "psql", "-XqAt", "-d", NAME,
                         "-v", "ON_ERROR_STOP=1"], input=statement, check=False)
        return member, node.name, (done.out if done.code == 0 else done.err).strip()
    return pd.DataFrame(nodes.each(lab, ask, sorted(found)), columns=["member", "node", "answer"])


def content_hash(lab: Lab, table: str) -> dict[str, str]:
    """Return member -> a hash of all rows of a table; equal hashes, equal rows in any order.

    Asked once every replica has replayed what the primary had written by now.
    """
    found = _fingerprints(lab, table)
    return dict(zip(found["member"], found["hash"], strict=True))


def verify(lab: Lab, table: str, gdf: geopandas.GeoDataFrame | None = None) -> pd.DataFrame:
    """Compare a table on every member: member, node, rows, hash, equal.

    Parameters
    ----------
    gdf : what was loaded. Then `equal` says besides that the count, and the geometries byte by
        byte, are those of the frame; their hash is worked out on this machine, not in SQL.
    """
    found = _fingerprints(lab, table)
    alike = found["hash"] == found["hash"].mode()[0]
    if gdf is not None:
        alike &= (found["rows"] == len(gdf)) & (found["shapes"] == loading.fingerprint(gdf))
    return found.drop(columns="shapes").assign(equal=alike)


def switchover(lab: Lab, to: str | None = None, say=print) -> str:
    """Hand the primary's role over, as planned work does, and return who has it now.

    Parameters
    ----------
    to : a member, e.g. `postgis2`; by default a replica that lacks no acknowledged write.
    """
    table = members(lab)
    former = primary(lab)
    if to is None:
        safe = table["role"].isin(["sync_standby", "quorum_standby"])
        ready = table[safe & (table["state"] == "streaming")]
        if ready.empty:
            raise NotYet("no replica has every acknowledged write at this moment")
        to = ready["member"].iloc[0]
    if to not in set(table["member"]):
        raise ValueError(f"no member {to!r}; there are " + ", ".join(table["member"]))
    if to == former:
        say(f"{to}: is primary already")
        return to
    node, container = _containers(lab)[to]
    node.docker("exec", container, "entrypoint.sh", "patronictl", "switchover", lab.name,
                "--leader", former, "--candidate", to, "--force", timeout=90)

    def changed() -> None:  # patronictl answers before the new primary takes writes
        now = members(lab)
        if (now["role"] == "leader").sum() != 1 or primary(lab) != to:
            raise NotYet(f"{to} is not primary yet")
        if (now["state"] == "streaming").sum() < len(table) - 1:
            raise NotYet(f"{former} does not stream yet")
    until(changed, what=f"{to} to be primary", timeout=90)
    say(f"{to}: is primary, {former} is its replica")
    return to


def _fingerprints(lab: Lab, table: str) -> pd.DataFrame:
    replayed(lab)
    found = each(lab, loading.fingerprint_query(table))
    wrong = found[~found["answer"].str.fullmatch(r"\d+\|-?\d+\|\d+")]
    if not wrong.empty:
        raise LookupError(f"{table} cannot be read on {', '.join(wrong['member'])}: "
                          f"{wrong['answer'].iloc[0]}")
    parts = found["answer"].str.split("|", expand=True)
    return found[["member", "node"]].assign(
        rows=parts[0].astype(int), hash=[f"{int(n) % 2**64:016x}" for n in parts[1]],
        shapes=[int(n) for n in parts[2]])


def replayed(lab: Lab) -> None:
    """Wait until every member has replayed what the primary has written by now."""
    with connect(lab, "postgres", port=lab.ports.primary) as connection:
        lsn = connection.execute("select pg_current_wal_lsn()").fetchone()[0]
    question = (f"select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() >= '{lsn}' "
                "else true end")

    def ask() -> None:
        table = each(lab, question)
        behind = table[table["answer"] != "t"]["member"]
        if len(behind):
            raise NotYet(f"{', '.join(behind)} behind")
    until(ask, what=f"every member to have replayed {lsn}", timeout=60)


def _containers(lab: Lab) -> dict[str, tuple[nodes.Node, str]]:
    """Return member -> (Pi, container id), of those Pis that answer."""
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
    return dict(pair for pairs in nodes.each(lab, ask) for pair in pairs)


def _pi(lab: Lab, member: str) -> str:
    """Return the Pi of a member: postgis1 is pinned to the first, see swarm.label."""
    return lab.machines[int(member.removeprefix("postgis")) - 1].name
