"""Judge a Run: outages, latencies, and which writes were lost. Pure; asks nobody.

An outage, as used here: the longest time from the arrival of one successful answer to the arrival
of the next, among those in which a question was sent that did not succeed. So it ends when a
client first *has* its answer; an answer that a proxy held back until the database was there again
counts when it came, not when it was asked for. At a rate of 10 per second it is known to 0.1 s.

A layer is several lanes that ask for the same thing. It is away while none of them succeeds: its
outage is a time without an answer to anybody, in which each of them asked in vain.

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
from .run import Run, placed

# layer -> the lanes that ask it; None: all. Every question comes through the address.
LAYERS = {"address": None, "maps": ("maps", "features"), "reads": ("sql_read",),
          "writes": ("sql_write", "write_primary")}


@dataclass(frozen=True)
class Outage:
    """What one lane went through. Times in seconds on the run's clock; NaN: there is none.

    Latencies are of successes, since failures and missing answers have none to compare. `before`:
    answered before the strike. `during`: asked from the strike until the fault was undone.
    `after`: asked later; or since the strike, in a run that does not say when it was undone.
    """

    probe: str
    outage: float  # the longest time without a successful answer; NaN: it did not recover
    begin: float
    end: float
    total: float  # seconds without success in all; of a lane that did not recover: at least
    recovered: bool
    asked: int
    failed: int
    unknown: int
    p50_before: float
    p99_before: float
    p50_during: float
    p99_during: float
    p50_after: float
    p99_after: float
    slowest: float


def of(run: Run, probe: str) -> Outage:
    """Return what the lane `probe` went through."""
    return _judge(run, probe, (probe,))


def layer(run: Run, name: str) -> Outage | None:
    """Return what a layer of LAYERS went through; None if the run has no lane of it."""
    lanes = [p for p in run.probes if LAYERS[name] is None or p in LAYERS[name]]
    return _judge(run, name, lanes) if lanes else None


def _judge(run: Run, name: str, probes: Iterable[str]) -> Outage:
    lane = run.samples[run.samples["probe"].isin(probes)].sort_values("sent", kind="stable")
    strike, undone = run.at("strike"), run.at("undone")
    good = lane[lane["outcome"] == "ok"]
    nothing = good.iloc[0:0]
    before = good if strike is None else good[good["sent"] + good["took"] < strike]
    since = nothing if strike is None else good[good["sent"] >= strike]
    during = nothing if undone is None else since[since["sent"] < undone]
    after = since if undone is None else since[since["sent"] >= undone]
    gaps, recovered = _gaps(lane)
    length, begin, end = (max(gaps, default=(0.0, math.nan, math.nan)) if recovered
                          else (math.nan, gaps[-1][1] if gaps else math.nan, math.nan))
    return Outage(
        name, length, begin, end, math.fsum(gap[0] for gap in gaps), recovered, asked=len(lane),
        failed=int((lane["outcome"] == "failed").sum()),
        unknown=int((lane["outcome"] == "unknown").sum()),
        p50_before=_quantile(before, 0.5), p99_before=_quantile(before, 0.99),
        p50_during=_quantile(during, 0.5), p99_during=_quantile(during, 0.99),
        p50_after=_quantile(after, 0.5), p99_after=_quantile(after, 0.99),
        slowest=float(good["took"].max()) if len(good) else math.nan)


def writes(run: Run) -> Verdict:
    """Compare the writes that were sent with the rows that each server held afterwards."""
    return history.check(history.attempts(run.samples), run.rows)


@placed
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
                "in all [s]": ("" if o.recovered else "at least ") + f"{o.total:.2f}",
                "failed": o.failed, "unknown": o.unknown, "asked": o.asked,
                **{f"{q} {when} [ms]": _ms(getattr(o, f"{q}_{when}"))
                   for q in ("p50", "p99") for when in ("before", "during", "after")},
                "slowest [ms]": _ms(o.slowest)})
    return pd.DataFrame(lines)


@placed
def layers_table(runs: Run | Iterable[Run]) -> pd.DataFrame:
    """Return one line per run and layer: longest outage, time without success in all."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    found = [(run.fault, o) for run in runs for name in LAYERS if (o := layer(run, name))]
    return pd.DataFrame([{
        "fault": fault, "layer": o.probe,
        "outage [s]": round(o.outage, 2) if o.recovered else "not recovered",
        "in all [s]": ("" if o.recovered else "at least ") + f"{o.total:.2f}",
        "failed": o.failed, "unknown": o.unknown, "asked": o.asked} for fault, o in found])


@placed
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


def _gaps(lane: pd.DataFrame) -> tuple[list[tuple[float, float, float]], bool]:
    """Return each outage as (length, begin, end), and whether the last one has ended.

    One that has not is the last of them, and ends with the last question.
    """
    if lane.empty:
        return [], False
    good = lane["outcome"] == "ok"
    # before the first success: since the first question
    arrivals = [float(lane["sent"].iloc[0]),
                *map(float, sorted((lane["sent"] + lane["took"])[good]))]
    by_probe = lane.groupby("probe")
    bad = [sorted(own["sent"][own["outcome"] != "ok"]) for _, own in by_probe]
    recovered = any(own["outcome"].iloc[-1] == "ok" for _, own in by_probe)
    if not recovered:
        arrivals.append(max(arrivals[-1], float(lane["sent"].iloc[-1])))
    gaps = [(end - begin, begin, end) for begin, end in itertools.pairwise(arrivals)
            if all(bisect.bisect_right(b, end) > bisect.bisect_left(b, begin) for b in bad)]
    return gaps, recovered


def _quantile(good: pd.DataFrame, q: float) -> float:
    return float(good["took"].quantile(q)) if len(good) else math.nan


def _ms(seconds: float) -> float:
    return seconds if math.isnan(seconds) else round(seconds * 1000, 1)
