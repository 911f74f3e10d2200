"""The replicated database: who is primary, how far replicas lag, what each member holds.

Members talk on the Swarm's own network only, so they are asked inside their containers.
"""

from __future__ import annotations

import geopandas
import pandas as pd

from . import loading, nodes
from .database import NAME, connect, url
from .handover import rolling_restart, switchover
from .members import SILENT, containers, members, primary
from .settings import Lab
from .wait import NotYet, until

__all__ = ["connect", "content_hash", "each", "lag", "members", "primary", "replayed",
           "rolling_restart", "switchover", "url", "verify"]


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
    found = containers(lab)
    if not found:
        raise NotYet(SILENT)

    def ask(member: str) -> tuple[str, str, str]:
        node, container = found[member]
        done = node.run(["docker", "exec", "-i", container, "psql", "-XqAt", "-d", NAME,
                         "-v", "ON_ERROR_STOP=1"], input=statement, check=False)
        return member, node.name, (done.out if done.code == 0 else done.err).strip()
    return pd.DataFrame(nodes.each(lab, ask, list(found)), columns=["member", "node", "answer"])


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
