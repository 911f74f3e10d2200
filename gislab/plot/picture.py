"""What all figures share: a picture for a notebook, colours, shapes, and how things are called."""

from __future__ import annotations

import base64
import io
import itertools
import math
import textwrap

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .. import holders, outage, predict
from ..run import Run

LABELS = {"maps": "maps (WMS)", "features": "features (WFS)", "sql_read": "SQL read\n(Pgpool)",
          "sql_write": "SQL write\n(Pgpool)", "write_primary": "SQL write\n(primary)"}
# outcome -> colour, marker, size, and how a reader calls it
STYLES = {"ok": ("#0072B2", "o", 9, "ok"),
          "failed": ("#D55E00", "x", 34, "failed"),
          "unknown": ("#000000", "^", 30, "unknown (no answer)")}
SHADES = ("#78B4DC", "#FFFFFF", "#DDDDDD")  # of pi1, pi2, pi3 and their members, also in print
FAULT, MENDING, EXPECTED = "#F0E442", "#DDDDDD", "#CC79A7"
HATCHES = ("", "///", "...", "xxx", "\\\\\\")
# what is expected, between best and worst: seen on any ground
EXPECT = {"marker": "d", "mfc": "white", "mec": "black", "mew": 1.1, "ms": 7, "ls": ""}
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


def predicted(run: Run, probe: str, timing) -> predict.Prediction | None:
    """Return what theory says, if it names an end that can be drawn."""
    found = predict.of(run, probe, timing)
    return found if found.bounded else None


def said(o: outage.Outage) -> str:
    """Say what became of a lane."""
    if not o.recovered:
        return "not recovered"
    if math.isclose(o.outage, 0):
        return "no failure"
    return f"{o.outage:.1f} s out, {o.failed + o.unknown} of {o.asked}\nnot ok"


def title(run: Run) -> str:
    """Return what a reader calls the fault of a run."""
    return run.settings.get("title") or run.fault.replace("_", " ") or "no fault"


def strip(axis, run: Run, held: dict[str, list[holders.Span]]) -> None:
    """Draw who held what: a bar for each, with the name in it; of each Pi in one shade.

    Where two held one thing at a time (a fault), the row is shared out: a lane for each.

    held : as holders.spans returns it.
    """
    wide = run.samples["sent"].max() * 0.045  # of a name
    for y, (row, spans) in enumerate(held.items()):
        lanes = _lanes(spans)
        high = 0.8 / (1 + max(lanes))
        for span, lane in zip(spans, lanes, strict=True):
            shade = "#FFFFFF" if row == "maps" else SHADES[(ord(span.who[-1]) - ord("1")) % 3]
            middle = y - 0.4 + (lane + 0.5) * high
            axis.barh(middle, span.end - span.begin, high, left=span.begin, color=shade,
                      edgecolor="black", lw=0.7, zorder=2)
            if span.end - span.begin > (wide if row != "maps" else wide / 4):
                axis.text((span.begin + span.end) / 2, middle, span.who, ha="center",
                          va="center_baseline", fontsize=8 if high == 0.8 else 6, zorder=3)
    axis.set_yticks(range(len(held)), [holders.ROWS[row] for row in held], fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(held) - 0.4, -0.6)


def told(held: dict[str, list[holders.Span]]) -> list[str]:
    """Say in words what `strip` draws, a text for each row."""
    def joined(former: holders.Span, later: holders.Span) -> str:
        return ", then " if later.begin >= former.end else ", at the same time "

    return [f"{holders.ROWS[row]}: {spans[0].who}"
            + "".join(joined(*pair) + pair[1].who for pair in itertools.pairwise(spans))
            for row, spans in held.items()]


def _lanes(spans: list[holders.Span]) -> list[int]:
    """Return for each span, in the order of their begins, the first lane that is free by then."""
    until: list[float] = []  # when a lane is free again
    found = []
    for span in spans:
        lane = next((n for n, end in enumerate(until) if end <= span.begin), len(until))
        until[lane:lane + 1] = [span.end]
        found.append(lane)
    return found


def wrap(text: str, width: int = 24) -> str:
    """Break a text into lines."""
    return "\n".join(textwrap.wrap(text, width))
