"""Draw Runs: one over time, several side by side, many trials together.

Colours are Okabe and Ito's, and whatever differs in colour differs in shape or hatching besides,
so that the figures are read by colour-blind eyes and from a black-and-white print. Every figure
says `virtual` or `pi`, and which map server it was, and has a text for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..run import Run, places
from .bars import outages
from .beside import beside
from .many import against, breakdown, ecdf
from .picture import FAULT, FILLS, HATCHES, LABELS, STYLES, Picture, strip, told, wrap
from .survey import survey
from .timeline import timeline

__all__ = ["FAULT", "FILLS", "HATCHES", "LABELS", "STYLES", "Picture", "against", "beside",
           "breakdown", "ecdf", "outages", "places", "strip", "survey", "timeline", "told", "wrap",
           "write"]


def write(runs: Iterable[Run], folder: str | Path, *, before: Iterable[Run] = ()) -> list[Path]:
    """Write all figures of some trials as PNG files; of the last one also its timeline.

    Parameters
    ----------
    before : saved runs to compare with.
    """
    runs, folder = list(runs), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in (("ecdf", ecdf(runs, before)), ("breakdown", breakdown(runs)),
                          ("predicted", against(runs)), ("timeline", timeline(runs[-1]))):
        written.append(folder / f"{name}.png")
        written[-1].write_bytes(picture.png())
    return written
