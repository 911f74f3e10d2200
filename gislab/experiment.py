"""Probes and a fault on one clock: the one place where measuring and breaking meet."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg

from . import faults, postgis, probe, run
from .faults import Fault
from .run import Run
from .settings import PROJECT, Lab
from .wait import NotYet, WaitTimeout, until


class ExperimentError(RuntimeError):
    """A measurement did not come to its end; the text says what is kept, and what to do."""


RUNS = PROJECT / "runs"
TABLE = """
create table if not exists lab.writes (
    id bigint primary key,
    at timestamptz not null default clock_timestamp(),
    geom geometry(Point, 4326))
"""


def measure(lab: Lab, fault: Fault | str, *, before: float = 5, during: float = 3,
            after: float = 5, recovery: float = 60, rate: float = 10, timeout: float = 2,
            lanes: tuple[str, ...] = probe.LANES, layer: str = "alive",
            folder: str | Path | None = None, say=print) -> Run:
    """Ask the VIP steadily while `fault` comes and goes, and keep what happened.

    Parameters
    ----------
    fault : a Fault, or its name.
    before, during, after : float, seconds of calm before the fault; the least time for which
        it lasts; and of calm after it was undone.
    recovery : float, seconds; how long to wait for every lane to succeed again before the
        fault is undone. If that does not come, the run says so: it is a result.
    rate, timeout, lanes, layer : see probe.vip.
    folder : where the run is kept; a new one under runs/ by default.

    Returns the Run, with the numbered rows that the primary held at the end.
    """
    heal(lab, say=say)
    fault = faults.named(lab, fault) if isinstance(fault, str) else fault
    target = fault.aim()  # may move the primary; before the probes start
    settings = run.about(lab, fault=fault.name, title=fault.title, colour=fault.colour,
                         target=target.what, rate=rate, timeout=timeout, layer=layer)
    first = _first_row(lab)
    events: list[tuple] = []
    with probe.vip(lab, lanes=lanes, rate=rate, timeout=timeout, first=first,
                   layer=layer) as probes:
        def note(kind: str, what: str = "") -> None:
            events.append((probes.now(), kind, what, fault.name))

        say(f"{fault.title}: {before:g} s of calm, then {target.what}")
        probes.watch(before)
        _remember(lab, fault)
        try:
            note("strike", target.what)
            fault.strike()
            note("struck", target.what)
            probes.watch(during)
            _recovered(probes, recovery, note)
        finally:
            # Mended even when the cell was interrupted. If this is interrupted too, the
            # journal makes the next command of this lab mend it.
            note("undo", target.what)
            say(f"{fault.title}: undoing it, and waiting until the lab is whole")
            fault.undo()
            note("undone", target.what)
            _forget(lab)
        _recovered(probes, recovery, note)
        probes.watch(after)
    folder = Path(folder or run.folder_for(RUNS, fault.name))
    try:
        rows = _rows(lab, first)
    except WaitTimeout as error:
        kept = run.make(probes.samples(), events, settings=settings).save(folder)
        raise ExperimentError(f"{error}: whether writes were lost cannot be told. The samples "
                              f"are in {_short(kept)}; see: gislab status") from None
    result = run.make(probes.samples(), events, settings=settings, rows=rows)
    kept = result.save(folder)
    say(f"{fault.title}: {len(result.samples)} questions, kept in {_short(kept)}")
    return result


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


def _recovered(probes: probe.Probes, timeout: float, note, steady: float = 1.5) -> None:
    """Wait until every lane has succeeded, and nothing else, for `steady` seconds."""
    # Questions sent less than `timeout` ago may have no answer yet, and count as not failed;
    # so the last answered ones decide, and there must be enough of them.
    enough = max(3, int(probes.rate * steady / 2))

    def ask() -> None:
        since = probes.now() - steady
        bad = [lane for lane, outcomes in probes.recent(since).items()
               if len(outcomes) < enough or set(outcomes) != {"ok"}]
        if bad:
            probes.watch(0)  # raises if the probes themselves have died
            raise NotYet(", ".join(bad))

    try:
        until(ask, what="every lane to succeed", timeout=timeout, every=0.25)
    except WaitTimeout as error:
        note("not recovered", str(error))


def _first_row(lab: Lab) -> int:
    """Have the table of writes; return a number that no row of an earlier run has reached."""
    with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
        connection.execute(TABLE)
        highest = connection.execute("select coalesce(max(id), 0) from lab.writes").fetchone()[0]
    return (highest // (2 * probe.HALF) + 1) * 2 * probe.HALF


def _rows(lab: Lab, first: int) -> list[tuple[int, int]]:
    """Read from the primary which rows of this run are there, and how many times each."""
    query = ("select id, count(*) from lab.writes where id >= %s and id < %s "
             "group by id order by id")

    def ask() -> list[tuple[int, int]]:
        try:
            with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
                return connection.execute(query, (first, first + 2 * probe.HALF)).fetchall()
        except psycopg.OperationalError as error:
            raise NotYet(str(error).strip()) from None
    return until(ask, what="the primary to tell its rows", timeout=60)


def _journal(lab: Lab) -> Path:
    return lab.home / "fault.json"


def _remember(lab: Lab, fault: Fault) -> None:
    target = fault.aim()
    _journal(lab).write_text(json.dumps({"fault": fault.name, "target": vars(target)}))


def _forget(lab: Lab) -> None:
    _journal(lab).unlink(missing_ok=True)


def _short(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
