"""A GeoDataFrame, or a file, into PostGIS: one binary COPY to the primary, all of it or nothing.

The stream of a binary COPY is built for whole columns at a time, in a thread of its own, while
the server takes in what was built before. Then the server counts and hashes what it stored; only
if that is what was sent, key and spatial index are made and the table takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import geopandas
import numpy
import psycopg
import shapely
from psycopg import sql

from .. import database
from ..database import first_line
from ..progress import Bar
from ..settings import Lab
from . import copying, files, proof, shapes, target
from .proof import Tally, fingerprint
from .shapes import LoadError
from .target import (
    GEOMETRY,
    KEY,
    BadName,
    DoubleKey,
    DuplicateColumns,
    TableExists,
    WrongColumns,
)

__all__ = ["Altered", "BadName", "DoubleKey", "DuplicateColumns", "Interrupted", "LoadError",
           "Loaded", "Refused", "TableExists", "WrongColumns", "fingerprint",
           "fingerprint_query", "load", "load_file"]

CHUNK = 20_000  # rows that are built and sent at a time, if they are small


class Refused(LoadError):
    """PostgreSQL does not take this; nothing was loaded."""


class Altered(LoadError):
    """The server stored something else than was sent; nothing was loaded."""


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
         to_crs: object = None, index: bool = True, verify: bool = True,
         progress: Callable[[int, int], None] | bool | None = None, say=print) -> Loaded:
    """Load a frame into a table of the primary, through the VIP, in one transaction.

    The geometry column becomes `geom`, in the frame's own CRS. A unique column `id` becomes the
    primary key; without one, rows are numbered from 1 in their order. NaN in a number becomes
    NULL, as everywhere in pandas. The frame's index is not loaded.

    Parameters
    ----------
    gdf : GeoDataFrame in any CRS that PostGIS has a number for.
    table : "places" or "schema.places"; a missing schema is made.
    if_exists : `refuse`; `replace`: readers see the old rows until the new ones are all there;
        or `append`: the frame must have the table's columns and types.
    to_crs : transform the geometries first, e.g. "EPSG:4326"; anything that pyproj takes.
    index : whether to make a spatial index (GiST), after the rows.
    verify : whether the server hashes what it stored, before it is kept. It always counts.
    progress : called with (rows sent, rows in all) after each part, instead of the bar that a
        notebook or a terminal shows; False for none.

    Raises
    ------
    LoadError : one class for each reason, with the remedy; the table is as it was before.
    """
    name = target.split(table)
    if to_crs is not None:
        _names(gdf)
        shapes.srid(str(gdf.geometry.name), gdf.crs)
        gdf = gdf.to_crs(to_crs)
    columns = _columns(gdf)
    work = _Work(lab, name, columns, len(gdf), if_exists, index, verify)
    with Bar(f"loading {table}", progress) as bar:
        return work.run(iter([(columns, _cuts(gdf), len(gdf))]), bar, say)


def load_file(lab: Lab, path: str | Path, table: str, *, layer: str | int | None = None,
              columns: list[str] | None = None, crs: object = None, to_crs: object = None,
              if_exists: str = "refuse", index: bool = True, verify: bool = True,
              progress: Callable[[int, int], None] | bool | None = None, say=print,
              **options) -> Loaded:
    """Load a file of any format that GDAL reads, in batches: it may be larger than memory.

    It is read twice: first its geometries alone, since the column's type follows from all of
    them; then everything. A mistake in the last row is known before anything was sent.

    Parameters
    ----------
    path : a file, or a name that GDAL knows, e.g. "/vsizip/places.zip/places.shp".
    layer : its name or number; needed where there are several.
    columns : fields to load; all by default.
    crs : where the file does not say it, or says it wrongly.
    options : of GDAL's driver (its page: "Open options"), e.g. X_POSSIBLE_NAMES="lon".
    others : as of `load`.

    Raises
    ------
    LoadError : as of `load`, and files.Unreadable.
    """
    name = target.split(table)
    file = files.source(path, layer, columns=columns, crs=crs, to_crs=to_crs, options=options)
    with Bar(f"reading {path}", progress if progress is False else None) as bar:
        layout, rows = files.survey(file, bar)
    empty = next(frames := file.frames())
    frames.close()
    work = _Work(lab, name, _columns(empty, layout), rows, if_exists, index, verify)
    with Bar(f"loading {table}", progress) as bar:
        return work.run(((_columns(frame, layout), _cuts(frame), len(frame))
                         for frame in file.frames()), bar, say)


def fingerprint_query(table: str) -> str:
    """Return SQL for: count of rows, a hash of all rows in any order, a hash of geometries."""
    schema, name = target.split(table)
    return (f"""select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0), coalesce(sum("""
            f"""('x' || left(md5(ST_AsEWKB({GEOMETRY}, 'NDR')), 15))::bit(60)::bigint), 0) """
            f"""from "{schema}"."{name}" t""")


@dataclass
class _Work:
    """One load: where to, of which columns, and how far it is."""

    lab: Lab
    table: tuple[str, str]
    columns: list[copying.Column]
    rows: int
    if_exists: str
    index: bool
    verify: bool
    sent: int = 0
    committing: bool = False
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self):
        if self.if_exists not in ("refuse", "replace", "append"):
            raise ValueError(f'if_exists = {self.if_exists!r}: say "refuse", "replace" or '
                             '"append"')

    def run(self, batches: Iterator, bar: Bar, say) -> Loaded:
        """Do all of it in one transaction."""
        start = time.monotonic()
        table = ".".join(self.table)
        try:
            with database.connect(self.lab, "gis", port=self.lab.ports.primary) as connection:
                self._inside(connection, batches, bar)
                self.committing = True
        except (psycopg.errors.UniqueViolation, psycopg.errors.NotNullViolation) as error:
            said = error.diag.message_detail or f"{first_line(error)}."
            raise DoubleKey(f"{table}: {said} Rows that are there already cannot be appended; say "
                            'if_exists="replace" to load everything anew. An id with gaps or '
                            "doubles: rename it, and rows are numbered") from None
        except psycopg.errors.DependentObjectsStillExist as error:
            raise TableExists(f"{table}: cannot be replaced, {error.diag.message_detail}. Drop "
                              "the view first, or load into another table") from None
        except psycopg.errors.ProgramLimitExceeded as error:
            raise Refused(f"{table}: {first_line(error)}. Nothing was loaded") from None
        except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            fate = ("Nothing was sent; see gislab status" if not self.sent else
                    "All or nothing of it was loaded; look which" if self.committing else
                    "Nothing was loaded")
            raise Interrupted(f"{table}: {first_line(error)}. {fate}. Load again: it gives no "
                              'doubles with if_exists="replace", or with a column id') from None
        except psycopg.Error as error:
            raise Refused(f"{table}: {first_line(error)}. Nothing was loaded; change the value "
                          "that it names, or load its column as text") from None
        done = Loaded(table, self.tally.rows, time.monotonic() - start, self.sent / 1e6)
        say(str(done))
        return done

    def _inside(self, connection, batches: Iterator, bar: Bar) -> None:
        target.check_crs(connection, self.columns)
        into, fresh = target.prepare(connection, *self.table, self.columns, self.if_exists)
        names = [column.name for column in self.columns]
        # a sequence would be asked once for each row
        numbered = fresh and KEY not in names
        names = sql.SQL(", ").join(map(sql.Identifier, [KEY] * numbered + names))
        # FREEZE: rows of a new table need no second visit by vacuum
        options = sql.SQL("format binary, freeze" if fresh else "format binary")
        cursor = connection.cursor()
        parts = copying.ahead(copying.stream(batches, self.tally if self.verify else None,
                                             numbered=numbered))
        with cursor.copy(sql.SQL("copy {} ({}) from stdin with ({})").format(
                sql.Identifier(*into), names, options)) as copy:
            told = 0
            for part, done in parts:
                copy.write(part)
                self.sent += len(part)
                if done > told:
                    told = done
                    bar(told, self.rows)
        self._prove(connection, into, fresh, told, cursor.rowcount)
        if numbered:
            target.go_on_numbering(connection, into, told + 1)
        if fresh:
            target.finish(connection, into, self.table, self.index)
        else:
            target.analyze(connection, into)

    def _prove(self, connection, into, fresh: bool, sent: int, stored: int) -> None:
        wrong = stored != sent
        self.tally.rows = sent
        if self.verify and self.columns and not wrong:
            count, total = connection.execute(
                proof.question(self.columns, into, new_only=not fresh)).fetchone()
            wrong = (count, int(total) % 2**64) != (sent, self.tally.hash)
        if wrong:
            raise Altered(f"{'.'.join(self.table)}: {sent} rows were sent, and the server stored "
                          "others. A trigger on the table may have changed them (then say "
                          "verify=False); else test the memory and the disk of that Pi")


def _cuts(gdf: geopandas.GeoDataFrame) -> list[int]:
    """Return the rows before which a new part begins, so that parts are of about one size."""
    size = (100 + 16 * shapely.get_num_coordinates(gdf.geometry.array)).cumsum()
    step = 100 * CHUNK
    return numpy.searchsorted(size, range(step, int(size[-1]) if len(size) else 0, step)).tolist()


def _names(gdf: geopandas.GeoDataFrame) -> list[str]:
    """Return what the columns will be called."""
    if not isinstance(gdf, geopandas.GeoDataFrame) or gdf._geometry_column_name is None:
        raise LoadError(f"this {type(gdf).__name__} has no geometry column; make one with "
                        "geopandas.GeoDataFrame(frame, geometry=..., crs=...)")
    names = [GEOMETRY if name == gdf._geometry_column_name else name for name in gdf.columns]
    for name in names:
        target.check_column(name)
        if names.count(name) > 1:
            raise DuplicateColumns(f"column {name!r} is there twice (the geometry is called "
                                   f"{GEOMETRY}); rename one with gdf.rename(columns=...)")
    return names


def _columns(gdf: geopandas.GeoDataFrame,
             layout: shapes.Layout | None = None) -> list[copying.Column]:
    """Return the columns of the table to be, checked, in the frame's order.

    layout : of the geometries of the whole file of which this frame is a part.
    """
    names = _names(gdf)
    if layout is not None:
        array = numpy.asarray(gdf.geometry.array)
        whole = copying.Column(GEOMETRY, layout.type,
                               lambda rows: shapes.encode(array[rows], layout))
        return [whole if name == GEOMETRY else copying.column(name, gdf.iloc[:, i])
                for i, name in enumerate(names)]
    if KEY in names:
        keys = gdf.iloc[:, names.index(KEY)]
        if keys.isna().any() or not keys.is_unique:
            raise DoubleKey("column 'id' has gaps or doubles; make it unique, or rename it and "
                            "rows are numbered from 1")
    return [copying.column(name, gdf.iloc[:, i]) for i, name in enumerate(names)]
