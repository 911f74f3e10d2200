"""What the records of `make bench-failover` come to: a table with verdicts, a figure. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gislab import trials
from gislab.plot import FILLS, Picture

from . import doors, maps
from .records import (
    BUSY,
    COLUMNS,
    COST,
    FAULTS,
    KILLED,
    OURS,
    SCALED,
    SLOWER,
    VIP,
)

ENOUGH, REQUESTS = 20, 10_000  # trials, and maps in rows 5 and 6, that a verdict is made of
NAMES = {doors.WITHOUT_RETRIES: "HAProxy without retries",
         doors.OF_2016: "HAProxy of 2016, stopped and started", maps.DIRECT: "straight to it"}
SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100)  # ticks; what is shorter stands at the first
PAIRED = (1, 5, 6, 9)  # ours and its peer were struck by the same blow, or asked in turn


@dataclass(frozen=True)
class Goal:
    """A target: its text, the unit of its values, and whether lines of the table reach it.

    `reached` is given our line, and the peers' by set-up. `enough` trials make a verdict. With
    `each` there is no peer: every set-up is one of ours, and judged.
    """

    text: str
    unit: str
    reached: Callable[[Mapping, Mapping[str, Mapping]], bool] = lambda own, peers: True
    enough: int = ENOUGH
    each: bool = False


def _most(median: float, p95: float) -> Callable:
    return lambda own, peers: (own["median"] <= median and own["p95"] <= p95
                               and not own["failed"])


GOALS = {
    VIP: Goal("p95 at most 0.5 s, ten times quicker than adverts of 1 s", "s",
              lambda own, peers: own["p95"] <= 0.5 and any(
                  p["times"] >= 10 for name, p in peers.items() if name == "advert 1 s")),
    BUSY: Goal("0 of VIP and primary", "", lambda own, peers: own["most"] == 0),
    FAULTS["primary_killed"]: Goal("median 1 s, p95 2 s, none lost", "s", _most(1, 2)),
    FAULTS["power_cut"]: Goal("median 3 s, p95 5 s, none lost", "s", _most(3, 5)),
    FAULTS["switchover"]: Goal("p95 at most 0.5 s", "s", _most(math.inf, 0.5)),
    KILLED: Goal("0 failed of 10,000", "", lambda own, peers: not own["failed"]),
    SLOWER: Goal("at most twice (median of the trials)", "times",
                 lambda own, peers: own["median"] <= 2),
    SCALED: Goal("0 failed of 10,000", "", lambda own, peers: not own["failed"]),
    **{(9, f"a map of {size} pixels"): Goal("", "ms") for size in maps.SIZES},
    **{(9, f"{COST}, {size} pixels"): Goal("at most 2 % of the map (median)", "%",
                                           lambda own, peers: own["median"] <= 2)
       for size in maps.SIZES},
}


def lines(records: list[tuple]) -> list[dict]:
    """Return one line for each row, what and set-up, ours first, with its ratio to ours."""
    table = pd.DataFrame(records, columns=COLUMNS)
    found = []
    for (row, what), group in table.groupby(["row", "what"], sort=False):
        by_setup = {name: own.set_index("trial")["value"].astype(float)
                    for name, own in group.groupby("setup", sort=False)}
        for name in sorted(by_setup, key=lambda name: name != OURS):
            own = group[group["setup"] == name]
            found.append({"row": row, "what": what, "setup": name,
                          **vars(trials.spread(by_setup[name])),
                          "times": ratio(by_setup[name], by_setup.get(OURS), row in PAIRED),
                          "failed": int(own["failed"].sum()), "asked": int(own["asked"].sum())})
    return sorted(found, key=lambda line: line["row"])


def ratio(values: pd.Series, ours: pd.Series | None, paired: bool) -> float:
    """Return how many times as long as ours it was; NaN where nothing can be said.

    Parameters
    ----------
    paired : the median of the ratios, trial by trial, instead of the ratio of the medians.
    """
    if ours is None or not len(ours):
        return math.nan
    a, b = (values, ours) if paired else (pd.Series([values.median()]), pd.Series([ours.median()]))
    a, b = a.align(b, join="inner")
    with np.errstate(divide="ignore", invalid="ignore"):
        each = (a / b).where((b > 0) & np.isfinite(b))
    return float(each.median()) if each.notna().any() else math.nan


def verdict(line: Mapping, found: list[dict], goals: Mapping = GOALS) -> str:
    """Say of a line of ours whether its target was reached, and if it has too few trials."""
    goal = goals[line["row"], line["what"]]
    if not (line["setup"] == OURS or goal.each) or not goal.text:
        return ""
    peers = {other["setup"]: other for other in found if other["what"] == line["what"]
             and other["row"] == line["row"] and other["setup"] != OURS}
    few = [f"{line['n']} of {goal.enough} trials"] * (line["n"] < goal.enough)
    if line["row"] in (5, 6) and not goal.unit:
        few += [f"{line['asked']:,} of {REQUESTS:,} maps"] * (line["asked"] < REQUESTS)
    return ("yes" if goal.reached(line, peers) else "no") + "".join(f", {text}" for text in few)


def table(records: list[tuple], goals: Mapping = GOALS) -> pd.DataFrame:
    """Return the table for a reader."""
    found = lines(records)
    shown = []
    for line in found:
        goal = goals[line["row"], line["what"]]
        own = line["setup"] == OURS or goal.each
        of = {2: " writes lost", 3: " writes lost", 4: " writes lost"}.get(line["row"], "")
        counted = line["asked"] and line["row"] != 1
        shown.append({
            "row": line["row"], "what": line["what"],
            "set-up": called(line["row"], line["setup"]), "trials": line["n"],
            **{name: amount(line[name], goal.unit) for name in ("median", "p95", "least", "most")},
            "times ours": "" if own or math.isnan(line["times"]) else amount(line["times"], ""),
            "failed": f"{line['failed']:,} of {line['asked']:,}{of}" if counted else "",
            "target": goal.text if own else "", "reached": verdict(line, found, goals)})
    return pd.DataFrame(shown)


def called(row: int, setup: str) -> str:
    """Return what a reader calls a set-up."""
    return "through the VIP" if (row, setup) == (9, OURS) else NAMES.get(setup, setup)


def amount(value: float, unit: str) -> str:
    """Return a number as a reader takes it in: two digits behind the point, or three in all."""
    if math.isinf(value):
        return "no end"
    if math.isnan(value):
        return "-"
    text = f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.2f}"
    return f"{text} {unit}".strip()


def figure(records: list[tuple], where: str, goals: Mapping = GOALS) -> Picture:
    """Draw every trial, one panel for each line of targets; told apart by place and marker."""
    found = pd.DataFrame(records, columns=COLUMNS).sort_values("row", kind="stable")
    found = found[found["what"] != BUSY[1]]  # one number
    panels = list(found.groupby(["row", "what"], sort=False))
    picture = Picture(figsize=(10, 1 + 1.25 * max(1, len(panels))))
    axes = picture.subplots(max(1, len(panels)), 1, squeeze=False)[:, 0]
    for axis, ((row, what), group) in zip(axes, panels, strict=False):
        setups = sorted(dict.fromkeys(group["setup"]), key=lambda name: name != OURS)
        unit = goals[row, what].unit
        for place, name in enumerate(setups):
            values = group.loc[group["setup"] == name, "value"].astype(float)
            ended = values[np.isfinite(values)].clip(lower=SECONDS[0] if unit == "s" else None)
            # spread a little, so that equal ones can be counted
            heights = place + np.linspace(-0.18, 0.18, max(1, len(ended)))[:len(ended)]
            axis.plot(ended, heights, "os^D"[place % 4], color=FILLS[place % 5], ms=5, alpha=0.8,
                      mfc=FILLS[place % 5] if name == OURS else "none")
            if len(ended):
                axis.plot([ended.median()] * 2, [place - 0.35, place + 0.35], color="black", lw=2)
        axis.set_yticks(range(len(setups)), [textwrap.fill(called(row, name), 24)
                                             for name in setups], fontsize=8)
        axis.set_ylim(len(setups) - 0.4, -0.6)
        axis.set_title(f"{row}  {what}{f' [{unit}]' if unit else ''}", fontsize=9, loc="left")
        axis.grid(axis="x", color="#E5E5E5", lw=0.8)
        axis.tick_params(axis="x", labelsize=8)
        if unit == "s":  # all of them alike
            axis.set_xscale("log")
            axis.set_xlim(SECONDS[0] * 0.85, SECONDS[-1])
            axis.set_xticks(SECONDS, [f"{value:g}" for value in SECONDS])
            axis.xaxis.set_minor_formatter(lambda value, _: "")
    picture.supxlabel(f"each mark is a trial, each bar a median; {where}", fontsize=8)
    picture.alt = "; ".join(f"row {line['row']}, {line['what']}, {line['setup']}: median "
                            + amount(line["median"], goals[line["row"], line["what"]].unit)
                            for line in lines(records))
    return picture
