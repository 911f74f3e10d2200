"""Two set-ups side by side: what the same fault cost each of them, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .. import comparison
from ..run import Run, places
from .picture import LABELS, Picture, title, wrap

# set-up -> colour, hatching, and how a reader calls it
LOOKS = {comparison.OURS: ("#0072B2", "", "today"),
         comparison.THEIRS: ("#E69F00", "///", "the set-up of 2016")}


def beside(runs: Iterable[Run]) -> Picture:
    """Draw for each fault and lane how long it was disturbed, on either set-up.

    A bar is the median of the trials, its line reaches from the least to the most, and each ring
    is a trial. A dashed bar without an end: it was mended by hand.
    """
    runs = list(runs)
    ours = [run for run in runs if comparison.setup(run) == comparison.OURS]
    where = places(ours or runs)
    faults, lanes = comparison.pair(runs), comparison.lanes(runs)
    rows = [(fault, lane, which, [comparison.cost(run, lane) for run in own])
            for fault, setups in faults.items() for lane in lanes for which, own in setups.items()]
    ended = [c.disturbed for *_, costs in rows for c in costs if math.isfinite(c.disturbed)]
    right = max([1.0, *ended]) * 1.1
    figure = Picture(figsize=(10, 2.1 + 0.23 * len(rows) + 0.35 * len(faults)))
    axis = figure.subplots()
    ticks, told, y, last = {}, [], 0.0, (None, None)
    for fault, lane, which, costs in rows:
        y += 1.0 + (0.35 if lane != last[1] else 0) + (1.3 if fault != last[0] else 0)
        if fault != last[0]:
            axis.annotate(title(faults[fault][which][0]), (0, y - 1.0), xytext=(3, 0),
                          textcoords="offset points", va="center", fontsize=9, weight="bold")
        last = (fault, lane)
        ticks.setdefault((fault, lane), []).append(y)
        said = _bar(axis, y, which, costs, right)
        told.append(f"{title(faults[fault][which][0])}, {_name(lane)}, {LOOKS[which][2]}: {said}")
    axis.set_yticks([float(np.mean(at)) for at in ticks.values()],
                    [_name(lane) for _, lane in ticks])
    axis.set_ylim(y + 0.9, 0.9)
    axis.set_xlim(0, right * 1.45)  # room for the words beside the longest bar
    axis.set_xticks([t for t in axis.get_xticks() if t <= right * 1.06])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#E5E5E5", zorder=0)
    axis.set_axisbelow(True)
    axis.set_xlabel("seconds from the last success before the first failure "
                    "to the first one after the last")
    keys = [Patch(facecolor=colour, hatch=hatch, edgecolor="black", lw=0.6, label=name)
            for colour, hatch, name in LOOKS.values()]
    keys += [Line2D([], [], color="black", lw=1.3, marker="|", ms=7, label="least to most"),
             Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=5, label="a trial"),
             Patch(facecolor="white", edgecolor="black", ls="--", label="until mended by hand")]
    caption = ("Counted until the fault was undone; the share is of the questions asked from the "
               "strike until then.")
    figure.legend(handles=keys, loc="outside lower center", ncols=5, frameon=False, fontsize=9,
                  title=wrap(caption, 110), title_fontsize=9)
    head = "The same faults, today and in the set-up of 2016"
    figure.suptitle(f"{head}\n{where}", fontsize=11)
    figure.alt = f"{head}; {where}. {'; '.join(told)}. {caption}"
    return figure


def _bar(axis, y: float, which: str, costs: list[comparison.Cost], right: float) -> str:
    """Draw one bar with its trials; return what is written beside it."""
    colour, hatch, _ = LOOKS[which]
    values = np.array([c.disturbed for c in costs])
    ended, middle = values[np.isfinite(values)], float(np.median(values))
    open_ = math.isinf(middle)
    axis.barh(y, right if open_ else middle, 0.86, color="white" if open_ else colour,
              hatch=hatch, edgecolor=colour if open_ else "black", ls="--" if open_ else "-",
              lw=1.2 if open_ else 0.6, zorder=2)
    edge = right if open_ else middle
    if len(values) > 1 and len(ended):
        axis.plot([ended.min(), ended.max()], [y, y], color="black", lw=1.3, marker="|", ms=7,
                  zorder=3)
        axis.plot(ended, [y] * len(ended), "o", mfc="white", mec="black", ms=4, zorder=4,
                  clip_on=False)
        edge = max(edge, float(ended.max()))
    share = sum(c.failed for c in costs) / max(1, sum(c.asked for c in costs))
    if not any(c.failed for c in costs):
        said = "not noticed"
    elif open_:
        said = f"{share:.0%} failed, until mended by hand"
    else:
        said = f"{middle:.1f} s"
    lost = len(values) - len(ended)
    if lost and not open_:
        said += f"; {lost} of {len(values)} until mended by hand"
    axis.annotate(said, (edge, y), xytext=(6, 0), textcoords="offset points", va="center",
                  fontsize=8)
    return said


def _name(lane: str) -> str:
    return LABELS.get(lane, lane).replace("\n", " ")
