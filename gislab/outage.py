"""Judge a Run: outages, latencies, and which writes were lost. Pure; asks nobody.

An outage, as used here: the longest time from the arrival of one successful answer to the arrival
of the next, among those in which a question was sent that did not succeed. So it ends when a
client first *has* its answer; an answer that a proxy held back until the database was there again
counts when it came, not when it was asked for. At a rate of 10 per second it is known to 0.1 s.

A lane without any failed or unknown question had no outage (0), however slow its answers were:
`slowest` tells that. A lane whose last question did not succeed did not recover: that is its own
result (`recovered` is False, `outage` is NaN), not a large number.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from . import history
from .history import Verdict
from .run import Run


@dataclass(frozen=True)
class Outage:
    """What one lane went through. Times in seconds on the run's clock; NaN: there is none."""

    probe: str
    outage: float  # the longest time without a successful answer; NaN: it did not recover
    begin: float
    end: float
    recovered: bool
    asked: int
    failed: int
    unknown: int
    p50_before: float
    p99_before: float
    p50_after: float  # of all questions that succeeded after the strike
    p99_after: float
    slowest: float


def of(run: Run, probe: str) -> Outage:
    """Return what the lane `probe` went through."""
    lane = run.samples[run.samples["probe"] == probe].sort_values("sent", kind="stable")
    strike = run.at("strike")
    good = lane[lane["outcome"] == "ok"]
    before = good if strike is None else good[good["sent"] + good["took"] < strike]
    after = good.iloc[0:0] if strike is None else good[good["sent"] >= strike]
    length, begin, end, recovered = _longest_gap(lane)
    return Outage(
        probe, length, begin, end, recovered, asked=len(lane),
        failed=int((lane["outcome"] == "failed").sum()),
        unknown=int((lane["outcome"] == "unknown").sum()),
        p50_before=_quantile(before, 0.5), p99_before=_quantile(before, 0.99),
        p50_after=_quantile(after, 0.5), p99_after=_quantile(after, 0.99),
        slowest=float(good["took"].max()) if len(good) else math.nan)


def writes(run: Run) -> Verdict:
    """Compare the writes that were sent with the rows that each server held afterwards."""
    return history.check(history.attempts(run.samples), run.rows)


def table(runs: Run | Iterable[Run]) -> pd.DataFrame:
    """Return one line per run and lane, for a reader: seconds, counts, milliseconds."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    lines = []
    for run in runs:
        for probe in run.probes:
            o = of(run, probe)
            lines.append({
                "fault": run.fault, "probe": probe,
                "outage [s]": round(o.outage, 2) if o.recovered else "not recovered",
                "failed": o.failed, "unknown": o.unknown, "asked": o.asked,
                "p50 before [ms]": _ms(o.p50_before), "p50 after [ms]": _ms(o.p50_after),
                "p99 before [ms]": _ms(o.p99_before), "p99 after [ms]": _ms(o.p99_after),
                "slowest [ms]": _ms(o.slowest)})
    return pd.DataFrame(lines)


def writes_table(runs: Run | Iterable[Run]) -> pd.DataFrame:
    """Return one line per run: how many writes were acknowledged, lost, and so on.

    A row counts as lost when it is missing on any of the servers that were read; one for each
    server tells `outage.writes(run).table()`.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    lines = []
    for run in runs:
        w = writes(run)
        lines.append({
            "fault": run.fault, "read on": len(w.readings), "acknowledged": w.acknowledged,
            "lost": len(w.lost) if w.readings else "not known",
            "unexpected": len(w.unexpected), "doubled": len(w.doubled),
            "differing": len(w.differing), "by a former primary": len(w.forked),
            "unknown, happened": len(w.happened), "unknown, did not": len(w.vanished)})
    return pd.DataFrame(lines)


def _longest_gap(lane: pd.DataFrame) -> tuple[float, float, float, bool]:
    """Return length, begin and end of the longest outage, and whether the lane recovered."""
    if lane.empty:
        return math.nan, math.nan, math.nan, False
    good = lane["outcome"] == "ok"
    arrivals = sorted((lane["sent"] + lane["took"])[good])
    bad = sorted(lane["sent"][~good])
    # before the first success: since the first question
    arrivals = [float(lane["sent"].iloc[0]), *map(float, arrivals)]
    if not good.iloc[-1]:
        return math.nan, arrivals[-1], math.nan, False
    gaps = [(end - begin, begin, end) for begin, end in itertools.pairwise(arrivals)
            if bisect.bisect_right(bad, end) > bisect.bisect_left(bad, begin)]
    return *max(gaps, default=(0.0, math.nan, math.nan)), True


def _quantile(good: pd.DataFrame, q: float) -> float:
    return float(good["took"].quantile(q)) if len(good) else math.nan


def _ms(seconds: float) -> float:
    return seconds if math.isnan(seconds) else round(seconds * 1000, 1)
