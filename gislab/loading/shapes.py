"""Geometries as PostGIS stores them: extended WKB with its SRID, or a plain word why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import geopandas
import numpy
import pyproj
import shapely

from .values import Encoded, binary, cut, joined, listed

_KINDS = ("Point", "LineString", "LinearRing", "Polygon", "MultiPoint", "MultiLineString",
          "MultiPolygon", "GeometryCollection")  # by shapely's type id
_POINT, _LINE, _RING, _POLYGON, _COLLECTION = 0, 1, 2, 3, 7
# WKB's number of a type, and what it counts before the coordinates
_PLAIN = {_POINT: (1, ()), _LINE: (2, ("corners",)), _POLYGON: (3, ("rings", "corners"))}
_SRID, _Z = 0x20000000, 0x80000000  # flags of the type number in extended WKB


class LoadError(ValueError):
    """A frame cannot be loaded as it is; the text says why, where, and what to do."""


class CrsMissing(LoadError):
    """Coordinates without a coordinate reference system are numbers, not places."""


class MixedCrs(LoadError):
    """Geometries of one column say that they are in different reference systems."""


class BadGeometry(LoadError):
    """A geometry that PostGIS would refuse or change."""


@dataclass(frozen=True)
class Layout:
    """What a whole geometry column is: its kinds of shape, with Z or without, its SRID."""

    code: int
    kinds: frozenset[int] = frozenset()  # shapely's type ids
    z: frozenset[bool] = frozenset()

    def __or__(self, other: Layout) -> Layout:
        """Join what was seen in two parts of one column."""
        return Layout(self.code, self.kinds | other.kinds, self.z | other.z)

    @property
    def has_z(self) -> bool:
        return True in self.z

    @property
    def type(self) -> str:
        """The SQL type; one kind of shape where all are of one."""
        kind = _KINDS[min(self.kinds)] if len(self.kinds) == 1 else "Geometry"
        return f"geometry({kind}{'Z' * self.has_z},{self.code})"


def column(name: str, geometry: geopandas.GeoSeries) -> tuple[str, Callable]:
    """Return the SQL type of a geometry column, and what encodes a slice of its rows."""
    layout = alike(name, look(name, geometry))
    shapes = numpy.asarray(geometry.array)
    return layout.type, lambda rows: encode(shapes[rows], layout)


def ewkb(geometry: geopandas.GeoSeries) -> list[bytes | None]:
    """Return every geometry as the bytes that PostGIS would store; None where there is none."""
    layout = alike(str(geometry.name), look(str(geometry.name), geometry))
    return _ewkb(numpy.asarray(geometry.array), layout).tolist()


def srid(name: str, crs: pyproj.CRS | None) -> int:
    """Return the number by which PostGIS knows a CRS; CrsMissing where it knows none."""
    if crs is None:
        raise CrsMissing(f"column {name} has no CRS; say which it is with "
                         "gdf.set_crs('EPSG:4326'), after a look at its coordinates")
    code = crs.to_epsg()
    if code is None:
        # CRS84, of GeoJSON, is EPSG:4326 with the axes in the order that we store anyway; but a
        # guess by likeness may also be another CRS with the same name or origin
        guess = crs.to_epsg(min_confidence=20)
        if guess and pyproj.CRS(guess).equals(crs, ignore_axis_order=True):
            code = guess
    if code is None and (crs.to_authority() or ("", ""))[0] == "ESRI":
        code = int(crs.to_authority()[1])  # these are in spatial_ref_sys by the same number
    if code is None:
        raise CrsMissing(f"the CRS of column {name} ({crs.name}) has no EPSG code, so PostGIS has "
                         "no number for it; load it with to_crs='EPSG:4326'")
    return code


def look(name: str, geometry: geopandas.GeoSeries) -> Layout:
    """Return the layout of a column, or of a part of it, in which PostGIS can keep all of it."""
    code = srid(name, geometry.crs)
    shapes = numpy.asarray(geometry.array)
    said = shapely.get_srid(shapes)
    others = set(numpy.unique(said[said != 0]).tolist()) - {-1, code}
    if others:
        raise MixedCrs(f"column {name} is in EPSG:{code}, but geometries in it say "
                       f"{', '.join(f'EPSG:{c}' for c in sorted(others))}; bring each into one "
                       "CRS with to_crs, then shapely.set_srid(geometry, 0)")
    kinds = set(numpy.unique(shapely.get_type_id(shapes)).tolist()) - {-1}
    full = shapes[_there(shapes)]
    parts = full if _COLLECTION in kinds else full[:0]
    while (nested := shapely.get_type_id(parts) == _COLLECTION).any():
        parts = numpy.concatenate([parts[~nested], shapely.get_parts(parts[nested])])
    if _RING in kinds or (shapely.get_type_id(parts) == _RING).any():
        raise BadGeometry(f"column {name} holds LinearRings, which WKB does not know; make them "
                          "polygons with shapely.polygons, or lines with shapely.linestrings")
    if shapely.has_m(full).any():
        raise BadGeometry(f"column {name} has measures (M), which GeoDataFrames lose on their "
                          "way back; leave them out with gdf.geometry.force_3d()")
    found = Layout(code, frozenset(kinds), frozenset(numpy.unique(shapely.has_z(full)).tolist()))
    _check_finite(name, geometry, found.z == {True})
    return found


def alike(name: str, layout: Layout) -> Layout:
    """Return the layout of a whole column; BadGeometry where only some of it has Z."""
    if len(layout.z) > 1:
        raise BadGeometry(f"column {name}: some geometries have a height (Z) and some have none; "
                          "make them alike with gdf.geometry.force_2d() or .force_3d()")
    return layout


def encode(shapes: numpy.ndarray, layout: Layout) -> Encoded:
    """Return shapes as extended WKB.

    Points, lines and polygons without holes are made of all their coordinates at once, others
    one by one.
    """
    plain = len(layout.kinds) == 1 and layout.kinds <= _PLAIN.keys() and _there(shapes).all()
    if plain and _POLYGON in layout.kinds:
        plain = not shapely.get_num_interior_rings(shapes).any()
    return _plain(shapes, layout) if plain else listed(_ewkb(shapes, layout))


def _there(shapes: numpy.ndarray) -> numpy.ndarray:
    """Tell of each whether it has coordinates."""
    return ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))


def _check_finite(name: str, geometry: geopandas.GeoSeries, has_z: bool) -> None:
    shapes = numpy.asarray(geometry.array)
    if not numpy.isfinite(shapely.get_coordinates(shapes, include_z=has_z)).all():
        numbers, rows = shapely.get_coordinates(shapes, include_z=has_z, return_index=True)
        bad = ~numpy.isfinite(numbers).all(axis=1)
        raise BadGeometry(f"column {name}: row {geometry.index[rows[bad.argmax()]]!r} has a "
                          f"coordinate that is NaN or infinite ({len(set(rows[bad]))} rows in "
                          "all); leave these rows out, or put None there")


def _ewkb(shapes: numpy.ndarray, layout: Layout) -> numpy.ndarray:
    if layout.has_z:  # an empty part has no Z of its own, and a column with Z wants one
        shapes = shapely.force_3d(shapes)
    return shapely.to_wkb(shapely.set_srid(shapes, layout.code), include_srid=True,
                          byte_order=1)


def _plain(shapes: numpy.ndarray, layout: Layout) -> Encoded:
    """Return shapes of one point, chain or ring each, without a Python object for each."""
    (kind,) = layout.kinds
    number, counts = _PLAIN[kind]
    numbers = shapely.get_coordinates(shapes, include_z=layout.has_z).astype("<f8", copy=False)
    axes = [("at", "<f8", numbers.shape[1:])] if kind == _POINT else []
    record = numpy.empty(len(shapes), [("order", "u1"), ("type", "<u4"), ("srid", "<u4"),
                                       *((count, "<u4") for count in counts), *axes])
    record["order"] = 1  # little-endian
    record["type"] = number | _SRID | _Z * layout.has_z
    record["srid"] = layout.code
    if kind == _POINT:
        record["at"] = numbers
        return record
    if kind == _POLYGON:
        record["rings"] = 1
    record["corners"] = corners = shapely.get_num_coordinates(shapes)
    return joined(binary(record), cut(numbers, corners * numbers.strides[0]))
