"""Replication at work: when a row arrives on each replica, and which member answers a question."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pandas as pd
import psycopg

from . import database, postgis
from .settings import Lab
from .wait import NotYet, until

_SELF = "select host(inet_server_addr())"


def arrival(lab: Lab, rows: int = 20) -> pd.DataFrame:
    """Write rows one by one and watch each replica until a reader there sees it.

    Columns: row; acknowledged, the milliseconds until the primary said so; and for each replica,
    by its name, the milliseconds until the row was seen there, counted from the same start.
    """
    with ExitStack() as opened:
        writer = opened.enter_context(_open(lab, "gis", lab.ports.primary))
        writer.execute("create table if not exists lab.arrivals "
                       "(id bigint generated always as identity primary key)")
        readers = _replicas(lab, opened)
        found = []
        for row in range(1, rows + 1):
            start = time.perf_counter()
            number, = writer.execute(
                "insert into lab.arrivals default values returning id").fetchone()
            seen = {"row": row, "acknowledged": 1000 * (time.perf_counter() - start)}

            def ask(number=number, start=start, seen=seen) -> None:
                for name, reader in readers.items():
                    if name not in seen and _has(reader, number):
                        seen[name] = 1000 * (time.perf_counter() - start)
                missing = set(readers) - set(seen)
                if missing:
                    raise NotYet(f"not on {', '.join(sorted(missing))}")
            until(ask, what=f"row {number} on every replica", timeout=10, every=0.0005)
            found.append(seen)
    return pd.DataFrame(found, columns=["row", "acknowledged", *sorted(readers)])


def answered(lab: Lab, port: int, times: int = 20, *, role: str = "reader") -> pd.Series:
    """Connect `times` times to a port of the VIP, read, and count which member answered.

    Each time a new connection: within one, Pgpool-II stays with the member that it has chosen.
    """
    with ExitStack() as opened:
        names = {reader.execute(_SELF).fetchone()[0]: name
                 for name, reader in _replicas(lab, opened).items()}
        primary = opened.enter_context(_open(lab, role, lab.ports.primary))
        names[primary.execute(_SELF).fetchone()[0]] = postgis.primary(lab)
    found = pd.Series(0, index=sorted(names.values()), name=f"port {port}")
    for _ in range(times):
        with _open(lab, role, port) as connection:
            found[names[connection.execute(_SELF).fetchone()[0]]] += 1
    return found


def _replicas(lab: Lab, opened: ExitStack) -> dict:
    """Return replica -> a connection to it, through the VIP, for each replica that streams.

    HAProxy gives a new connection to the replica with the fewest. Map servers and Pgpool-II keep
    many open, perhaps all to one of them; so it may take some before the other one is met.
    """
    found = {}
    wanted = int((postgis.members(lab)["state"] == "streaming").sum())
    for _ in range(40):
        reader = opened.enter_context(_open(lab, "reader", lab.ports.replicas))
        # the slot that a replica streams from has the replica's name
        found.setdefault(reader.execute("show primary_slot_name").fetchone()[0], reader)
        if len(found) == wanted:
            break
    return found


def _has(reader: psycopg.Connection, number: int) -> bool:
    try:
        return bool(reader.execute("select id from lab.arrivals where id = %s",
                                   (number,)).fetchone())
    except psycopg.errors.UndefinedTable:  # the table itself has not arrived yet
        return False


def _open(lab: Lab, role: str, port: int) -> psycopg.Connection:
    return database.connect(lab, role, port=port, autocommit=True)
