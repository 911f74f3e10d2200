"""Probes and a fault on one clock: the one place where measuring and breaking meet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from . import faults, history, postgis, probe, run, stack, watch
from .faults import Fault
from .run import Run
from .settings import PROJECT, Lab
from .shell import CommandFailed
from .wait import NotYet, WaitTimeout, until


class ExperimentError(RuntimeError):
    """A measurement did not come to its end; the text says what is kept, and what to do."""


RUNS = PROJECT / "runs"
MEMBERS = 3  # of the database, on however many Pis
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


def measure(lab: Lab, fault: Fault | str, *, before: float = 5, during: float = 3,
            after: float = 5, recovery: float = 60,
            rate: float | Mapping[str, float] = 10, timeout: float | Mapping[str, float] = 2,
            lanes: tuple[str, ...] = probe.LANES, layer: str = "alive",
            about: dict | None = None, folder: str | Path | None = None, say=print) -> Run:
    """Ask the VIP steadily while `fault` comes and goes, and keep what happened.

    Parameters
    ----------
    fault : a Fault, or its name.
    before, during, after : float, seconds of calm before the fault; the least time for which
        it lasts; and of calm after it was undone.
    recovery : float, seconds; how long to wait for every lane to succeed again before the
        fault is undone. If that does not come, the run says so: it is a result.
    rate, timeout, lanes, layer : see probe.vip.
    about : more settings that the run is to be kept with.
    folder : where the run is kept; a new one under runs/ by default.

    Returns the Run, with the numbered rows that each member of the database held at the end.
    """
    heal(lab, say=say)
    fault = faults.named(lab, fault) if isinstance(fault, str) else fault
    target = fault.aim()  # may move the primary; before the probes start
    settings = run.about(lab, fault=fault.name, title=fault.title, colour=fault.colour,
                         target=target.what, rate=rate, timeout=timeout, layer=layer,
                         lanes=list(lanes), before=before, during=during, after=after,
                         recovery=recovery, images=stack.digests(lab), **(about or {}))
    first = first_row(lab)
    events: list[tuple] = []
    with watch.Watch(lab) as watched, probe.vip(lab, lanes=lanes, rate=rate, timeout=timeout,
                                                first=first, layer=layer) as probes:
        def note(kind: str, what: str = "") -> None:
            events.append((probes.now(), kind, what, fault.name))

        say(f"{fault.title}: {before:g} s of calm, then {target.what}")
        probes.watch(before)
        with broken(lab, fault, note, say=say):
            probes.watch(during)
            recovered(probes, recovery, note)
        recovered(probes, recovery, note)
        probes.watch(after)
    settings["lateness"] = probes.lateness()
    result = run.make(probes.samples(), events, settings=settings,
                      system=watched.seen(probes.began))
    folder = Path(folder or run.folder_for(RUNS, fault.name))
    try:
        rows = final_reads(lab, first, first + 2 * probe.HALF)
    except WaitTimeout as error:
        raise ExperimentError(f"{error}: whether writes were lost cannot be told. The samples are "
                              f"in {_short(result.save(folder))}; see: gislab status") from None
    result = dataclasses.replace(result, rows=run.rows(rows))
    kept = result.save(folder)
    say(f"{fault.title}: {len(result.samples)} questions, kept in {_short(kept)}")
    return result


@contextmanager
def broken(lab: Lab, fault: Fault, note: Callable[[str, str], None], say=print
           ) -> Iterator[faults.Target]:
    """Have `fault` strike for the length of the block, and undo it at its end.

    It is undone even if the block is interrupted. If that is interrupted too, or this program
    dies, the journal makes the next command of this lab undo it.

    Parameters
    ----------
    note : told each event of run.Run.events: its kind, and what is struck.
    """
    target = fault.aim()
    _remember(lab, fault)
    try:
        note("strike", target.what)
        fault.strike()
        note("struck", target.what)
        yield target
    finally:
        note("undo", target.what)
        say(f"{fault.title}: undoing it, and waiting until the lab is whole")
        fault.undo()
        note("undone", target.what)
        _forget(lab)


def heal(lab: Lab, say=print) -> str | None:
    """Undo the fault that a killed driver left behind; return its name, or None.

    Called first by every measurement, and by the commands of the shell.
    """
    path = _journal(lab)
    try:
        left = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    fault = faults.named(lab, left["fault"])
    fault.target = faults.Target(**left["target"])
    say(f"{fault.title}: was left behind on {fault.target.node}; undoing it")
    fault.undo()
    _forget(lab)
    return fault.name


def recovered(probes: probe.Probes, timeout: float, note, steady: float = 1.5) -> None:
    """Wait until every lane has succeeded, and nothing else, for `steady` seconds.

    That it has not within `timeout` seconds is noted as an event, and is a result.
    """
    # Questions sent less than `timeout` ago may have no answer yet, and count as not failed;
    # so the last answered ones decide, and there must be enough of them.
    enough = {lane: max(3, int(rate * steady / 2)) for lane, rate in probes.rates.items()}

    def ask() -> None:
        since = probes.now() - steady
        bad = [lane for lane, outcomes in probes.recent(since).items()
               if len(outcomes) < enough[lane] or set(outcomes) != {"ok"}]
        if bad:
            probes.watch(0)  # raises if the probes themselves have died
            raise NotYet(", ".join(bad))

    try:
        until(ask, what="every lane to succeed", timeout=timeout, every=0.25)
    except WaitTimeout as error:
        note("not recovered", str(error))


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
        wanted = MEMBERS if replicas else 1
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


def _journal(lab: Lab) -> Path:
    return lab.home / "fault.json"


def _remember(lab: Lab, fault: Fault) -> None:
    target = fault.aim()
    _journal(lab).write_text(json.dumps({"fault": fault.name, "target": vars(target)}))


def _forget(lab: Lab) -> None:
    _journal(lab).unlink(missing_ok=True)


def _line(said: object) -> str:
    return " ".join(str(said).split())[-300:]


def _short(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
