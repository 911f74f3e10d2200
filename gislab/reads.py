"""What each member of the database holds after a run: the numbered rows that clients wrote."""

from __future__ import annotations

import psycopg

from . import history, postgis, probe
from .settings import MEMBERS, Lab
from .shell import CommandFailed
from .wait import NotYet, WaitTimeout, until

# No key and nothing unique: a proxy or a pool that sent a write a second time must be able to,
# or the check for doubles could not fail. The second statement is for a lab that is older; it
# would wait for every open write, so it is left out where there is nothing to do.
TABLE = """
create table if not exists lab.writes (
    id bigint not null,
    at timestamptz not null default clock_timestamp(),
    geom geometry(Point, 4326));
do $$ begin
    if exists (select from pg_constraint where conname = 'writes_pkey') then
        alter table lab.writes drop constraint writes_pkey;
    end if;
end $$;
create index if not exists writes_id on lab.writes (id);
"""


def first_row(lab: Lab) -> int:
    """Have the table of writes; return a number that no row of an earlier run has reached."""
    with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
        connection.execute(TABLE)
        highest = connection.execute("select coalesce(max(id), 0) from lab.writes").fetchone()[0]
    return (highest // probe.HALF + 1) * probe.HALF


def final_reads(lab: Lab, first: int, end: int, *, timeout: float = 60, replicas: bool = True
                ) -> list[tuple]:
    """Read from every member which rows from `first` up to `end` it holds, and how often each.

    Only once no write is under way any more (one whose client has gone may wait for a replica
    still), and every replica has replayed what the primary had written by then.

    Parameters
    ----------
    replicas : False reads the primary alone, for a lab that has not come back as a whole.

    Returns the lines of run.Run.rows; WaitTimeout says which member could not be read.
    """
    query = (f"select id, count(*) from lab.writes where id >= {first} and id < {end} "
             "group by id order by id")

    def ask() -> list[tuple]:
        _quiet(lab)
        try:
            if replicas:
                postgis.replayed(lab)
            primary, table = postgis.primary(lab), postgis.each(lab, query)
        except (psycopg.OperationalError, CommandFailed, WaitTimeout) as error:
            raise NotYet(_line(error)) from None
        if not replicas:
            table = table[table["member"] == primary]
        found = {}
        for member, answer in zip(table["member"], table["answer"], strict=True):
            role = "primary" if member == primary else "replica"
            try:
                found[f"{role} {member}"] = {int(row): int(times) for row, times in
                                             (line.split("|") for line in answer.splitlines())}
            except ValueError:
                raise NotYet(f"{member}: {_line(answer)}") from None
        wanted = len(MEMBERS) if replicas else 1
        if len(found) < wanted:
            raise NotYet(f"{len(found)} of {wanted} members answer")
        return history.reads(found)
    return until(ask, what="every member to tell its rows", timeout=timeout, every=1)


def _quiet(lab: Lab) -> None:
    """Raise NotYet while a transaction that writes lab.writes is open on the primary.

    One that waits for a replica has committed, and holds its locks until it is answered.
    """
    question = ("select count(*) from pg_locks where relation = 'lab.writes'::regclass "
                "and mode = 'RowExclusiveLock'")
    try:
        with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
            open_ = connection.execute(question).fetchone()[0]
    except psycopg.OperationalError as error:
        raise NotYet(_line(error)) from None
    if open_:
        raise NotYet(f"{open_} writes are under way")


def _line(said: object) -> str:
    return " ".join(str(said).split())[-300:]
