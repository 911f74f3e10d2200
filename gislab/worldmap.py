"""Draw rows on a map of the world: where lost writes would have been."""

from __future__ import annotations

import geopandas

from . import datasets
from .plot import Picture

# what -> colour (Okabe and Ito), marker
MARKS = {"lost": ("#D55E00", "x"), "doubled": ("#0072B2", "o"), "unexpected": ("#000000", "^"),
         "on one server only": ("#CC79A7", "s")}


def draw(frame: geopandas.GeoDataFrame, title: str = "") -> Picture:
    """Draw the points of `history.places` over the countries; an empty frame says so.

    Parameters
    ----------
    frame : columns what (one of MARKS) and geometry (Point, EPSG:4326).
    """
    figure = Picture(figsize=(9, 4.6))
    axis = figure.subplots()
    datasets.countries().plot(ax=axis, color="#EEEEEE", edgecolor="#AAAAAA", linewidth=0.4)
    for what, (colour, marker) in MARKS.items():
        points = frame[frame["what"] == what]
        if len(points):
            axis.scatter(points.geometry.x, points.geometry.y, c=colour, marker=marker, s=36,
                         linewidths=1.5 if marker == "x" else 0, label=f"{what}: {len(points)}")
    axis.set(xlim=(-180, 180), ylim=(-90, 90), xticks=[], yticks=[], xlabel="", ylabel="",
             aspect="equal")
    said = "; ".join(f"{n} {what}" for what, n in frame["what"].value_counts().items())
    if frame.empty:
        said = "nothing is lost, doubled or unexpected"
        axis.text(0.5, 0.08, said, transform=axis.transAxes, ha="center", va="center",
                  fontsize=12, bbox={"facecolor": "white", "edgecolor": "#666666"})
    else:
        figure.legend(loc="outside lower center", ncols=len(MARKS), frameon=False)
    axis.set_title(title or "Writes that are not as they were acknowledged", fontsize=11)
    figure.alt = f"Map of the world: {said}"
    return figure
