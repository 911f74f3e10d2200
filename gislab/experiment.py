"""Probes and a fault on one clock: the one place where measuring and breaking meet."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from . import cluster, faults, faults2016, journal, outage, probe, run, setup2016, stack, watch
from .faults import Fault
from .journal import AtWork
from .reads import TABLE, final_reads, first_row
from .run import RUNS, Run
from .settings import PROJECT, Lab
from .wait import NotYet, WaitTimeout, until


class ExperimentError(RuntimeError):
    """A measurement did not come to its end; the text says what is kept, and what to do."""


__all__ = ["RUNS", "TABLE", "AtWork", "ExperimentError", "alone", "broken", "final_reads",
           "first_row", "heal", "measure", "recovered", "repeat"]
# what the trials of one series have in common
ALIKE = ("lab", "kind", "map_server", "images", "rate", "timeout", "layer", "lanes", "recovery",
         "during", "setup", "title")


def measure(lab: Lab, fault: Fault | str, *, before: float = 5, during: float = 3,
            after: float = 5, recovery: float = 60,
            rate: float | Mapping[str, float] = 10, timeout: float | Mapping[str, float] = 2,
            lanes: tuple[str, ...] = probe.LANES, layer: str = "alive",
            about: dict | None = None, folder: str | Path | None = None, say=print) -> Run:
    """Ask the VIP steadily while `fault` comes and goes, and keep what happened.

    Parameters
    ----------
    fault : a Fault, or its name. While the set-up of 2016 stands, it is that one's.
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
    alone(lab)
    fault = _named(lab, fault) if isinstance(fault, str) else fault
    there = setup2016 if fault.setup else None
    lanes = tuple(lane for lane in lanes if lane in there.LANES) if there else lanes
    target = fault.aim()  # may move the primary; before the probes start
    settings = run.about(lab, fault=fault.name, title=fault.title, colour=fault.colour,
                         target=target.what, rate=rate, timeout=timeout, layer=layer,
                         lanes=list(lanes), before=before, during=during, after=after,
                         recovery=recovery, images=stack.digests(lab), **(about or {}),
                         **({"setup": fault.setup, "map_server": there.MAPS} if there else {}))
    first = (there.first_row if there else first_row)(lab)
    events: list[tuple] = []
    with watch.Watch(lab) as watched, probe.vip(lab, lanes=lanes, rate=rate, timeout=timeout,
                                                first=first, layer=layer,
                                                warm=probe.WARM) as probes:
        def note(kind: str, what: str = "") -> None:
            events.append((probes.now(), kind, what, fault.name))

        say(f"{fault.title}: {before:.0f} s of calm, then {target.what}")
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
        rows = (there.final_reads if there else final_reads)(lab, first, first + 2 * probe.HALF)
    except WaitTimeout as error:
        raise ExperimentError(f"{error}: whether writes were lost cannot be told. The samples are "
                              f"in {_short(result.save(folder))}; see: gislab status") from None
    result = dataclasses.replace(result, rows=run.rows(rows))
    kept = result.save(folder)
    say(f"{fault.title}: {len(result.samples)} questions, kept in {_short(kept)}")
    return result


def repeat(lab: Lab, fault: str | Callable[[Lab], Fault], n: int, *, before: float = 5,
           settle: float = 5, seed: int = 1, folder: str | Path | None = None, say=print,
           **how) -> list[Run]:
    """Measure a fault `n` times, each time in a lab that is whole and has settled.

    Every trial is kept as soon as it is done. After an interrupt the same call with the same
    folder goes on: what is there is not measured again.

    Parameters
    ----------
    fault : a fault's name, or what makes one for a lab. Of one that leaves open which Pi it
        strikes (faults.OPEN), each trial strikes the next.
    before : float, seconds of calm; up to one more is added, by `seed`, so that the trials strike
        at different moments of the parts' timers.
    settle : float, seconds between a lab that is whole and the next trial; it must be whole
        after them, too.
    folder : where the trials are kept, as 001, 002, ...; a new one under runs/ by default.
    how : as for `measure`.
    """
    def make(number: int) -> Fault:
        if callable(fault):
            return fault(lab)
        return _named(lab, fault, **({"pick": number - 1} if fault in faults.OPEN else {}))
    name = make(1).name
    folder = Path(folder or run.folder_for(RUNS, f"{name}-trials"))
    done: list[Run] = []
    try:
        for number in range(1, n + 1):
            kept = folder / f"{number:03d}"
            if not (kept / "run.json").exists():
                heal(lab, say=say)
                _fresh(lab, settle)
                say(f"trial {number} of {n}")
                calm = before + random.Random(1000 * seed + number).random()
                try:
                    measure(lab, make(number), before=calm, folder=kept, say=say,
                            about={"seed": seed, "trial": number}, **how)
                except ExperimentError as error:
                    say(f"trial {number}: {error}")  # it is kept, and a result
            done.append(run.load(kept))
            if done[-1].fault != name:
                raise ExperimentError(f"{kept} is a run of {done[-1].fault}, not of {name}; take "
                                      "another folder")
            unlike = [key for key in ALIKE
                      if done[-1].settings.get(key) != done[0].settings.get(key)]
            if unlike:
                raise ExperimentError(f"{kept} was not measured as the first trial was: other "
                                      f"{', '.join(unlike)}; take another folder")
            longest = max((o.outage for o in _outages(done[-1]) if o.recovered), default=0)
            say(f"trial {number} of {n}: {longest:.2f} s on the worst lane")
    finally:
        say(f"{name}: {len(done)} of {n} trials are kept in {_short(folder)}"
            + ("" if len(done) == n else "; with that folder it goes on from there"))
    return done


def broken(lab: Lab, fault: Fault, note: Callable[[str, str], None], say=print
           ) -> AbstractContextManager[faults.Target]:
    """Have `fault` strike for the length of the block, and undo it at its end.

    Parameters
    ----------
    note : told each event of run.Run.events: its kind, and what is struck.

    Raises
    ------
    AtWork : another program breaks the lab at this moment; nothing was struck.
    """
    def told(kind: str, what: str) -> None:
        note(kind, what)
        if kind == "undo":
            say(f"{fault.title}: undoing it, and waiting until the lab is whole")
    return fault.broken(told)


def alone(lab: Lab) -> None:
    """Raise AtWork if another program breaks, or mends, the lab at this moment."""
    with journal.claimed(lab):
        pass


def heal(lab: Lab, say=print) -> str | None:
    """Undo the fault that a killed driver left behind; return its name, or None.

    The set-up of 2016, if that was left behind, is replaced by ours.

    A fault whose driver lives is left to it. Called first by every measurement, and by the
    commands of the shell.
    """
    if setup2016.heal(lab, say=say):  # whatever was broken in it is gone with it
        left = journal.left(lab)
        journal.forget(lab)
        return left.get("fault")
    if not journal.left(lab):
        return None
    try:
        with journal.claimed(lab):
            return _undo(lab, say)
    except AtWork as error:
        say(str(error))
        return None


def recovered(probes: probe.Probes, timeout: float, note, steady: float = 1.5) -> None:
    """Wait until every lane has succeeded, and nothing else, for `steady` seconds.

    That it has not within `timeout` seconds is noted as an event, and is a result.
    """
    try:
        probes.steady(steady, timeout=timeout)
    except WaitTimeout as error:
        note("not recovered", str(error))


def _named(lab: Lab, name: str, **choice: int) -> Fault:
    if setup2016.stands(lab):
        return faults2016.named(lab, name)  # none of them leaves anything open
    return faults.named(lab, name, **choice)


def _fresh(lab: Lab, settle: float) -> None:
    """Wait until the lab is whole, and is so still after `settle` seconds."""
    ready = (setup2016 if setup2016.stands(lab) else cluster).ready
    ready(lab, say=None, timeout=300)
    end = time.monotonic() + settle

    def ask() -> None:
        if time.monotonic() < end:
            raise NotYet(f"it has {settle:g} s")
    until(ask, what="the lab to settle", timeout=settle + 10, every=min(0.5, settle))
    ready(lab, say=None, timeout=300)


def _outages(made: Run) -> list[outage.Outage]:
    return [outage.of(made, probe) for probe in made.probes]


def _undo(lab: Lab, say) -> str | None:
    left = journal.left(lab)  # its driver may have undone it since
    if not left:
        return None
    if left.get("setup") and not setup2016.stands(lab):  # ours was put back meanwhile
        say(f"{left['fault']}: was left behind in the set-up of 2016, which is gone")
        setup2016.lights_on(lab, say=say)
        journal.forget(lab)
        return left["fault"]
    fault = (faults2016 if left.get("setup") else faults).named(lab, left["fault"])
    fault.target = faults.Target(**left["target"])
    say(f"{fault.title}: was left behind on {fault.target.node}; undoing it")
    fault.undo()
    journal.forget(lab)
    return fault.name


def _short(path: Path) -> Path:
    return path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path
