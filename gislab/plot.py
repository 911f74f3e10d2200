"""Draw Runs: every question over time with the fault shaded, and the outages side by side.

Colours are Okabe and Ito's, and each outcome has a shape of its own besides, so that the figures
are read by colour-blind eyes and from a black-and-white print. Every figure says `virtual` or
`pi`, and which map server it was.
"""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Iterable

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from . import outage, predict
from .run import Run

LABELS = {"maps": "maps (WMS)", "features": "features (WFS)", "sql_read": "SQL read\n(Pgpool)",
          "sql_write": "SQL write\n(Pgpool)", "write_primary": "SQL write\n(primary)"}
# outcome -> colour, marker, size, and how a reader calls it
STYLES = {"ok": ("#0072B2", "o", 9, "ok"),
          "failed": ("#D55E00", "x", 34, "failed"),
          "unknown": ("#000000", "^", 30, "unknown (no answer)")}
FAULT, MENDING, EXPECTED = "#F0E442", "#DDDDDD", "#CC79A7"
HATCHES = ("", "///", "...", "xxx", "\\\\\\")
FILLS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")


class Picture(Figure):
    """A figure that a notebook shows once, uncut, and with a text for those who cannot see it.

    It is not one of pyplot's, which a notebook would show a second time at the cell's end.
    """

    def __init__(self, **how):
        super().__init__(layout="constrained", **how)
        FigureCanvasAgg(self)
        self.alt = ""

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight",
                     metadata={"Description": self.alt})
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}


def timeline(run: Run, *, guess: float | None = None,
             timing: predict.Timing | None = None) -> Picture:
    """Draw one lane per probe: each question at its sending time, its answer's time on a log
    axis; the fault and its mending shaded, the longest gap and the predicted one as bars.

    Parameters
    ----------
    guess : float, seconds after the strike; a reader's own prediction, drawn as a dotted line.
    """
    probes = run.probes
    strike, undo = run.at("strike"), run.at("undo")
    figure = Picture(figsize=(10, 1.6 + 1.35 * len(probes)))
    axes = figure.subplots(len(probes), 1, sharex=True, squeeze=False)
    for axis, probe in zip(axes[:, 0], probes, strict=True):
        lane = run.samples[run.samples["probe"] == probe]
        if strike is not None:
            end = undo if undo is not None else lane["sent"].max()
            axis.axvspan(strike, end, color=FAULT, alpha=0.55, lw=0)
            axis.axvspan(end, run.at("undone") or end, facecolor=MENDING, edgecolor="#AAAAAA",
                         hatch="..", lw=0, alpha=0.6)
        for outcome, (colour, marker, size, _) in STYLES.items():
            points = lane[lane["outcome"] == outcome]
            axis.scatter(points["sent"], points["took"] * 1000, s=size, c=colour, marker=marker,
                         linewidths=1.2 if marker == "x" else 0, zorder=3)
        axis.set_yscale("log")
        axis.set_ylim(1, 30_000)
        axis.yaxis.set_major_formatter(FuncFormatter(_latency))
        axis.set_yticks([1, 10, 100, 1000])
        axis.minorticks_off()
        axis.grid(axis="y", color="#EEEEEE", zorder=0)
        axis.set_ylabel(LABELS.get(probe, probe), rotation=0, ha="right", va="center",
                        labelpad=12)
        _gap(axis, run, probe, strike, timing)
        if guess is not None and strike is not None:
            axis.axvline(strike + guess, color="black", ls=":", lw=1.5)
    axes[-1, 0].set_xlabel("seconds since the run began (when the question was sent)")
    end = max(run.samples["sent"].max(), (strike or 0) + (guess or 0))
    axes[-1, 0].set_xlim(0, end + 0.2)
    # Above and below the panels, where no label of theirs can be covered.
    figure.suptitle(f"{_title(run)}: {run.settings.get('target', '')}\n{_where(run)}",
                    fontsize=11)
    figure.legend(handles=_keys(guess is not None), loc="outside lower center",
                  ncols=5, frameon=False, fontsize=9)
    figure.alt = (f"Timeline of the run '{_title(run)}': {_where(run)}. "
              + "; ".join(f"{p}: {_said(outage.of(run, p))}".replace("\n", " ") for p in probes))
    return figure


def outages(runs: Iterable[Run], *, timing: predict.Timing | None = None) -> Picture:
    """Draw the longest gap of each lane in each run as bars, with the predicted ranges."""
    runs = list(runs)
    probes = list(dict.fromkeys(p for run in runs for p in run.probes))
    height = 0.8 / max(1, len(probes))
    figure = Picture(figsize=(10, 1.9 + 0.3 * len(probes) * len(runs)))
    axis = figure.subplots()
    found = {(i, p): outage.of(run, p) for i, run in enumerate(runs) for p in run.probes}
    expected = {key: _predicted(runs[key[0]].fault, key[1], timing) for key in found}
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
        right = max(length, e.most if e else 0)
        axis.annotate(_said(o).replace("\n", " "), (right, y), xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(runs)), [_wrap(_title(run)) for run in runs])
    axis.set_ylim(len(runs) - 0.45, -0.55)
    axis.set_xlim(0, longest * 1.45)  # room for the words beside the longest bar
    axis.set_xlabel("longest time without a success, in seconds")
    axis.grid(axis="x", color="#DDDDDD", zorder=0)
    keys = [Patch(facecolor=FILLS[j % 5], hatch=HATCHES[j % 5], edgecolor="black", lw=0.6,
                  label=LABELS.get(p, p).replace("\n", " ")) for j, p in enumerate(probes)]
    keys.append(Line2D([], [], color="black", lw=1.4, marker="|", ms=8, label="predicted"))
    figure.legend(handles=keys, loc="outside lower center", ncols=min(5, len(keys)),
                  frameon=False, fontsize=9)
    where = " / ".join(dict.fromkeys(_where(run) for run in runs))
    figure.suptitle(f"Outage of each lane under each fault\n{where}", fontsize=11)
    figure.alt = ("Outages: " + "; ".join(
        f"{_title(runs[i])}, {p}: {_said(o)}".replace("\n", " ") for (i, p), o in found.items()))
    return figure


def _gap(axis, run: Run, probe: str, strike: float | None, timing) -> None:
    """Draw the longest gap, and what was predicted from the strike on, above the points."""
    o = outage.of(run, probe)
    if o.recovered and o.outage > 0:
        axis.plot([o.begin, o.end], [12_000] * 2, color="black", lw=3, solid_capstyle="butt")
    axis.annotate(_said(o), (1.005, 0.5), xycoords="axes fraction", va="center", fontsize=9)
    expected = _predicted(run.fault, probe, timing)
    if strike is not None and expected and expected.most > 0:
        axis.plot([strike, strike + expected.most], [5_000] * 2, color=EXPECTED, lw=3, ls="-",
                  solid_capstyle="butt")
        axis.plot([strike + expected.least], [5_000], color="black", marker="|", ms=7)


def _predicted(fault: str, probe: str, timing) -> predict.Prediction | None:
    try:
        found = predict.outage(fault, probe, timing)
    except KeyError:
        return None
    return found if found.bounded else None


def _said(o: outage.Outage) -> str:
    if not o.recovered:
        return "not recovered"
    if math.isclose(o.outage, 0):
        return "no failure"
    return f"{o.outage:.1f} s out, {o.failed + o.unknown} of {o.asked}\nnot ok"


def _keys(guess: bool) -> list:
    keys = [Line2D([], [], ls="", color=colour, marker=marker, ms=5 if marker == "o" else 7,
                   label=label) for colour, marker, _, label in STYLES.values()]
    return [*keys, Patch(color=FAULT, alpha=0.55, label="fault"),
            Patch(facecolor=MENDING, edgecolor="#AAAAAA", hatch="..", label="mending"),
            Line2D([], [], color="black", lw=3, label="longest gap"),
            Line2D([], [], color=EXPECTED, lw=3, label="predicted at most"),
            *([Line2D([], [], color="black", ls=":", lw=1.5, label="your guess")] * guess)]


def _title(run: Run) -> str:
    return run.settings.get("title") or run.fault.replace("_", " ") or "no fault"


def _where(run: Run) -> str:
    names = {"mapserver": "MapServer", "geoserver": "GeoServer"}
    kind = {"virtual": "virtual Pis", "pi": "real Pis"}.get(run.settings.get("kind"), "?")
    server = run.settings.get("map_server", "?")
    return f"{run.settings.get('kind', '?')} lab ({kind}), maps by {names.get(server, server)}"


def _latency(ms: float, _position: int) -> str:
    return f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"


def _wrap(text: str, width: int = 24) -> str:
    return "\n".join(textwrap.wrap(text, width))
