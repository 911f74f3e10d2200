"""Does a catalog fit the tables of the database? Asked before anything is published."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from .. import database
from ..settings import Lab
from .layers import Catalog, CatalogError, Layer, Style

KINDS = {
    "polygon": {"polygon", "multipolygon", "curvepolygon", "multisurface"},
    "line": {"linestring", "multilinestring", "circularstring", "compoundcurve", "multicurve"},
    "point": {"point", "multipoint"},
}
TABLE = """
    select c.oid, has_table_privilege('reader', c.oid, 'select')
           and has_schema_privilege('reader', n.oid, 'usage')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'v', 'm', 'p', 'f')"""
COLUMNS = """
    select attname, format_type(atttypid, null), postgis_typmod_srid(atttypmod),
           postgis_typmod_type(atttypmod)
    from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped"""

KEY = """
    select attname from pg_index join pg_attribute on attrelid = indrelid and attnum = any(indkey)
    where indrelid = %s and indisprimary"""
MAY_WRITE = """
    select has_table_privilege('gis', %(table)s, 'insert')
           and has_table_privilege('gis', %(table)s, 'update')
           and has_table_privilege('gis', %(table)s, 'delete')"""


def problems(catalog: Catalog, lab: Lab) -> list[str]:
    """Say what a catalog expects of the database that is not so; a line for each.

    Raises
    ------
    CatalogError : the database cannot be asked at this moment.
    """
    try:
        with database.connect(lab, "reader", port=lab.ports.primary) as connection:
            return [line for layer in catalog.layers
                    for line in _layer(connection, layer, catalog.style(layer.style))]
    except psycopg.OperationalError as error:
        said = (str(error).strip() or "no answer").splitlines()[0]
        raise CatalogError(f"the database does not answer, so nothing was published ({said}); "
                           "see: gislab status") from None


def _layer(connection: psycopg.Connection, layer: Layer, style: Style) -> Iterator[str]:
    where = f"layer {layer.name}"
    found = connection.execute(TABLE, (layer.schema, layer.relation)).fetchone()
    if found is None:
        yield f"{where}: there is no table {layer.schema}.{layer.relation}; load it first"
        return
    oid, readable = found
    if not readable:
        yield (f"{where}: the role reader may not read {layer.schema}.{layer.relation}; as its "
               f"owner: grant select on {layer.table} to reader")
        return
    if layer.writable:
        yield from _writable(connection, layer, oid)
    columns = {name: rest for name, *rest in connection.execute(COLUMNS, (oid,))}
    for column in sorted({layer.key} | style.columns):
        if column not in columns:
            yield (f"{where}: {layer.table} has no column {column}; there are "
                   + ", ".join(columns))
    if layer.geometry not in columns:
        yield (f"{where}: {layer.table} has no geometry column {layer.geometry}; there are "
               + (", ".join(name for name, (kind, *_) in columns.items() if kind == "geometry")
                  or "none"))
        return
    kind, srid, shape = columns[layer.geometry]
    if kind != "geometry":
        yield f"{where}: {layer.geometry} of {layer.table} is no geometry, but {kind}"
        return
    if srid == 0:  # the column says nothing about itself: a row may
        srid, shape = _of_a_row(connection, layer) or (None, shape)
    if srid is not None and layer.srs != f"EPSG:{srid}":
        yield (f"{where}: {layer.table} is in EPSG:{srid}, the catalog says {layer.srs}; "
               f"say srs='EPSG:{srid}'")
    plain = shape.lower().rstrip("zm")
    if plain not in ("geometry", "geometrycollection") and plain not in KINDS[style.kind]:
        yield (f"{where}: {layer.table} holds {shape}, and style {style.name} draws "
               f"{style.kind}s; take a style of another kind")


def _writable(connection: psycopg.Connection, layer: Layer, oid: int) -> Iterator[str]:
    key = [name for name, in connection.execute(KEY, (oid,))]
    if key != [layer.key]:
        yield (f"layer {layer.name}: the primary key of {layer.table} is "
               f"{', '.join(key) or 'missing'}, and clients name what they change by "
               f"{layer.key}; alter table {layer.table} add primary key ({layer.key})")
    if not connection.execute(MAY_WRITE, {"table": oid}).fetchone()[0]:
        yield (f"layer {layer.name}: the role gis may not change {layer.table}; as its owner: "
               f"grant insert, update, delete on {layer.table} to gis")


def _of_a_row(connection: psycopg.Connection, layer: Layer) -> tuple[int, str] | None:
    column = sql.Identifier(layer.geometry)
    return connection.execute(sql.SQL(
        "select st_srid({0}), geometrytype({0}) from {1} where {0} is not null limit 1").format(
            column, sql.Identifier(layer.schema, layer.relation))).fetchone()
