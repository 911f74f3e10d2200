"""WFS-T 2.0 (OGC 09-025, 15): what is to be changed as XML, and what the server says of it.

Knows no lab and asks nobody; `ows.transact` sends it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import geopandas
import numpy
import pandas as pd
import shapely

from .catalog import Layer

WFS = "http://www.opengis.net/wfs/2.0"
FES = "http://www.opengis.net/fes/2.0"
GML = "http://www.opengis.net/gml/3.2"
# The form of a CRS in which GeoServer reads x before y, for every CRS (its manual, "WFS basics",
# axis ordering); GeoPandas has them so, too.
CRS = "http://www.opengis.net/gml/srs/epsg.xml#{code}"
PARTS = {"MultiPoint": ("MultiPoint", "pointMember"),
         "MultiLineString": ("MultiCurve", "curveMember"),
         "MultiPolygon": ("MultiSurface", "surfaceMember")}


@dataclass(frozen=True)
class Changed:
    """What a transaction has changed; `keys` are those of the new features, as texts."""

    inserted: int
    updated: int
    deleted: int
    keys: tuple[str, ...] = ()


def body(layer: Layer, workspace: str, *, insert: geopandas.GeoDataFrame | None = None,
         update: Mapping[object, Mapping[str, object]] | None = None,
         delete: Sequence[object] = ()) -> str:
    """Return the request; ValueError if there is nothing in it, or something that cannot be sent.

    Parameters
    ----------
    insert : new features, in any CRS, without keys: the table's sequence makes those, or
        GeoServer takes the next number. What is missing will be empty.
    update : key -> the columns to change and their new values; None empties one.
    delete : keys.
    """
    name = f"{workspace}:{layer.name}"
    parts = []
    if insert is not None and len(insert):
        parts.append("<wfs:Insert>" + "".join(
            f"<{name}>{feature}</{name}>" for feature in _features(layer, workspace, insert))
            + "</wfs:Insert>")
    for key, values in (update or {}).items():
        if not values:
            raise ValueError(f"update of {key!r} changes no column; say e.g. {{'name': 'Bonn'}}")
        inside = "".join(
            f"<wfs:Property><wfs:ValueReference>{_column(column, layer)}</wfs:ValueReference>"
            + ("" if _missing(value) else f"<wfs:Value>{_value(value, layer)}</wfs:Value>")
            + "</wfs:Property>" for column, value in values.items())
        parts.append(f"<wfs:Update typeName={quoteattr(name)}>{inside}{_filter(layer, [key])}"
                     "</wfs:Update>")
    if len(delete):
        parts.append(f"<wfs:Delete typeName={quoteattr(name)}>{_filter(layer, delete)}"
                     "</wfs:Delete>")
    if not parts:
        raise ValueError("nothing to change: say insert=, update= or delete=")
    return (f'<wfs:Transaction service="WFS" version="2.0.0" xmlns:wfs="{WFS}" xmlns:fes="{FES}" '
            f'xmlns:gml="{GML}" xmlns:{workspace}="http://{workspace}">{"".join(parts)}'
            "</wfs:Transaction>")


def answer(text: bytes) -> Changed | None:
    """Return what the server says it has changed; None if that is not what it says."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    if root.tag != f"{{{WFS}}}TransactionResponse":
        return None
    counts = [int(root.findtext(f".//{{{WFS}}}total{what}") or 0)
              for what in ("Inserted", "Updated", "Deleted")]
    made = [e.get("rid", "") for e in root.iterfind(
        f".//{{{WFS}}}InsertResults//{{{FES}}}ResourceId")]
    return Changed(*counts, tuple(rid.rpartition(".")[2] for rid in made))


def gml(shape: shapely.Geometry, code: str) -> str:
    """Return a shape as GML 3.2; ValueError where there is no such thing in WFS.

    Parameters
    ----------
    code : the number of its CRS, e.g. "4326".
    """
    return _gml(shape, f' srsName="{CRS.format(code=code)}" srsDimension="{_dimension(shape)}"')


def _features(layer: Layer, workspace: str, frame: geopandas.GeoDataFrame):
    if frame.crs is None:
        raise ValueError("the features to insert have no CRS; say frame.set_crs(4326)")
    if layer.key in frame.columns:
        raise ValueError(f"new features get their {layer.key} from the table; leave that column "
                         "out, and read `keys` of what is returned")
    frame = frame.to_crs(layer.srs)
    if frame.active_geometry_name != layer.geometry:
        frame = frame.rename_geometry(layer.geometry)
    columns = [_column(column, layer) for column in frame.columns]
    for row in frame.itertuples(index=False, name=None):
        yield "".join(f"<{workspace}:{column}>{_value(value, layer)}</{workspace}:{column}>"
                      for column, value in zip(columns, row, strict=True) if not _missing(value))


def _filter(layer: Layer, keys: Sequence[object]) -> str:
    return "<fes:Filter>" + "".join(
        f"<fes:ResourceId rid={quoteattr(f'{layer.name}.{key}')}/>" for key in keys
    ) + "</fes:Filter>"


def _column(name: object, layer: Layer) -> str:
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"column {name!r} of layer {layer.name}: letters, digits and _ only")
    return name


def _value(value: object, layer: Layer) -> str:
    if isinstance(value, shapely.Geometry):
        return gml(value, layer.srs.removeprefix("EPSG:"))
    if isinstance(value, bool | numpy.bool_):
        return str(bool(value)).lower()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, dict | list):
        return escape(json.dumps(value))
    return escape(str(value))


def _missing(value: object) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _gml(shape: shapely.Geometry, attributes: str = "") -> str:
    kind = shape.geom_type
    if shape.is_empty:
        raise ValueError("an empty shape cannot be sent; leave it out (None)")
    if kind == "Point":
        return f"<gml:Point{attributes}><gml:pos>{_numbers(shape)}</gml:pos></gml:Point>"
    if kind in ("LineString", "LinearRing"):
        return (f"<gml:{kind}{attributes}><gml:posList>{_numbers(shape)}</gml:posList>"
                f"</gml:{kind}>")
    if kind == "Polygon":
        rings = [("exterior", shape.exterior), *(("interior", r) for r in shape.interiors)]
        inside = "".join(f"<gml:{side}>{_gml(ring)}</gml:{side}>" for side, ring in rings)
        return f"<gml:Polygon{attributes}>{inside}</gml:Polygon>"
    if kind in PARTS:
        whole, member = PARTS[kind]
        inside = "".join(f"<gml:{member}>{_gml(part)}</gml:{member}>" for part in shape.geoms)
        return f"<gml:{whole}{attributes}>{inside}</gml:{whole}>"
    raise ValueError(f"a {kind} cannot be sent; say points, lines or polygons")


def _numbers(shape: shapely.Geometry) -> str:
    flat = shapely.get_coordinates(shape, include_z=shape.has_z).ravel()
    return " ".join(repr(float(number)) for number in flat)


def _dimension(shape: shapely.Geometry) -> int:
    return 3 if shape.has_z else 2
