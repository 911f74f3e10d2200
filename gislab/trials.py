"""Many runs of one fault together: medians with their uncertainty, ECDF, better or worse. Pure.

An outage that did not end is longer than any other: it counts as infinite, so that it moves the
median and the ECDF as it should, and no number is made up for it.

The interval of a median is a percentile bootstrap (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, chapter 13): the trials are drawn again, with replacement, 10,000 times. Nothing
is supposed about how outages are distributed; they have steps, since timers have. Below six
trials there is none to give: even from the least to the most of five, the true median is missed
more often than once in twenty (2 x 0.5^5 = 6 %).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import comparison, outage, phases, predict
from .run import Run, placed

ENOUGH = 6  # trials for an interval of 95 %
RESAMPLES = 10_000


@dataclass(frozen=True)
class Spread:
    """What n trials have in common; seconds. `low` to `high`: 95 % interval of the median."""

    n: int
    median: float
    low: float
    high: float
    p95: float
    least: float
    most: float
    not_recovered: int

    def __str__(self) -> str:
        if not self.n:
            return "no trial"
        if math.isinf(self.median):
            return "not recovered"
        return f"{self.median:.2f} s" + (
            "" if math.isnan(self.low) else f" ({self.low:.2f} to {_seconds(self.high)})")


def outages(runs: Iterable[Run], lane: str) -> np.ndarray:
    """Return the longest outage of a lane, or of a layer, in each run that has it; seconds."""
    found = []
    for run in runs:
        o = outage.of(run, lane) if lane in run.probes else (
            outage.layer(run, lane) if lane in outage.LAYERS else None)
        if o:
            found.append(o.outage if o.recovered else math.inf)
    return np.array(found)


def spread(values: Sequence[float], *, seed: int = 1) -> Spread:
    """Return median, its interval and the rest for a number of outages."""
    values = np.asarray(values, dtype=float)
    if not len(values):
        return Spread(0, *[math.nan] * 6, 0)
    low, high = _interval(_medians(values, seed)) if len(values) >= ENOUGH else (math.nan,) * 2
    return Spread(len(values), float(np.median(values)), low, high, quantile(values, 0.95),
                  float(values.min()), float(values.max()), int(np.isinf(values).sum()))


def quantile(values: Sequence[float], q: float) -> float:
    """Return a value that the share q of all does not exceed; always one of them."""
    return float(np.quantile(np.asarray(values, dtype=float), q, method="inverted_cdf"))


def ecdf(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths and the share of trials whose outage was no longer; it may end below 1."""
    values = np.sort(np.asarray(values, dtype=float))
    ended = values[np.isfinite(values)]
    return ended, np.arange(1, len(ended) + 1) / max(1, len(values))


@placed
def table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one line per fault and lane: trials, median and its interval, p95, the extremes."""
    lines = []
    for fault, lane, own in _lanes(runs):
        s = spread(outages(own, lane))
        lines.append({
            "fault": fault, "probe": lane, "trials": s.n, "median [s]": _seconds(s.median),
            "95 % interval [s]": "too few" if math.isnan(s.low) else
            f"{_seconds(s.low)} to {_seconds(s.high)}",
            "p95 [s]": _seconds(s.p95), "least [s]": _seconds(s.least),
            "most [s]": _seconds(s.most), "not recovered": s.not_recovered})
    return pd.DataFrame(lines)


@placed
def compare(now: Iterable[Run], before: Iterable[Run], *, seed: int = 1) -> pd.DataFrame:
    """Tell for each fault and lane of both whether its outage has become longer.

    `slower` and `faster`: the 95 % interval of the difference of the medians leaves 0 out, and
    the difference is more than the pause between two questions. `worse`: there was always an end
    before, and now there is not.
    """
    old = {(fault, lane): own for fault, lane, own in _lanes(before)}
    lines = []
    for fault, lane, own in _lanes(now):
        if (fault, lane) not in old:
            continue
        a, b = outages(old[fault, lane], lane), outages(own, lane)
        enough = min(len(a), len(b)) >= ENOUGH
        low, high = (_interval(_minus(_medians(b, seed), _medians(a, seed + 1)))
                     if enough else (math.nan,) * 2)
        difference = float(_minus(np.median(b), np.median(a)))
        lines.append({
            "fault": fault, "probe": lane, "before [s]": _seconds(np.median(a)),
            "now [s]": _seconds(np.median(b)), "difference [s]": _seconds(difference),
            "95 % interval [s]": f"{_seconds(low)} to {_seconds(high)}" if enough else "too few",
            "verdict": _verdict(a, b, difference, low, high, _pause(own, lane))})
    return pd.DataFrame(lines, columns=["fault", "probe", "before [s]", "now [s]",
                                        "difference [s]", "95 % interval [s]", "verdict"])


@placed
def inside(runs: Iterable[Run], timing: predict.Timing | None = None) -> pd.DataFrame:
    """Tell for each fault and lane how many trials were as long as predict.py says.

    A client asks only now and then: what it measures may be longer by a pause between two
    questions on either side. Lanes without a theory, or without an end in theory, are left out.
    """
    lines = []
    for fault, lane, own in _lanes(runs):
        p = predict.of(own[0], lane, timing)
        if not p.bounded:
            continue
        values = outages(own, lane)
        most = p.most + 2 * _pause(own, lane) if p.most else 0.0
        lines.append({"fault": fault, "probe": lane, "predicted": str(p), "trials": len(values),
                      "inside": int(((values >= p.least) & (values <= most)).sum()),
                      "shorter": int((values < p.least).sum()),
                      "longer": int((values > most).sum())})
    return pd.DataFrame(lines, columns=["fault", "probe", "predicted", "trials", "inside",
                                        "shorter", "longer"])


def tables(runs: list[Run], before: list[Run] = ()) -> dict[str, pd.DataFrame]:
    """Return all that there is to tell of some runs, each table by what it answers."""
    if len(runs) == 1:
        how_long = outage.table(runs)
        answers = [column for column in how_long if column.endswith("[ms]")]
        found = {"how long": how_long.drop(columns=answers),
                 "how fast": how_long[["probe", *answers]],
                 "layer by layer": outage.layers_table(runs), "of what": phases.table(runs)}
    else:
        found = {"how long": table(runs)}
    ours = all(comparison.setup(run) == comparison.OURS for run in runs)
    found |= {"as predicted": inside(runs),
              "writes": outage.writes_table(runs) if ours else comparison.table(runs)}
    if before:
        found["against the saved ones"] = compare(runs, before)
    return {name: lines for name, lines in found.items() if len(lines)}


def worse(runs: list[Run], before: list[Run] = ()) -> bool:
    """Tell whether an acknowledged write was lost, or outages have become longer than before."""
    verdicts = compare(runs, before)["verdict"].astype(str)
    return bool(verdicts.str.startswith(("slower", "worse")).any()
                or any(outage.writes(run).lost for run in runs))


def _verdict(a: np.ndarray, b: np.ndarray, difference: float, low: float, high: float,
             pause: float) -> str:
    if np.isinf(b).any() and not np.isinf(a).any():
        return "worse: not recovered"
    if math.isnan(low):
        return "too few trials"
    beyond = abs(difference) > pause + 1e-6
    if low > 0 and beyond:
        return "slower"
    if high < 0 and beyond:
        return "faster"
    return "no change seen"


def _lanes(runs: Iterable[Run]) -> list[tuple[str, str, list[Run]]]:
    """Return (fault, lane, its runs), in the order in which they first come."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        for lane in run.probes:
            found.setdefault((run.fault, lane), []).append(run)
    return [(*key, own) for key, own in found.items()]


def _pause(runs: list[Run], lane: str) -> float:
    """Return the seconds between two questions; no outage is known better."""
    rate = runs[0].settings.get("rate", 10)
    return 1 / (rate[lane] if isinstance(rate, dict) else rate)


def _medians(values: np.ndarray, seed: int) -> np.ndarray:
    source = np.random.default_rng(seed)
    return np.median(source.choice(values, (RESAMPLES, len(values))), axis=1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    return quantile(values, 0.025), quantile(values, 0.975)


def _minus(a, b):
    """Subtract; two outages without an end are alike."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(a) & np.isinf(b), 0.0, np.subtract(a, b))


def _seconds(value: float) -> str:
    return "no end" if value == math.inf else f"{value:.2f}"
