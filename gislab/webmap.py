"""A map to drag and zoom, as one piece of HTML that needs neither a network nor a library.

A picture from the WMS lies below, features from the WFS above it; both are in the page itself,
so it works in a notebook, in a report, and years later.
"""

from __future__ import annotations

import base64
import html
import io
import itertools

import geopandas
import numpy
from matplotlib import image

_COUNT = itertools.count(1)
PAGE = """\
<figure id="{id}" style="margin:0;max-width:{width}px" role="img" aria-label="{alt}">
<svg viewBox="{box}" width="100%" style="display:block;background:#dcebf2;cursor:grab;\
touch-action:none;border:1px solid #999;aspect-ratio:{w}/{h}">
<image href="data:image/png;base64,{png}" x="{west}" y="{top}" width="{w}" height="{h}" \
preserveAspectRatio="none"/>
<g fill="#c8553d" fill-opacity=".75" stroke="#fff">{dots}</g></svg>
<figcaption style="font:13px system-ui,sans-serif;padding:4px 0">{title} Drag to move, turn the \
wheel or double-click to zoom, point at a dot to read its name. <button type="button">whole\
</button> <output></output></figcaption>
<script>
(() => {{
  const root = document.getElementById("{id}"), svg = root.querySelector("svg");
  const whole = [{box_list}], out = root.querySelector("output");
  let view = whole.slice(), held = null;
  const draw = () => {{
    svg.setAttribute("viewBox", view.join(" "));
    const k = view[2] / whole[2];
    for (const c of svg.querySelectorAll("circle")) {{
      c.setAttribute("r", c.dataset.r * Math.sqrt(k));
      c.setAttribute("stroke-width", {stroke} * Math.sqrt(k));
    }}
  }};
  const at = e => {{
    const b = svg.getBoundingClientRect();
    return [(e.clientX - b.left) / b.width, (e.clientY - b.top) / b.height];
  }};
  const zoom = (e, factor) => {{
    const [x, y] = at(e), k = Math.min(1, Math.max(0.01, view[2] / whole[2] * factor));
    const w = whole[2] * k, h = whole[3] * k;
    view = [view[0] + x * (view[2] - w), view[1] + y * (view[3] - h), w, h];
    draw();
  }};
  svg.addEventListener("wheel", e => {{ e.preventDefault(); zoom(e, e.deltaY > 0 ? 1.25 : 0.8); }},
                       {{passive: false}});
  svg.addEventListener("dblclick", e => zoom(e, 0.5));
  svg.addEventListener("pointerdown", e => {{
    held = at(e);
    svg.setPointerCapture(e.pointerId);
  }});
  svg.addEventListener("pointerup", () => {{ held = null; }});
  svg.addEventListener("pointermove", e => {{
    const name = e.target.dataset && e.target.dataset.name;
    if (name) out.textContent = name;
    if (!held) return;
    const now = at(e);
    view[0] -= (now[0] - held[0]) * view[2];
    view[1] -= (now[1] - held[1]) * view[3];
    held = now;
    draw();
  }});
  root.querySelector("button").addEventListener("click", () => {{
    view = whole.slice();
    draw();
  }});
  draw();
}})();
</script></figure>
"""


class WebMap:
    """A map that a notebook shows; `str()` is its HTML.

    Parameters
    ----------
    picture : array of rows, columns, RGB(A) in 0 to 1, of exactly `bbox`, in degrees.
    points : GeoDataFrame of points in any CRS; what lies above the picture.
    name : column that is shown for a point.
    size : column of numbers; the area of a dot grows with it. By default all are alike.
    """

    def __init__(self, picture: numpy.ndarray, points: geopandas.GeoDataFrame, *,
                 bbox=(-180, -90, 180, 90), name: str = "name", size: str | None = None,
                 title: str = "", width: int = 900):
        west, south, east, north = bbox
        wide = east - west
        buffer = io.BytesIO()
        image.imsave(buffer, numpy.clip(picture, 0, 1), format="png")
        points = points.to_crs("EPSG:4326").cx[west:east, south:north]
        largest = float(points[size].max()) if size and len(points) else 1.0
        radii = (points[size] / largest) ** 0.5 if size else [0.4] * len(points)
        dots = "".join(
            f'<circle cx="{x:.3f}" cy="{-y:.3f}" r="0" data-r="{wide / 400 + r * wide / 130:.2f}" '
            f'data-name="{html.escape(str(label))}"><title>{html.escape(str(label))}</title>'
            "</circle>" for x, y, r, label in zip(points.geometry.x, points.geometry.y, radii,
                                                  points[name], strict=True))
        box = f"{west} {-north} {wide} {north - south}"
        self.html = PAGE.format(
            id=f"gislab-map-{next(_COUNT)}", width=width, box=box, west=west, top=-north, w=wide,
            h=north - south, box_list=box.replace(" ", ", "), stroke=wide / 900,
            png=base64.b64encode(buffer.getvalue()).decode(), dots=dots,
            title=html.escape(title), alt=html.escape(f"Map of {len(points)} places. {title}"))

    def __str__(self) -> str:
        return self.html

    def _repr_html_(self) -> str:
        return self.html
