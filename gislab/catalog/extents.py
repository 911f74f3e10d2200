"""Where a layer is: its extent, given in degrees, in the units of its own reference system.

Both map servers want to be told, so that capabilities ask the database nothing.
"""

from __future__ import annotations

from functools import cache

import pyproj

Box = tuple[float, float, float, float]  # west, south, east, north


@cache
def native(extent: Box, srs: str) -> Box:
    """Return the box around an extent, in units of `srs`, x before y.

    An extent is cut first to where the reference system is valid (EPSG's "area of use"): of the
    whole world a system of one country makes numbers without a meaning.

    Parameters
    ----------
    extent : degrees. srs : e.g. "EPSG:25832".

    Raises
    ------
    ValueError : there is no such system, or it has no plane; or the extent is not where it is.
    """
    try:
        crs = pyproj.CRS(srs)
    except pyproj.exceptions.CRSError:
        raise ValueError(f"srs {srs!r}: there is no such system; say e.g. 'EPSG:4326'") from None
    if not (crs.is_geographic or crs.is_projected) or len(crs.axis_info) != 2:
        raise ValueError(f"srs {srs!r} is no system of a map, but {crs.name}; say e.g. "
                         "'EPSG:4326'")
    shared = _cut(extent, crs.area_of_use.bounds) if crs.area_of_use else extent
    if shared is None:
        area = ", ".join(f"{edge:g}" for edge in crs.area_of_use.bounds)
        raise ValueError(f"extent {extent} is degrees, and nothing of it is where {srs} is valid "
                         f"({area}); say another extent")
    return pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform_bounds(*shared)


def _cut(extent: Box, area: Box) -> Box | None:
    """Return what both share; west is larger than east where it lies across the date line."""
    west, south, east, north = extent
    first, low, last, high = area
    spans = [(first, last)] if first <= last else [(first, 180.0), (-180.0, last)]
    shared = [(max(west, a), min(east, b)) for a, b in spans if max(west, a) < min(east, b)]
    south, north = max(south, low), min(north, high)
    return (shared[0][0], south, shared[-1][1], north) if shared and south < north else None
