"""Torture the database: random faults by a seed, while writers never stop; then count.

    torture.inflict(lab, seconds=1800, seed=1)         # gislab torture --seconds 1800 --seed 1

The same seed gives the same sequence of faults, and so replays what was found. How long each one
takes to heal is not in its hands, so a slower machine comes less far in the same time.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from . import cluster, experiment, faults, outage, postgis, probe, redaction, run, toll, watch
from .history import Verdict
from .run import Run
from .settings import PROJECT, Lab
from .shell import CommandFailed
from .wait import NotYet, WaitTimeout

REPORTS = PROJECT / "reports"
CALM = (3.0, 8.0)  # seconds between a lab that is whole again and the next fault
REST = 3.0  # seconds of writing after the last of all
# fault -> how many seconds it lasts, from and to
HOLDS = {
    "switchover": (1, 3), "primary_killed": (3, 8), "primary_container_killed": (3, 8),
    "primary_frozen": (10, 40), "primary_paused": (5, 25), "power_cut": (5, 20),
    "pi_power_cut": (5, 20), "primary_and_standby_dark": (5, 15), "unplugged": (5, 20),
    "primary_cut_off": (5, 25), "primary_deaf": (5, 25), "primary_mute": (5, 25),
    "link_cut": (5, 20), "ring_cut": (5, 15), "consul_leader_lost": (3, 10),
    "consul_majority_lost": (5, 20), "haproxy_killed": (1, 3), "keepalived_killed": (1, 3),
}
INTERRUPTED = "interrupted"
QUICK = ("primary_killed", "primary_cut_off", "consul_majority_lost", "primary_paused")


@dataclass(frozen=True)
class Step:
    """One fault of the sequence: after `calm` seconds it lasts for `hold` seconds."""

    fault: str
    calm: float
    hold: float
    pick: int  # which one, where a fault leaves that open


@dataclass(frozen=True)
class Ordeal:
    """What was done and what came of it. `safe` is the promise; `recovered` is another one."""

    run: Run
    verdict: Verdict
    folder: Path

    @property
    def safe(self) -> bool:
        """Tell whether writes were acknowledged, by one primary at a time, and each is on every
        member, once.
        """
        return not self.complaints

    @property
    def recovered(self) -> bool:
        """Tell whether the lab was whole again after each fault, in time."""
        return "not recovered" not in set(self.run.events["kind"])

    @property
    def interrupted(self) -> bool:
        return self.run.settings["ended"] == INTERRUPTED

    @property
    def complaints(self) -> list[str]:
        """Say what is wrong with the writes, each in a line; nothing is what one hopes for."""
        return toll.complaints(self.run, self.verdict)


def schedule(seed: int, seconds: float, names: Iterable[str] = tuple(HOLDS)) -> tuple[Step, ...]:
    """Return the faults for a time, in order: each of them once before any comes again. Pure.

    Only random() is asked: Python promises that it stays the same in later versions, and of
    shuffle and choice it does not (library reference, `random`, "Notes on Reproducibility").
    """
    source, names, steps, planned = random.Random(seed), sorted(set(names)), [], 0.0
    for name in names:
        if name not in faults.ALL:
            raise faults.FaultError(f"no fault {name!r}; there are " + ", ".join(faults.ALL))
    while names and planned < seconds:
        for name in sorted(names, key=lambda _: source.random()):
            calm, hold = _between(source, *CALM), _between(source, *HOLDS.get(name, (5, 10)))
            steps.append(Step(name, calm, hold, int(source.random() * 1000)))
            planned += calm + hold
    return tuple(steps)


def inflict(lab: Lab, *, seconds: float = 1800, seed: int = 1, names: Iterable[str] = tuple(HOLDS),
            rate: float = 5, timeout: float = 2, folder: str | Path | None = None,
            say: Callable[[str], None] = print) -> Ordeal:
    """Break the lab again and again for `seconds`, writing all the time; report what is lost.

    After each fault it waits until the lab is whole. If that does not come, it is a result; the
    fault is undone once more, and if the lab is not whole then either, the sequence ends there.
    Ctrl-C undoes the fault of the moment, and the report tells what was found so far.

    Parameters
    ----------
    names : the faults to choose from; see faults.ALL.
    rate, timeout : see probe.writers; writes per second of each worker, seconds to wait.
    folder : where the report goes; a new one under reports/ by default.
    """
    steps = schedule(seed, seconds, names)
    experiment.heal(lab, say=say)
    cluster.ready(lab, say=None)
    first = experiment.first_row(lab)
    made = [faults.named(lab, name) for name in sorted(set(names))]
    settings = run.about(lab, fault="torture", title=f"torture with seed {seed}", seed=seed,
                         seconds=seconds, rate=rate, timeout=timeout,
                         titles={fault.name: fault.title for fault in made},
                         colours={fault.name: fault.colour for fault in made},
                         steps=[vars(step) for step in steps])
    events: list[tuple] = []
    say(f"torture: seed {seed}, {seconds:g} s, of {len(made)} faults; the lab is whole")
    with watch.Watch(lab) as watched, probe.writers(lab, rate=rate, timeout=timeout,
                                                    first=first) as probes:
        try:
            for number, step in enumerate(steps, 1):
                if probes.now() >= seconds:
                    break
                _one(lab, step, probes, events, lambda text, n=number: say(f"{n}. {text}"))
            probes.watch(REST)
            settings["ended"] = "the time was up"
        except KeyboardInterrupt:
            settings["ended"] = INTERRUPTED
        except (WaitTimeout, NotYet) as error:
            settings["ended"] = f"the lab did not become whole: {error}"
        say(f"torture: {settings['ended']}; reading what each member holds")
    rows = _read(lab, first, first + len(probes.lanes) * probe.HALF, settings)
    made = run.make(probes.samples(), events, settings=settings, rows=rows,
                    system=watched.seen(probes.began))
    return _report(lab, made, Path(folder or _folder(seed)), say)


def _one(lab: Lab, step: Step, probes: probe.Probes, events: list, say) -> None:
    """Make one fault and wait until the lab is whole; WaitTimeout if it never is."""
    def note(kind: str, what: str = "") -> None:
        events.append((probes.now(), kind, what, step.fault))

    choice = {"pick": step.pick} if step.fault in faults.OPEN else {}
    fault = faults.named(lab, step.fault, **choice)
    probes.watch(step.calm)
    try:
        target = fault.aim()
    except (faults.FaultError, CommandFailed, NotYet, WaitTimeout) as error:
        note("not made", str(error))  # a role was not where it was to be: no verdict on the lab
        say(f"{fault.title}: not made ({error})")
        cluster.ready(lab, say=None)
        return
    say(f"{fault.title}: {target.what}, for {step.hold:.0f} s")
    try:
        with experiment.broken(lab, fault, note, say=lambda text: None):
            probes.watch(step.hold)
    except WaitTimeout as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # that came first; the journal holds the fault
        note("not recovered", str(error))
        say(f"{fault.title}: NOT RECOVERED: {error}; undoing it once more")
        experiment.heal(lab, say=say)
        note("undone", "at the second attempt")
    except (CommandFailed, experiment.AtWork) as error:  # broken() has undone what there was
        note("not made", str(error))
        say(f"{fault.title}: not made ({error})")
        return
    experiment.recovered(probes, 60, note)
    say(f"{fault.title}: whole again")


def _read(lab: Lab, first: int, end: int, settings: dict) -> list[tuple]:
    """Read what each member holds; if that cannot be, at least the primary, and note why."""
    try:
        rows = experiment.final_reads(lab, first, end, timeout=120)
        settings["hashes"] = postgis.content_hash(lab, "lab.writes")
    except (WaitTimeout, LookupError, CommandFailed, KeyboardInterrupt) as error:
        settings["unread"] = str(error) or type(error).__name__
    else:
        return rows
    try:
        return experiment.final_reads(lab, first, end, timeout=30, replicas=False)
    except (WaitTimeout, CommandFailed, KeyboardInterrupt):
        return []


def _report(lab: Lab, made: Run, folder: Path, say) -> Ordeal:
    """Write the folder of the report: the Run, verdict.json and index.html."""
    ordeal = Ordeal(made, outage.writes(made), folder)
    made.save(folder)
    (folder / "verdict.json").write_text(
        json.dumps(toll.summary(made, ordeal.verdict), indent=2) + "\n")
    html, leaked = redaction.redact(toll.page(made, ordeal.verdict), redaction.secrets(lab))
    (folder / "index.html").write_text(html, encoding="utf-8")
    verdict = ordeal.verdict
    say(f"torture: {verdict.acknowledged} acknowledged writes, {len(verdict.lost)} lost, "
        f"{len(verdict.unexpected)} unexpected, {len(verdict.doubled)} doubled, "
        f"{len(verdict.forked)} by a former primary; read from {len(verdict.readings)} members")
    say(f"torture: {toll.primaries(made)}")
    for complaint in ordeal.complaints:
        say(f"torture: FAILED: {complaint}")
    say(f"torture: to replay: make torture SECONDS={made.settings['seconds']:g} "
        f"SEED={made.settings['seed']}")
    say(f"report: {folder / 'index.html'}")
    return ordeal


def _folder(seed: int) -> Path:
    return REPORTS / f"torture-{time.strftime('%Y%m%d-%H%M%S')}-seed{seed}"


def _between(source: random.Random, least: float, most: float) -> float:
    return round(least + (most - least) * source.random(), 1)
