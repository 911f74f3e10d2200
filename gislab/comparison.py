"""Two set-ups under the same faults: what broke, for how long, what was lost. Pure.

Counted is what came before the fault was undone. What stands today mends itself, and in 2016 a
person mended it: how long people take, no measurement can tell, so "until mended by hand" is a
result of its own and no number.

Here a lane is *disturbed* from its last success before the first question that did not succeed,
to the first one after the last. While one of three map servers is dead and nobody notices, two
maps of three are drawn: nothing is away for long, and yet nothing is whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import geopandas
import pandas as pd

from . import history, outage
from .run import Run, placed

LANES = ("maps", "sql_read", "sql_write")  # asked of both set-ups, in the same way
STEADY = 1.0  # seconds without a failure, at the least, that a recovery takes
OURS, THEIRS = "today", "2016"


@dataclass(frozen=True)
class Cost:
    """What a fault cost a lane until it was undone; seconds, and numbers of questions."""

    disturbed: float  # 0: nobody noticed; infinite: until it was mended by hand
    failed: int  # or without an answer, from the strike on
    asked: int  # from the strike on

    @property
    def stuck(self) -> bool:
        """Tell whether it was not back by itself."""
        return math.isinf(self.disturbed)

    @property
    def share(self) -> float:
        return self.failed / self.asked if self.asked else 0.0

    def __str__(self) -> str:
        if not self.failed:
            return "not noticed"
        if self.stuck:
            return f"{self.share:.0%} failed, until mended by hand"
        return f"{self.disturbed:.1f} s"


def setup(run: Run) -> str:
    """Return which set-up a run was made on: `today` or `2016`."""
    return run.settings.get("setup") or OURS


def cost(run: Run, lane: str) -> Cost:
    """Return what the fault of a run cost one lane."""
    asked = run.samples[run.samples["probe"] == lane].sort_values("sent", kind="stable")
    strike, undo = run.at("strike"), run.at("undo")
    asked = asked[asked["sent"] < (math.inf if undo is None else undo)]
    good = asked[asked["outcome"] == "ok"]
    since = asked if strike is None else asked[
        (asked["sent"] >= strike) | (asked["sent"] + asked["took"] >= strike)]
    bad = since[since["outcome"] != "ok"]["sent"]
    if bad.empty:
        return Cost(0.0, 0, len(since))
    failed = len(bad)
    arrived = good["sent"] + good["took"]
    begin = arrived[arrived <= bad.min()].max()
    end = arrived[good["sent"] > bad.max()].min()
    if math.isnan(end) or asked["sent"].max() - bad.max() < STEADY:
        return Cost(math.inf, failed, len(since))
    return Cost(float(end - (bad.min() if math.isnan(begin) else begin)), failed, len(since))


def lanes(runs: Iterable[Run]) -> list[str]:
    """Return the lanes that every run has, in the order of LANES."""
    runs = list(runs)
    return [lane for lane in LANES if all(lane in run.probes for run in runs)]


@placed
def table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one line per fault and set-up: what broke, for how long, what became of the writes.

    Of several trials the lane's worst is told. `lost`: acknowledged, and on no server afterwards.
    `on one server only`: acknowledged, and whom a reader asks decides whether it is there.
    """
    runs = list(runs)
    lines = []
    for (fault, which), own in _by_fault_and_setup(runs).items():
        verdicts = [outage.writes(run) for run in own]
        known = all(verdict.readings for verdict in verdicts)
        lines.append({
            "fault": own[0].settings.get("title") or fault, "set-up": which, "trials": len(own),
            **{lane: str(max((cost(run, lane) for run in own),
                             key=lambda c: (c.disturbed, c.failed))) for lane in lanes(runs)},
            "acknowledged": sum(v.acknowledged for v in verdicts),
            "lost": sum(len(v.gone) for v in verdicts) if known else "not known",
            "on one server only": sum(len(v.torn) for v in verdicts) if known else "not known"})
    return pd.DataFrame(lines)


def places(runs: Iterable[Run]) -> geopandas.GeoDataFrame:
    """Return the points of all acknowledged writes that are not on every server, for worldmap.

    `what` is `lost` (on no server) or `on one server only`; rows that are doubled or unexpected
    are told as history.places does.
    """
    frames = []
    for run in runs:
        attempts = history.attempts(run.samples)
        verdict = history.check(attempts, run.rows)
        torn = set(verdict.torn)
        found = history.places(verdict, attempts)
        frames.append(found.assign(what=[
            "on one server only" if what == "lost" and row in torn else what
            for row, what in zip(found["id"], found["what"], strict=True)]))
    if not frames:
        raise ValueError("no run to look at: measure one, or load some with run.load_all(folder)")
    return geopandas.GeoDataFrame(pd.concat(frames, ignore_index=True), crs=history.CRS)


def pair(runs: Iterable[Run]) -> dict[str, dict[str, list[Run]]]:
    """Return fault -> set-up -> its runs, in the order in which they first come."""
    found: dict[str, dict[str, list[Run]]] = {}
    for (fault, which), own in _by_fault_and_setup(runs).items():
        found.setdefault(fault, {})[which] = own
    return found


def _by_fault_and_setup(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return (fault, set-up) -> runs; the faults as they first come, ours before 2016's."""
    runs = list(runs)
    faults = list(dict.fromkeys(run.fault for run in runs))
    found: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (faults.index(run.fault), setup(run) != OURS)):
        found.setdefault((run.fault, setup(run)), []).append(run)
    return found
