"""Geometries as PostGIS stores them: extended WKB with its SRID, or a plain word why not."""

from __future__ import annotations

from collections.abc import Callable

import geopandas
import numpy
import shapely

_KINDS = ("Point", "LineString", "LinearRing", "Polygon", "MultiPoint", "MultiLineString",
          "MultiPolygon", "GeometryCollection")  # by shapely's type id
_RING = 2
_SRID, _Z = 0x20000000, 0x80000000  # flags of the type number in extended WKB


class LoadError(ValueError):
    """A frame cannot be loaded as it is; the text says why, where, and what to do."""


class CrsMissing(LoadError):
    """Coordinates without a coordinate reference system are numbers, not places."""


class MixedCrs(LoadError):
    """Geometries of one column say that they are in different reference systems."""


class BadGeometry(LoadError):
    """A geometry that PostGIS would refuse or change."""


def column(name: str, geometry: geopandas.GeoSeries) -> tuple[str, Callable]:
    """Return the SQL type of a geometry column, and what encodes a slice of its rows."""
    code, has_z = _check(name, geometry)
    shapes = numpy.asarray(geometry.array)
    kinds = set(numpy.unique(shapely.get_type_id(shapes)).tolist()) - {-1}
    kind = _KINDS[kinds.pop()] if len(kinds) == 1 else "Geometry"
    whole = not (shapely.is_missing(shapes) | shapely.is_empty(shapes)).any()
    if kind == "Point" and whole:
        return (f"geometry(Point{'Z' * has_z},{code})",
                lambda rows: _points(shapes[rows], code, has_z))
    return (f"geometry({kind}{'Z' * has_z},{code})",
            lambda rows: _ewkb(shapes[rows], code, has_z).tolist())


def ewkb(geometry: geopandas.GeoSeries) -> list[bytes | None]:
    """Return every geometry as the bytes that PostGIS would store; None where there is none."""
    code, has_z = _check(str(geometry.name), geometry)
    return _ewkb(numpy.asarray(geometry.array), code, has_z).tolist()


def _check(name: str, geometry: geopandas.GeoSeries) -> tuple[int, bool]:
    """Return (EPSG code, has Z) of a column in which everything is as PostGIS wants it."""
    if geometry.crs is None:
        raise CrsMissing(f"column {name} has no CRS; say which it is with "
                         "gdf.set_crs('EPSG:4326'), after a look at its coordinates")
    # 20: CRS84, of GeoJSON, is EPSG:4326 with the axes in the order that we store anyway
    code = geometry.crs.to_epsg() or geometry.crs.to_epsg(min_confidence=20)
    if code is None:
        raise CrsMissing(f"the CRS of column {name} ({geometry.crs.name}) has no EPSG code; load "
                         "gdf.to_crs('EPSG:4326')")
    shapes = numpy.asarray(geometry.array)
    others = set(numpy.unique(shapely.get_srid(shapes)).tolist()) - {0, -1, code}
    if others:
        raise MixedCrs(f"column {name} is in EPSG:{code}, but geometries in it say "
                       f"{', '.join(f'EPSG:{c}' for c in sorted(others))}; bring each into one "
                       "CRS with to_crs, then shapely.set_srid(geometry, 0)")
    full = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    z = shapely.has_z(full)
    if z.any() and not z.all():
        raise BadGeometry(f"column {name}: some geometries have a height (Z) and some have none; "
                          "make them alike with gdf.geometry.force_2d() or .force_3d()")
    if shapely.has_m(full).any():
        raise BadGeometry(f"column {name} has measures (M), which GeoDataFrames lose on their "
                          "way back; leave them out with gdf.geometry.force_3d()")
    if (shapely.get_type_id(full) == _RING).any():
        raise BadGeometry(f"column {name} holds LinearRings, which WKB does not know; make them "
                          "polygons with shapely.polygons, or lines with shapely.linestrings")
    _check_finite(name, geometry, bool(z.any()))
    return code, bool(z.any())


def _check_finite(name: str, geometry: geopandas.GeoSeries, has_z: bool) -> None:
    shapes = numpy.asarray(geometry.array)
    numbers, rows = shapely.get_coordinates(shapes, include_z=has_z, return_index=True)
    bad = ~numpy.isfinite(numbers).all(axis=1)
    if bad.any():
        raise BadGeometry(f"column {name}: row {geometry.index[rows[bad.argmax()]]!r} has a "
                          f"coordinate that is NaN or infinite ({len(set(rows[bad]))} rows in "
                          "all); leave these rows out, or put None there")


def _ewkb(shapes: numpy.ndarray, code: int, has_z: bool) -> numpy.ndarray:
    if has_z:  # an empty geometry has no Z of its own, and a column with Z wants one
        shapes = numpy.where(shapely.is_empty(shapes), shapely.force_3d(shapes), shapes)
    return shapely.to_wkb(shapely.set_srid(shapes, code), include_srid=True, byte_order=1)


def _points(shapes: numpy.ndarray, code: int, has_z: bool) -> numpy.ndarray:
    """Return points as extended WKB of one length, without a Python object for each."""
    axes = ["x", "y", "z"][:3 if has_z else 2]
    record = numpy.empty(len(shapes), dtype=[
        ("order", "u1"), ("type", "<u4"), ("srid", "<u4"), *[(axis, "<f8") for axis in axes]])
    record["order"] = 1  # little-endian
    record["type"] = 1 | _SRID | _Z * has_z
    record["srid"] = code
    for axis, numbers in zip(axes, shapely.get_coordinates(shapes, include_z=has_z).T,
                             strict=True):
        record[axis] = numbers
    return record
