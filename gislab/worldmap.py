"""Draw rows on a map of the world: where lost writes would have been."""

from __future__ import annotations

from collections.abc import Iterable

import geopandas

from . import comparison, datasets, outage, plot
from .run import Run

# what -> colour (Okabe and Ito), marker
MARKS = {"lost": ("#D55E00", "x"), "doubled": ("#0072B2", "o"), "unexpected": ("#000000", "^"),
         "on one server only": ("#CC79A7", "s")}
TITLE = "Writes that are not as they were acknowledged"
NOTHING = "nothing is lost, doubled or unexpected"


def lost(runs: Run | Iterable[Run], title: str = TITLE) -> plot.Picture:
    """Draw the points of all writes of some runs that are not as they were acknowledged.

    Nothing to draw is what one hopes for, and is said; but not of runs whose rows nobody could
    read, or in which nothing was written. ValueError if there is no run at all.
    """
    runs = [runs] if isinstance(runs, Run) else list(runs)
    verdicts = [outage.writes(run) for run in runs]
    read = [v for v in verdicts if v.readings]
    acknowledged = sum(v.acknowledged for v in read)
    caption = (f"{acknowledged} acknowledged writes of {_runs(len(read))}, compared with what "
               f"{_servers([len(v.readings) for v in read])} held afterwards. The point of a row "
               "follows from its number.")
    if len(read) < len(runs):
        caption += (f" Of {_runs(len(runs) - len(read))} more nobody read what the servers held: "
                    "what became of those writes is not known.")
    nothing = NOTHING if acknowledged and len(read) == len(runs) else (
        f"{NOTHING}, as far as is known" if acknowledged else "not known: no write to judge by")
    return draw(comparison.places(runs), f"{title}\n{plot.places(runs)}", caption=caption,
                nothing=nothing)


def draw(frame: geopandas.GeoDataFrame, title: str = TITLE, *, caption: str = "",
         nothing: str = NOTHING) -> plot.Picture:
    """Draw the points of `history.places` over the countries; an empty frame says so.

    Parameters
    ----------
    frame : columns what (one of MARKS) and geometry (Point, EPSG:4326).
    caption : what stands below the map, and in the text for those who cannot see it.
    nothing : what is said if the frame is empty.
    """
    figure = plot.Picture(figsize=(9, 4.6 + 0.5 * bool(caption)))
    axis = figure.subplots()
    datasets.countries().plot(ax=axis, color="#EEEEEE", edgecolor="#AAAAAA", linewidth=0.4)
    for what, (colour, marker) in MARKS.items():
        points = frame[frame["what"] == what]
        if len(points):
            axis.scatter(points.geometry.x, points.geometry.y, c=colour, marker=marker, s=36,
                         linewidths=1.5 if marker == "x" else 0, label=f"{what}: {len(points)}",
                         zorder=3, clip_on=False)  # the first row's point is the map's corner
    axis.set(xlim=(-180, 180), ylim=(-90, 90), xticks=[], yticks=[], ylabel="", aspect="equal")
    axis.set_xlabel(plot.wrap(caption, 105), fontsize=9)
    said = "; ".join(f"{n} {what}" for what, n in frame["what"].value_counts().items())
    if frame.empty:
        said = nothing
        axis.text(0.5, 0.08, said, transform=axis.transAxes, ha="center", va="center",
                  fontsize=12, bbox={"facecolor": "white", "edgecolor": "#666666"})
    else:
        figure.legend(loc="outside lower center", ncols=len(MARKS), frameon=False)
    axis.set_title(title, fontsize=11)
    figure.alt = f"Map of the world: {said}" + (
        f". {title}. {caption}".replace("\n", "; ") if caption else "")
    return figure


def _runs(n: int) -> str:
    return f"{n} runs" if n != 1 else "1 run"


def _servers(counts: list[int]) -> str:
    """Say how many servers were read after each run."""
    least, most = min(counts, default=0), max(counts, default=0)
    many = str(most) if least == most else f"{least} to {most}"
    return f"{many} servers" if most != 1 else "1 server"
