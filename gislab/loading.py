"""A GeoDataFrame into PostGIS: one binary COPY through the VIP, all of it or nothing.

The stream of a binary COPY (PostgreSQL manual, COPY, "Binary Format") is built for whole columns
at a time with numpy, not row by row; points, whose rows are all of one length, need no Python
object at all. The spatial index is made after the rows are in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5

import geopandas
import psycopg
from psycopg import sql

from . import copying, database, shapes
from .settings import Lab
from .shapes import LoadError

__all__ = ["LoadError", "Loaded", "fingerprint", "fingerprint_query", "load"]

GEOMETRY = "geom"  # how the geometry column is called in every table of the lab
KEY = "id"
CHUNK = 20_000  # rows that are built and sent at a time
# Columns that PostgreSQL keeps for itself (manual, 5.6 "System Columns").
_SYSTEM = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}


class BadName(LoadError):
    """A table or column cannot be called this."""


class DuplicateColumns(LoadError):
    """Two columns would have one name."""


class TableExists(LoadError):
    """The table is there already, and nobody said what to do with it."""


class WrongColumns(LoadError):
    """The frame does not fit the table that it was to be appended to."""


class DoubleKey(LoadError):
    """The column `id` is to tell rows apart, and does not."""


class Interrupted(LoadError):
    """The connection broke while loading: nothing is there, unless it broke at the very end."""


@dataclass(frozen=True)
class Loaded:
    """What a load did."""

    table: str
    rows: int
    seconds: float
    megabytes: float

    def __str__(self) -> str:
        return (f"{self.table}: loaded {self.rows} rows, {self.megabytes:.1f} MB, "
                f"in {self.seconds:.1f} s ({self.rows / max(self.seconds, 1e-3):.0f} rows/s)")


def load(lab: Lab, gdf: geopandas.GeoDataFrame, table: str, *, if_exists: str = "refuse",
         index: bool = True, progress: Callable[[int, int], None] | None = None,
         say=print) -> Loaded:
    """Load a frame into a table of the primary, through the VIP, in one transaction.

    The geometry column becomes `geom`, in the frame's own CRS. A unique column `id` becomes the
    primary key; without one, rows are numbered from 1 in their order. NaN in a number becomes
    NULL, as everywhere in pandas. The frame's index is not loaded.

    Parameters
    ----------
    gdf : GeoDataFrame in any CRS that has an EPSG code.
    table : "places" or "schema.places"; a missing schema is made.
    if_exists : `refuse`; `replace`: readers see the old rows until the new ones are all there;
        or `append`: the frame must have the table's columns and types.
    index : whether to make a spatial index (GiST), after the rows.
    progress : called with (rows sent, rows in all) after each part.

    Raises
    ------
    LoadError : one class for each reason, with the remedy; the table is as it was before.
    """
    if if_exists not in ("refuse", "replace", "append"):
        raise ValueError(f'if_exists = {if_exists!r}: say "refuse", "replace" or "append"')
    start = time.monotonic()
    schema, name = _split(table)
    columns = _columns(gdf)
    sent = told = 0
    try:
        with database.connect(lab, "gis", port=lab.ports.primary) as connection:
            into, fresh = _prepare(connection, schema, name, columns, if_exists)
            names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
            # FREEZE: rows of a new table need no second visit by vacuum
            options = sql.SQL("format binary, freeze" if fresh else "format binary")
            with connection.cursor().copy(sql.SQL("copy {} ({}) from stdin with ({})").format(
                    sql.Identifier(*into), names, options)) as copy:
                for part, done in copying.stream(columns, len(gdf), CHUNK):
                    copy.write(part)
                    sent += len(part)
                    if progress and done > told:
                        told = done
                        progress(told, len(gdf))
            if fresh:
                _finish(connection, into, (schema, name), index)
            connection.execute(sql.SQL("analyze {}").format(sql.Identifier(schema, name)))
    except psycopg.errors.UniqueViolation as error:
        raise DoubleKey(f"{table}: {_first_line(error)}. Rows that are there already cannot be "
                        'appended; say if_exists="replace" to load everything anew') from None
    except psycopg.errors.DependentObjectsStillExist as error:
        raise TableExists(f"{table}: cannot be replaced, {error.diag.message_detail}. Drop the "
                          "view first, or load into another table") from None
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        fate = ("Most likely nothing was loaded" if sent else "Nothing was sent; see gislab "
                "status")
        raise Interrupted(f"{table}: {_first_line(error)}. {fate}. Load again: it gives no "
                          'doubles with if_exists="replace", or with a column id') from None
    done = Loaded(f"{schema}.{name}", len(gdf), time.monotonic() - start, sent / 1e6)
    say(str(done))
    return done


def fingerprint(gdf: geopandas.GeoDataFrame) -> int:
    """Return the sum of the geometries' hashes, as fingerprint_query's third number counts."""
    return sum(int(md5(one).hexdigest()[:15], 16)
               for one in shapes.ewkb(gdf.geometry) if one is not None)


def fingerprint_query(table: str) -> str:
    """Return SQL for: count of rows, a hash of all rows in any order, a hash of geometries."""
    schema, name = _split(table)
    return (f"""select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0), coalesce(sum("""
            f"""('x' || left(md5(ST_AsEWKB({GEOMETRY}, 'NDR')), 15))::bit(60)::bigint), 0) """
            f"""from "{schema}"."{name}" t""")


def _columns(gdf: geopandas.GeoDataFrame) -> list[copying.Column]:
    """Return the columns of the table to be, checked, in the frame's order."""
    if not isinstance(gdf, geopandas.GeoDataFrame) or gdf._geometry_column_name is None:
        raise LoadError(f"this {type(gdf).__name__} has no geometry column; make one with "
                        "geopandas.GeoDataFrame(frame, geometry=..., crs=...)")
    names = [GEOMETRY if name == gdf._geometry_column_name else name for name in gdf.columns]
    for name in names:
        _check_column(name)
        if names.count(name) > 1:
            raise DuplicateColumns(f"column {name!r} is there twice (the geometry is called "
                                   f"{GEOMETRY}); rename one with gdf.rename(columns=...)")
    if KEY in names:
        keys = gdf[KEY]
        if keys.isna().any() or keys.duplicated().any():
            raise DoubleKey("column 'id' has gaps or doubles; make it unique, or rename it and "
                            "rows are numbered from 1")
    return [copying.column(name, gdf.iloc[:, i]) for i, name in enumerate(names)]


def _prepare(connection, schema: str, name: str, columns: list[copying.Column],
             if_exists: str) -> tuple[tuple[str, str], bool]:
    """Return the table that rows go to, and whether it is new; one load of it at a time."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", (f"{schema}.{name}",))
    there = connection.execute("select to_regclass(%s)", (f'"{schema}"."{name}"',)).fetchone()[0]
    if there and if_exists == "refuse":
        raise TableExists(f'{schema}.{name} is there already; say if_exists="replace" or '
                          '"append"')
    if there and if_exists == "append":
        _check_fit(connection, schema, name, columns)
        return (schema, name), False
    into = f"{name[:50]}__loading" if there else name
    if schema != "public":
        connection.execute(sql.SQL("create schema if not exists {}").format(
            sql.Identifier(schema)))
    parts = [sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns]
    if KEY not in [column.name for column in columns]:
        parts.insert(0, sql.SQL("id bigint generated by default as identity"))
    connection.execute(sql.SQL("create table {} ({})").format(
        sql.Identifier(schema, into), sql.SQL(", ").join(parts)))
    return (schema, into), True


def _finish(connection, into: tuple[str, str], table: tuple[str, str], index: bool) -> None:
    """Make key and index, and put the new table in the place of the old one."""
    schema, name = table
    if into != table:  # the only moment when readers of the old table have to wait
        connection.execute(sql.SQL("drop table {}").format(sql.Identifier(*table)))
        connection.execute(sql.SQL("alter table {} rename to {}").format(
            sql.Identifier(*into), sql.Identifier(name)))
    connection.execute(sql.SQL("alter table {} add primary key (id)").format(
        sql.Identifier(*table)))
    if index:
        connection.execute(sql.SQL("create index on {} using gist ({})").format(
            sql.Identifier(*table), sql.Identifier(GEOMETRY)))


def _check_fit(connection, schema: str, name: str, columns: list[copying.Column]) -> None:
    rows = connection.execute(
        "select attname, format_type(atttypid, atttypmod), attidentity <> '' or atthasdef "
        "or not attnotnull from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and not attisdropped",
        (f'"{schema}"."{name}"',)).fetchall()
    there = {column: kind for column, kind, _ in rows}
    for column in columns:
        if there.get(column.name, "").lower() != column.type.lower():
            raise WrongColumns(f"{schema}.{name}: column {column.name} is "
                               f"{there.get(column.name, 'not there')}, the frame's is "
                               f'{column.type}; make them alike, or say if_exists="replace"')
    missing = [c for c, _, optional in rows
               if not optional and c not in {column.name for column in columns}]
    if missing:
        raise WrongColumns(f"{schema}.{name}: the frame has no {', '.join(missing)}; add it, or "
                           'say if_exists="replace"')


def _split(table: str) -> tuple[str, str]:
    schema, _, name = table.rpartition(".")
    for word in (schema or "public", name):
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", word):
            better = re.sub(r"[^a-z0-9_]+", "_", word.lower()).strip("_0123456789")[:63]
            raise BadName(f"table {table!r}: small letters, digits and _ only, since every "
                          f"query would have to quote it; e.g. {better or 'places'!r}")
    return schema or "public", name


def _check_column(name: object) -> None:
    if not isinstance(name, str):
        raise BadName(f"column {name!r} is no text; name it with gdf.rename(columns=str)")
    try:
        long = len(name.encode()) > 63  # PostgreSQL would cut it off (manual, 4.1.1)
    except UnicodeEncodeError:
        raise BadName(f"column {name!r} is no valid Unicode; rename it") from None
    if not name or "\0" in name or long or name in _SYSTEM:
        raise BadName(f"column {name!r}: a name has 1 to 63 bytes, no null byte, and is none of "
                      f"{', '.join(sorted(_SYSTEM))}; rename it")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
