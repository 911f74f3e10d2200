"""Draw the standing lab: what runs on which Pi."""

from __future__ import annotations

import pandas as pd

from .plot import FILLS, Picture

# from the ground up, as the stack file has it; what is not named comes on top
LAYERS = ("consul", "postgis", "pgpool", "mapserver", "haproxy", "keepalived")


def placement(tasks: pd.DataFrame) -> Picture:
    """Draw each task as a box on the Pi that it runs on, one row for each kind of service.

    Parameters
    ----------
    tasks : what stack.tasks returns: service, node, state.
    """
    running = tasks[tasks["state"] == "Running"]
    pis = sorted(running["node"].unique())
    kinds = sorted({_kind(s) for s in running["service"]},
                   key=lambda k: (LAYERS.index(k) if k in LAYERS else len(LAYERS), k))
    picture = Picture(figsize=(2.4 * max(len(pis), 2), 0.6 + 0.5 * len(kinds)))
    axis = picture.add_subplot()
    for column, pi in enumerate(pis):
        for row, kind in enumerate(kinds):
            here = [s for s in running[running["node"] == pi]["service"] if _kind(s) == kind]
            for place, service in enumerate(here):
                width = 0.9 / len(here)
                left = column - 0.45 + place * width
                axis.barh(row, width * 0.96, 0.8, left=left, color=FILLS[row % len(FILLS)],
                          alpha=0.55)
                axis.text(left + width * 0.48, row, service if len(here) < 3 else "·",
                          ha="center", va="center", color="black", fontsize=9)
    axis.set_xticks(range(len(pis)), pis)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.set_yticks([])
    axis.set_xlim(-0.55, len(pis) - 0.45)
    axis.set_ylim(-0.55, len(kinds) - 0.45)
    axis.spines[:].set_visible(False)
    for column in range(len(pis) - 1):
        axis.axvline(column + 0.5, color="#999999", linewidth=0.8, linestyle=":")
    picture.alt = "; ".join(
        f"{pi} runs " + ", ".join(running[running["node"] == pi]["service"]) for pi in pis)
    return picture


def _kind(service: str) -> str:
    return service.rstrip("0123456789")
