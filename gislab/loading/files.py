"""A file of any format that GDAL reads, as frames of some thousand rows; never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import geopandas
import pandas
import pyarrow
import pyogrio
import pyproj
import shapely

from . import shapes
from .shapes import Layout, LoadError
from .target import GEOMETRY

BATCH = 16_000_000  # bytes of a file that are read at a time, as far as its rows are alike
_MOST, _FEWEST = 20_000, 50  # rows of a batch


class Unreadable(LoadError):
    """A file, or a layer of it, cannot be read."""


@dataclass(frozen=True)
class Source:
    """One layer of a file, and what to read of it."""

    path: str
    layer: str | int | None = None
    columns: list[str] | None = None
    crs: object = None  # what the file fails to say, or says wrongly
    to_crs: object = None
    options: dict = field(default_factory=dict)  # of the driver, as GDAL's `-oo`
    batch: int | None = None

    @cached_property
    def rows(self) -> int:
        """How many rows the file says it has, asked once; 0 where it does not say."""
        return max(pyogrio.read_info(self.path, layer=self.layer)["features"], 0)

    def frames(self, **what) -> Iterator[geopandas.GeoDataFrame]:
        """Yield frames, each with the same Arrow-backed dtypes; the first has no rows at all."""
        done = 0
        try:
            with pyogrio.open_arrow(self.path, layer=self.layer, use_pyarrow=True,
                                    batch_size=self.batch or self._batch(),
                                    **{"columns": self.columns, **self.options, **what}
                                    ) as (facts, reader):
                crs = facts["crs"] if self.crs is None else self.crs
                crs = None if crs is None else pyproj.CRS.from_user_input(crs)
                yield self._frame(reader.schema.empty_table(), crs, 0)
                for batch in reader:
                    if batch.num_rows:
                        yield self._frame(pyarrow.Table.from_batches([batch]), crs, done)
                        done += batch.num_rows
        except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError,
                pyogrio.errors.FeatureError, pyogrio.errors.FieldError, pyarrow.ArrowException,
                shapely.errors.ShapelyError, OSError) as error:
            raise Unreadable(f"{self.path}: {error}") from None

    def _batch(self) -> int:
        """Return how many rows make a batch, so that it holds some megabytes, not some rows."""
        size = Path(self.path).stat().st_size if Path(self.path).is_file() else 0
        if not self.rows or not size:
            return 2_000
        return int(min(max(BATCH * self.rows / size, _FEWEST), _MOST))

    def _frame(self, table: pyarrow.Table, crs, first: int) -> geopandas.GeoDataFrame:
        at = [i for i, one in enumerate(table.schema) if b"wkb" in (one.metadata or {}).get(
            b"ARROW:extension:name", b"")]
        if not at:
            raise Unreadable(f"{self.path}: has no geometry; where it has coordinates as numbers, "
                             "name them to GDAL, e.g. X_POSSIBLE_NAMES='lon', "
                             "Y_POSSIBLE_NAMES='lat'")
        wkb = table.column(at[0]).to_numpy()
        table = table.remove_column(at[0])
        if GEOMETRY in table.column_names:
            raise Unreadable(f"{self.path}: has a field {GEOMETRY}, and the geometry is to be "
                             "called so; leave the field out with columns=[...]")
        frame = table.to_pandas(types_mapper=pandas.ArrowDtype)
        frame.index = pandas.RangeIndex(first, first + len(wkb))
        frame[GEOMETRY] = geopandas.array.from_wkb(wkb, crs=crs)
        frame = geopandas.GeoDataFrame(frame, geometry=GEOMETRY, crs=crs)
        if self.to_crs is not None:
            shapes.srid(GEOMETRY, frame.crs)
            frame = frame.to_crs(self.to_crs)
        return frame


def source(path: str | Path, layer: str | int | None = None, **what) -> Source:
    """Return a layer of a file; Unreadable names the layers where it is not clear which."""
    try:
        layers = pyogrio.list_layers(path)[:, 0].tolist()
    except (pyogrio.errors.DataSourceError, OSError) as error:
        raise Unreadable(f"{path}: GDAL cannot read it ({error})") from None
    if layer is None and len(layers) != 1:
        raise Unreadable(f"{path}: has {len(layers)} layers; say which, layer=..., of: "
                         + ", ".join(map(repr, layers)))
    if isinstance(layer, str) and layer not in layers:
        raise Unreadable(f"{path}: has no layer {layer!r}; there are "
                         + ", ".join(map(repr, layers)))
    return Source(str(path), layer, **what)


def survey(file: Source, progress) -> tuple[Layout, int]:
    """Read all geometries once: what shapes there are, and how many rows.

    What a file says of itself is not enough: a Shapefile calls its multipolygons polygons.
    """
    layout, rows, total = None, 0, file.rows
    for frame in file.frames(columns=[]):
        found = shapes.look(GEOMETRY, frame.geometry)
        layout = found if layout is None else layout | found
        rows += len(frame)
        progress(rows, max(total, rows))
    return shapes.alike(GEOMETRY, layout), rows
