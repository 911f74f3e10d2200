"""Runs side by side: the longest outage of each lane under each fault."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from .. import outage, predict
from ..run import Run, places
from .picture import (
    EXPECT,
    FILLS,
    HATCHES,
    LABELS,
    Picture,
    predicted,
    said,
    title,
    wrap,
)


def outages(runs: Iterable[Run], *, timing: predict.Timing | None = None) -> Picture:
    """Draw the longest gap of each lane in each run as bars, with what was predicted: a line
    from best to worst, and a mark at what is expected.
    """
    runs = list(runs)
    probes = list(dict.fromkeys(p for run in runs for p in run.probes))
    height = 0.8 / max(1, len(probes))
    figure = Picture(figsize=(10, 1.9 + 0.3 * len(probes) * len(runs)))
    axis = figure.subplots()
    found = {(i, p): outage.of(run, p) for i, run in enumerate(runs) for p in run.probes}
    expected = {key: predicted(runs[key[0]], key[1], timing) for key in found}
    # None has happened: an axis of a tenth of a second would make much of nothing.
    longest = max([1.0, *(o.outage for o in found.values() if o.recovered),
                   *(e.most for e in expected.values() if e)])
    for (i, probe), o in found.items():
        j = probes.index(probe)
        y = i - 0.4 + height * (j + 0.5)
        length = o.outage if o.recovered else longest * 1.15
        axis.barh(y, length, height * 0.86, color=FILLS[j % 5] if o.recovered else "white",
                  hatch=HATCHES[j % 5], edgecolor="black", lw=0.6,
                  ls="-" if o.recovered else "--", zorder=2)
        e = expected[i, probe]
        if e and e.most > 0:
            axis.plot([e.least, e.most], [y, y], color="black", lw=1.4, marker="|", ms=8,
                      zorder=4, path_effects=[withStroke(linewidth=3.5, foreground="white")])
            axis.plot([e.expected], [y], zorder=5, **EXPECT)
        right = max(length, e.most if e else 0)
        axis.annotate(said(o).replace("\n", " "), (right, y), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(runs)), [wrap(title(run)) for run in runs])
    axis.set_ylim(len(runs) - 0.45, -0.55)
    axis.set_xlim(0, longest * 1.45)  # room for the words beside the longest bar
    axis.set_xlabel("longest time without a success, in seconds")
    axis.grid(axis="x", color="#DDDDDD", zorder=0)
    keys = [Patch(facecolor=FILLS[j % 5], hatch=HATCHES[j % 5], edgecolor="black", lw=0.6,
                  label=LABELS.get(p, p).replace("\n", " ")) for j, p in enumerate(probes)]
    keys.append(Line2D([], [], color="black", lw=1.4, marker="|", ms=8,
                       label="predicted, best to worst"))
    keys.append(Line2D([], [], label="predicted, expected", **EXPECT))
    figure.legend(handles=keys, loc="outside lower center", ncols=min(5, len(keys)),
                  frameon=False, fontsize=9)
    figure.suptitle(f"Outage of each lane under each fault\n{places(runs)}", fontsize=11)
    figure.alt = ("Outages: " + "; ".join(
        f"{title(runs[i])}, {p}: {said(o)}".replace("\n", " ")
        + (f" (predicted {e})" if (e := expected[i, p]) else "") for (i, p), o in found.items()))
    return figure
