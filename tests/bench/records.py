"""What each trial of `make bench-failover` gave, of the Runs that were kept. Pure.

A record is one line (row, what, setup, trial, value, failed, asked). A trial that did not recover
has the value infinity, as in gislab.trials.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from gislab import holders, outage, run
from gislab.run import Run

from . import maps

OURS = "ours"
COLUMNS = ["row", "what", "setup", "trial", "value", "failed", "asked"]
FAULTS = {"primary_killed": (2, "primary's postmaster killed: no write"),
          "power_cut": (3, "power cut of VIP and primary: no write"),
          "switchover": (4, "planned switchover: no write")}
VIP = (1, "holder loses power: nothing at the VIP")
BUSY = (1, "every processor busy: false takeovers")
KILLED, SLOWER = (5, "map server killed: failed maps"), (5, "map server killed: p99 by calm p99")
SCALED = (6, "map server added and removed: failed maps")
COST = "cost of the way through VIP and HAProxy"


def of_vip(runs: Mapping[int, Run]) -> list[tuple]:
    """Return the records of row 1: what was asked until the power was to come back."""
    records = []
    for trial, one in runs.items():
        # what a Pi does to a busy machine while it boots is no matter of adverts
        asked = one.samples[one.samples["sent"] < (one.at("undo") or math.inf)]
        until = run.make(asked, one.events, settings=one.settings)
        for lane in until.probes:
            o = outage.of(until, lane)
            records.append((*VIP, lane, trial, o.outage if o.recovered else math.inf, 0, o.asked))
    return records


def of_busy(runs: Mapping[int, Run]) -> list[tuple]:
    """Return how often VIP and primary changed hands while the processors were busy."""
    records = []
    for trial, one in runs.items():
        spans = holders.spans(one)
        if not {"vip", "primary"} <= set(spans):
            continue  # nobody said who held them
        # a Pi that was not heard for a while has two spans, and took nothing over
        moved = sum(len(list(itertools.groupby(span.who for span in spans[row]))) - 1
                    for row in ("vip", "primary"))
        records.append((*BUSY, OURS, trial, moved, 0, 0))
    return records


def of_database(found: pd.DataFrame, setups: Mapping[str, str]) -> list[tuple]:
    """Return the records of rows 2 to 4, of bench_database.results().

    Parameters
    ----------
    setups : which of its set-ups are shown, and how they are called.
    """
    found = found[(found["lane"] == "write_primary") & found["fault"].isin(FAULTS)
                  & found["setup"].isin(setups)]
    return [(*FAULTS[line.fault], setups[line.setup], line.trial,
             line.outage if line.recovered else math.inf,
             line.acknowledged if math.isnan(line.lost) else line.lost, line.acknowledged)
            for line in found.itertuples()]


def of_killed(runs: Mapping[int, Run]) -> list[tuple]:
    """Return the records of row 5."""
    records = _failures(KILLED, runs)
    for trial, one in runs.items():
        for lane in one.probes:
            o = outage.of(one, lane)
            records.append((*SLOWER, lane, trial, o.p99_during / o.p99_before, 0, 0))
    return records


def of_scaled(runs: Mapping[int, Run]) -> list[tuple]:
    """Return the records of row 6."""
    return _failures(SCALED, runs)


def of_way(runs: Mapping[int, Run]) -> list[tuple]:
    """Return the records of row 9: medians of the trials, in ms, and what the way adds, in %."""
    records = []
    for trial, one in runs.items():
        median = 1000 * one.samples.groupby("probe")["took"].median()
        for size in maps.SIZES:
            through, direct = median[f"{maps.OURS} {size}"], median[f"{maps.DIRECT} {size}"]
            what = f"a map of {size} pixels"
            records += [(9, what, OURS, trial, through, 0, 0),
                        (9, what, maps.DIRECT, trial, direct, 0, 0),
                        (9, f"{COST}, {size} pixels", OURS, trial,
                         100 * (through - direct) / direct, 0, 0)]
    return records


def _failures(row: tuple[int, str], runs: Mapping[int, Run]) -> list[tuple]:
    records = []
    for trial, one in runs.items():
        for lane in one.probes:
            o = outage.of(one, lane)
            failed = o.failed + o.unknown
            records.append((*row, lane, trial, failed, failed, o.asked))
    return records
