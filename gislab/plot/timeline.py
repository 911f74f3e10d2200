"""One run over time: every question, its answer, the fault, and what the parts said."""

from __future__ import annotations

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from .. import holders, outage, predict
from ..run import Run, where
from .picture import (
    EXPECT,
    EXPECTED,
    FAULT,
    LABELS,
    MENDING,
    STYLES,
    Picture,
    predicted,
    said,
    strip,
    title,
    told,
)


def timeline(run: Run, *, guess: float | None = None,
             timing: predict.Timing | None = None) -> Picture:
    """Draw one lane per probe: each question at its sending time, its answer's time on a log
    axis; the fault and its mending shaded, the longest gap and the predicted one as bars. Below,
    if the run was watched: who held the VIP, who was primary, which leaders there were.

    Parameters
    ----------
    guess : float, seconds after the strike; a reader's own prediction, drawn as a dotted line.
    """
    probes, strike, held = run.probes, run.at("strike"), holders.spans(run)
    heights = [1.35] * len(probes) + [0.3 * len(held) + 0.15] * bool(held)
    figure = Picture(figsize=(10, 1.6 + sum(heights)))
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axis, probe in zip(axes[:, 0], probes, strict=False):
        lane = run.samples[run.samples["probe"] == probe]
        _shade(axis, run)
        for outcome, (colour, marker, size, _) in STYLES.items():
            points = lane[lane["outcome"] == outcome]
            axis.scatter(points["sent"], points["took"] * 1000, s=size, c=colour, marker=marker,
                         linewidths=1.2 if marker == "x" else 0, zorder=3)
        axis.set_yscale("log")
        axis.set_ylim(0.6, 30_000)  # what is refused at once takes less than 1 ms
        axis.yaxis.set_major_formatter(FuncFormatter(_latency))
        axis.set_yticks([1, 10, 100, 1000])
        axis.minorticks_off()
        axis.grid(axis="y", color="#EEEEEE", zorder=0)
        axis.set_ylabel(LABELS.get(probe, probe), rotation=0, ha="right", va="center",
                        labelpad=12)
        _gap(axis, run, probe, strike, timing)
        if guess is not None and strike is not None:
            axis.axvline(strike + guess, color="black", ls=":", lw=1.5)
    if held:
        _shade(axes[-1, 0], run)
        strip(axes[-1, 0], run, held)
    axes[-1, 0].set_xlabel("seconds since the run began (when the question was sent)")
    end = max(run.samples["sent"].max(), (strike or 0) + (guess or 0))
    axes[-1, 0].set_xlim(0, end + 0.2)
    # Above and below the panels, where no label of theirs can be covered.
    figure.suptitle(f"{title(run)}: {run.settings.get('target', '')}\n{where(run)}",
                    fontsize=11)
    figure.legend(handles=_keys(guess is not None), loc="outside lower center",
                  ncols=5, frameon=False, fontsize=9)
    figure.alt = (f"Timeline of the run '{title(run)}': {where(run)}. "
              + "; ".join(f"{p}: {said(outage.of(run, p))}".replace("\n", " ") for p in probes)
                  + "".join(f"; {words}" for words in told(held)))
    return figure


def _shade(axis, run: Run) -> None:
    """Lay the fault, and its mending, as a ground under everything else."""
    strike, undo = run.at("strike"), run.at("undo")
    if strike is None:
        return
    end = undo if undo is not None else run.samples["sent"].max()
    axis.axvspan(strike, end, color=FAULT, alpha=0.55, lw=0)
    axis.axvspan(end, run.at("undone") or end, facecolor=MENDING, edgecolor="#AAAAAA",
                 hatch="..", lw=0, alpha=0.6)


def _gap(axis, run: Run, probe: str, strike: float | None, timing) -> None:
    """Draw the longest gap, and what was predicted from the strike on, above the points."""
    o = outage.of(run, probe)
    if o.recovered and o.outage > 0:
        axis.plot([o.begin, o.end], [12_000] * 2, color="black", lw=3, solid_capstyle="butt")
    axis.annotate(said(o), (1.005, 0.5), xycoords="axes fraction", va="center", fontsize=9)
    expected = predicted(run, probe, timing)
    if strike is not None and expected and expected.most > 0:
        axis.plot([strike, strike + expected.most], [5_000] * 2, color=EXPECTED, lw=3, ls="-",
                  solid_capstyle="butt")
        axis.plot([strike + expected.least], [5_000], color="black", marker="|", ms=7)
        axis.plot([strike + expected.expected], [5_000], **EXPECT)


def _keys(guess: bool) -> list:
    keys = [Line2D([], [], ls="", color=colour, marker=marker, ms=5 if marker == "o" else 7,
                   label=label) for colour, marker, _, label in STYLES.values()]
    return [*keys, Patch(color=FAULT, alpha=0.55, label="fault"),
            Patch(facecolor=MENDING, edgecolor="#AAAAAA", hatch="..", label="mending"),
            Line2D([], [], color="black", lw=3, label="longest gap"),
            Line2D([], [], color=EXPECTED, lw=3, label="predicted at most"),
            Line2D([], [], label="expected", **EXPECT),
            *([Line2D([], [], color="black", ls=":", lw=1.5, label="your guess")] * guess)]


def _latency(ms: float, _position: int) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"
