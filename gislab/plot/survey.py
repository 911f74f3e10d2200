"""Many things killed, each once: a line for each, a mark for each lane."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.lines import Line2D

from .. import comparison
from ..run import Run, places
from .picture import FILLS, LABELS, Picture, title

MARKERS = ("o", "s", "^", "D", "v")


def survey(runs: Iterable[Run]) -> Picture:
    """Draw for each run how long each lane was disturbed; at the edge: it did not come back."""
    runs = list(runs)
    lanes = list(dict.fromkeys(lane for run in runs for lane in run.probes))
    found = [{lane: comparison.cost(run, lane) for lane in run.probes} for run in runs]
    names = [run.settings.get("thing") or title(run) for run in runs]
    right = 1.15 * max([1.0, *(c.disturbed for costs in found for c in costs.values()
                               if not c.stuck)])
    figure = Picture(figsize=(10, 1.9 + 0.26 * len(runs)))
    axis = figure.subplots()
    told = []
    for y, (name, costs) in enumerate(zip(names, found, strict=True)):
        for number, (lane, cost) in enumerate(costs.items()):
            place = lanes.index(lane)
            axis.plot(right if cost.stuck else cost.disturbed,
                      y + 0.24 * (number - (len(costs) - 1) / 2), ls="",
                      marker=">" if cost.stuck else MARKERS[place % 5], ms=9 if cost.stuck else 6,
                      mfc=FILLS[place % 5] if cost.failed else "white",
                      mec="black", mew=0.8, clip_on=False, zorder=3)
        told.append(f"{name}: " + ", ".join(f"{_name(p)} {c}" for p, c in costs.items()))
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlim(-right * 0.012, right)
    axis.set_xlabel("seconds from the last success before the first failure "
                    "to the first one after the last")
    axis.grid(color="#E5E5E5", zorder=0)
    keys = [Line2D([], [], ls="", marker=MARKERS[n % 5], mfc=FILLS[n % 5], mec="black", ms=6,
                   label=_name(lane)) for n, lane in enumerate(lanes)]
    keys += [Line2D([], [], ls="", marker="o", mfc="white", mec="black", ms=6,
                    label="not noticed"),
             Line2D([], [], ls="", marker=">", mfc="#888888", mec="black", ms=9,
                    label="not back by itself")]
    figure.legend(handles=keys, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    head = "Every single thing killed once"
    figure.suptitle(f"{head}\n{places(runs)}", fontsize=11)
    figure.alt = f"{head}; {places(runs)}. {'; '.join(told)}."
    return figure


def _name(lane: str) -> str:
    return LABELS.get(lane, lane).replace("\n", " ")
