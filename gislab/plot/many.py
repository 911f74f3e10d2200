"""Many trials together: their ECDF, what they consist of, and what theory had said."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .. import outage, phases, predict, trials
from ..run import Run, places
from .picture import EXPECT, FILLS, LABELS, Picture, title, wrap

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
# phase -> colour, hatching, how a reader calls it
PHASES = {"detect": ("#56B4E9", "...", "to detect"), "decide": ("#E69F00", "///", "to decide"),
          "both": ("#F0E442", "xxx", "to detect and decide"),
          "serve": ("#009E73", "", "to serve again"),
          "unknown": ("#FFFFFF", "", "not told apart")}


def ecdf(runs: Iterable[Run], before: Iterable[Run] = ()) -> Picture:
    """Draw for each fault the share of trials whose outage was no longer than so many seconds.

    Parameters
    ----------
    before : runs to compare with, drawn thin and grey.
    """
    faults, old = _by_fault(runs), _by_fault(before)
    lanes = list(dict.fromkeys(p for own in faults.values() for run in own for p in run.probes))
    figure = Picture(figsize=(10, 1.9 + 2.4 * len(faults)))
    axes = figure.subplots(len(faults), 1, squeeze=False)[:, 0]
    told = []
    for axis, (fault, own) in zip(axes, faults.items(), strict=True):
        found = {p: trials.outages(own, p) for p in lanes}
        former = {p: trials.outages(old.get(fault, []), p) for p in lanes}
        ends = [v for values in (*found.values(), *former.values())
                for v in values[np.isfinite(values)]]
        right = max([0.5, *ends]) * 1.08
        for number, lane in enumerate(lanes):
            look = {"ls": DASHES[number % 5], "marker": MARKERS[number % 5]}
            if len(former[lane]):
                _steps(axis, former[lane], right, color="#999999", lw=1, ms=0, **look)
            if len(found[lane]):
                _steps(axis, found[lane], right, color=FILLS[number % 5], lw=2, ms=4, **look)
                told.append(f"{title(own[0])}, {_name(lane)}: median "
                            f"{trials.spread(found[lane])}")
        since = f"; before: {_count(old[fault])}" if fault in old else ""
        axis.set_title(f"{title(own[0])}, {_count(own)}{since}", fontsize=10, loc="left")
        axis.set_xlim(0, right)
        axis.set_ylim(0, 1.05)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "half", "", "all"])
        axis.grid(color="#E5E5E5", lw=0.8)
        axis.set_ylabel("share of trials")
    axes[-1].set_xlabel("longest time without a success, in seconds")
    keys = [Line2D([], [], color=FILLS[n % 5], ls=DASHES[n % 5], marker=MARKERS[n % 5], lw=2, ms=5,
                   label=_name(p)) for n, p in enumerate(lanes)]
    keys += [Line2D([], [], color="#999999", lw=1, label="before")] * bool(old)
    return _finish(figure, keys, "How long the outages were", runs=_all(faults), told=told,
                   caption="A line that ends below `all`: the other trials did not recover.")


def breakdown(runs: Iterable[Run]) -> Picture:
    """Draw what the outage of each lane consists of, for the trial in the middle of each series.

    Parts of medians would not add up to a median; those of one trial do.
    """
    faults = _by_fault(runs)
    rows = [(fault, lane, _middle(own, lane)) for fault, own in faults.items()
            for lane in dict.fromkeys(p for run in own for p in run.probes)]
    parts = [_parts(run, lane) for _, lane, run in rows]
    longest = max([0.5, *(sum(p.values()) for p in parts if p)])
    figure = Picture(figsize=(10, 2.0 + 0.36 * len(rows) + 0.3 * len(faults)))
    axis = figure.subplots()
    places_, told = _rows([fault for fault, *_ in rows]), []
    for y, (_, lane, run), found in zip(places_, rows, parts, strict=True):
        left, words = 0.0, []
        for phase, length in (found or {}).items():
            colour, hatch, name = PHASES[phase]
            axis.barh(y, length, 0.72, left=left, color=colour, hatch=hatch, edgecolor="black",
                      lw=0.7)
            if length > longest * 0.045:
                axis.text(left + length / 2, y, f"{length:.1f}", ha="center", va="center",
                          fontsize=8, bbox={"facecolor": "white", "lw": 0, "pad": 1.2})
            words.append(f"{name} {length:.2f} s")
            left += length
        said = "not recovered" if found is None else _moved(run, lane) if found else "no failure"
        axis.annotate(said, (left, y), xytext=(6, 0), textcoords="offset points", va="center",
                      fontsize=8)
        told.append(f"{title(run)}, {_name(lane)}: {', '.join(words) or said}")
    _label(axis, places_, rows, faults)
    axis.set_xlim(0, longest * 1.3)
    axis.set_xlabel("seconds since the order to break")
    keys = [Patch(facecolor=colour, hatch=hatch, edgecolor="black", lw=0.7, label=name)
            for colour, hatch, name in PHASES.values()]
    return _finish(figure, keys, "What the outages consist of", runs=_all(faults), told=told,
                   caption="Of each series the trial with the median outage of that lane.")


def against(runs: Iterable[Run], *, timing: predict.Timing | None = None) -> Picture:
    """Draw every measured outage over what theory had said for its fault and lane.

    A bar from best to worst, and in it a mark at what is expected.
    """
    faults = _by_fault(runs)
    rows = [(fault, lane, own[0]) for fault, own in faults.items()
            for lane in dict.fromkeys(p for run in own for p in run.probes)]
    found = [trials.outages(faults[fault], lane) for fault, lane, _ in rows]
    theory = [predict.of(run, lane, timing) for _, lane, run in rows]
    right = 1.12 * max([0.5, *(v for values in found for v in values[np.isfinite(values)]),
                        *(p.most for p in theory if p.bounded)])
    hits = {(line["fault"], line["probe"]): line
            for line in trials.inside(_all(faults), timing).to_dict("records")}
    figure = Picture(figsize=(10, 2.0 + 0.36 * len(rows) + 0.3 * len(faults)))
    axis = figure.subplots()
    places_, told = _rows([fault for fault, *_ in rows]), []
    for y, (fault, lane, run), values, p in zip(places_, rows, found, theory, strict=True):
        if p.known:
            most = p.most if p.bounded else right
            axis.barh(y, max(most - p.least, right / 250), 0.72, left=p.least, color="#DDDDDD",
                      hatch="" if p.bounded else "///", edgecolor="#777777", lw=0.8, zorder=1)
        if p.bounded and p.most:
            axis.plot([p.expected], [y], zorder=2, clip_on=False, **EXPECT)
        ended = np.sort(values[np.isfinite(values)])
        jitter = np.resize([0, 0.16, -0.16], len(ended))
        axis.plot(ended, y + jitter, "o", mfc="none", mec="#0072B2", ms=5, mew=1.3, zorder=3,
                  clip_on=False)
        lost = len(values) - len(ended)
        axis.plot([right * 0.985] * bool(lost), [y] * bool(lost), ">", color="#D55E00", ms=8,
                  zorder=4)
        middle = trials.spread(values)
        if len(values) > 1 and math.isfinite(middle.median):
            axis.plot([middle.median] * 2, [y - 0.36, y + 0.36], color="black", lw=2.2, zorder=4)
        said = _hits(hits.get((fault, lane)), p) + (f"; {lost} not recovered" if lost else "")
        axis.annotate(said, (1.01, y), xycoords=("axes fraction", "data"), va="center",
                      fontsize=8)
        told.append(f"{title(run)}, {_name(lane)}: predicted {p}, measured {middle}, {said}")
    _label(axis, places_, rows, faults)
    axis.set_xlim(-right * 0.012, right)  # room for a trial without an outage
    axis.set_xlabel("longest time without a success, in seconds")
    keys = [Patch(facecolor="#DDDDDD", edgecolor="#777777", label="predicted, best to worst"),
            Line2D([], [], label="predicted, expected", **EXPECT),
            Patch(facecolor="#DDDDDD", edgecolor="#777777", hatch="///",
                  label="predicted: until undone"),
            Line2D([], [], ls="", marker="o", mfc="none", mec="#0072B2", mew=1.3, label="a trial"),
            Line2D([], [], ls="", marker="|", color="black", ms=10, mew=2.2, label="median"),
            Line2D([], [], ls="", marker=">", color="#D55E00", ms=8, label="not recovered")]
    return _finish(figure, keys, "Predicted and measured", runs=_all(faults), told=told,
                   caption="Predicted from the settings alone. Inside: as long as predicted, give "
                   "or take a pause between two questions at either end.")


def _steps(axis, values: np.ndarray, right: float, **look) -> None:
    """Draw an ECDF from 0 on, and on to the right at the height that it reaches."""
    x, y = trials.ecdf(values)
    height = y[-1] if len(y) else 0.0
    axis.step([0, *x, right], [0, *y, height], where="post", clip_on=False, zorder=3,
              markevery=slice(1, -1), **look)


def _parts(run: Run, lane: str) -> dict[str, float] | None:
    """Return the parts of an outage in order; None: it did not end."""
    o, p = outage.of(run, lane), phases.of(run, lane)
    if not o.recovered:
        return None
    if not o.outage:
        return {}
    if p.move is None:
        return {"unknown": o.end - max(o.begin, min(run.at("strike") or o.begin, o.end))}
    if math.isnan(p.detect):
        return {"both": p.decide, "serve": p.serve}
    return {"detect": p.detect, "decide": p.decide, "serve": p.serve}


def _middle(runs: list[Run], lane: str) -> Run:
    """Return the run whose outage is the median; the shorter one of two."""
    own = [run for run in runs if lane in run.probes]
    values = trials.outages(own, lane)
    return own[int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])]


def _moved(run: Run, lane: str) -> str:
    move = phases.of(run, lane).move
    return f"{phases.NAMES[move.role]} to {move.holder}" if move else ""


def _hits(line: dict | None, p: predict.Prediction) -> str:
    if line is None:
        return "no theory" if not p.known else "no end in theory"
    return f"{line['inside']} of {line['trials']} inside"


def _by_fault(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.fault, []).append(run)
    return found


def _all(faults: dict[str, list[Run]]) -> list[Run]:
    return [run for own in faults.values() for run in own]


def _rows(faults: list[str]) -> list[float]:
    """Return the place of each row, from the top, with some room between two faults."""
    return [n + 0.8 * len(set(faults[:n + 1])) for n in range(len(faults))]


def _label(axis, places_: list[float], rows: list, faults: dict[str, list[Run]]) -> None:
    """Name each lane, and above the first one of a fault the fault."""
    axis.set_yticks(places_, [_name(lane) for _, lane, _ in rows])
    axis.set_ylim(places_[-1] + 0.6, places_[0] - 1.2)
    axis.grid(axis="x", color="#E5E5E5", zorder=0)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    for fault, own in faults.items():
        first = next(y for y, row in zip(places_, rows, strict=True) if row[0] == fault)
        axis.annotate(f"{title(own[0])}, {_count(own)}", (0, first - 0.62), xytext=(3, 0),
                      textcoords="offset points", va="center", fontsize=9, weight="bold")


def _finish(figure: Picture, keys: list, head: str, *, runs: list[Run], told: list[str],
            caption: str) -> Picture:
    figure.suptitle(f"{head}\n{places(runs)}", fontsize=11)
    figure.legend(handles=keys, loc="outside lower center", ncols=min(5, len(keys)),
                  frameon=False, fontsize=9, title=wrap(caption, 110), title_fontsize=9)
    figure.alt = f"{head}; {places(runs)}. {'; '.join(told)}. {caption}"
    return figure


def _name(lane: str) -> str:
    return LABELS.get(lane, lane).replace("\n", " ")


def _count(runs: list[Run]) -> str:
    return f"{len(runs)} trials" if len(runs) > 1 else "1 trial"
