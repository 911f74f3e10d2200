"""Ways to bring a frame into PostGIS, each as its own manual says to do it quickly."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import geopandas
import numpy
import pyarrow
import pyogrio
import shapely
from psycopg import sql

from gislab import database, datasets, engine, loading
from gislab.loading import copying
from gislab.settings import Lab

SCHEMA = "bench"
TOOLS = {"ogr2ogr": "gdal-bin", "shp2pgsql": "postgis", "psql": "postgresql-client"}


@dataclass
class Case:
    """One frame, as each peer wants to have it; none of that is timed."""

    kind: str
    rows: int
    gdf: geopandas.GeoDataFrame
    types: list[tuple[str, str]]  # of the columns
    stream: list[bytes]  # of a binary COPY
    package: Path
    shapefile: Path

    @property
    def table(self) -> str:
        return f"{self.kind}_{self.rows}"


def polygons(n: int, seed: int = 1) -> geopandas.GeoDataFrame:
    """Draw n polygons of 5 to 120 corners, with the attributes of datasets.points."""
    gdf = datasets.points(n, seed)
    random = numpy.random.default_rng(seed)
    xy = shapely.get_coordinates(gdf.geometry.array)
    shapes = []
    for place, corners in zip(xy, random.integers(5, 120, n), strict=True):
        turn = numpy.linspace(0, 2 * numpy.pi, corners, endpoint=False)
        reach = 0.01 * random.uniform(0.5, 1, corners)
        shapes.append(shapely.Polygon(place + numpy.column_stack(
            [reach * numpy.cos(turn), reach * numpy.sin(turn)])))
    return gdf.set_geometry(geopandas.GeoSeries(shapes, crs=gdf.crs))


def case(kind: str, rows: int, folder: Path) -> Case:
    """Make a case and the files that ogr2ogr and shp2pgsql read."""
    gdf = {"points": datasets.points, "polygons": polygons}[kind](rows)
    columns = loading._columns(gdf)
    stream = [part for part, _ in copying.stream([(columns, loading._cuts(gdf), rows)])]
    package, shapefile = folder / f"{kind}{rows}.gpkg", folder / f"{kind}{rows}.shp"
    pyogrio.write_dataframe(gdf, package)
    pyogrio.write_dataframe(gdf, shapefile)
    return Case(kind, rows, gdf, [(c.name, c.type) for c in columns], stream, package, shapefile)


def tools() -> None:
    """Install the programs of peers where we may; EngineError names the packages elsewhere."""
    missing = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if missing:
        engine.install(*sorted(missing))


def gislab(lab: Lab, case: Case, index: bool) -> None:
    loading.load(lab, case.gdf, f"{SCHEMA}.{case.table}", index=index, progress=False,
                 say=lambda _: None)


def unverified(lab: Lab, case: Case, index: bool) -> None:
    loading.load(lab, case.gdf, f"{SCHEMA}.{case.table}", index=index, verify=False,
                 progress=False, say=lambda _: None)


def prepared(lab: Lab, case: Case, index: bool, key: bool = False) -> None:
    """COPY of bytes that were made before: what server and wire can do."""
    with _connect(lab) as connection:
        connection.execute(sql.SQL("create table {} ({})").format(
            _name(case), sql.SQL(", ").join(
                sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in case.types)))
        with connection.cursor().copy(sql.SQL("copy {} from stdin with (format binary)").format(
                _name(case))) as copy:
            for part in case.stream:
                copy.write(part)
        if key:
            connection.execute(sql.SQL("alter table {} add primary key (id)").format(
                _name(case)))
        _index(connection, case, index)


def to_postgis(lab: Lab, case: Case, index: bool) -> None:
    """GeoPandas; the index after the rows. By itself it makes one before them."""
    with _connect(lab) as connection:
        connection.execute(sql.SQL("create table {} (id bigint, kind text, height "
                                   "double precision, geometry geometry({}, 4326))").format(
            _name(case), sql.SQL({"points": "Point", "polygons": "Polygon"}[case.kind])))
    case.gdf.to_postgis(case.table, _engine(lab), schema=SCHEMA, if_exists="append")
    with _connect(lab) as connection:
        _index(connection, case, index, "geometry")


def to_postgis_alone(lab: Lab, case: Case, index: bool) -> None:
    """GeoPandas, left to itself: it makes the index first."""
    case.gdf.to_postgis(case.table, _engine(lab), schema=SCHEMA)


def adbc(lab: Lab, case: Case, index: bool) -> None:
    """Arrow's driver; it knows no geometry, so WKB goes in and PostGIS reads it afterwards."""
    from adbc_driver_postgresql import dbapi

    table = pyarrow.Table.from_pandas(case.gdf.drop(columns="geometry"), preserve_index=False)
    table = table.append_column("geom", pyarrow.array(
        shapely.to_wkb(case.gdf.geometry.array), pyarrow.binary()))
    host = f"postgresql://{lab.vip}:{lab.ports.primary}/{database.NAME}?user=gis"
    with dbapi.connect(host) as connection:
        with connection.cursor() as cursor:
            cursor.adbc_ingest(case.table, table, mode="create", db_schema_name=SCHEMA)
            cursor.execute(f"alter table {SCHEMA}.{case.table} alter geom type geometry using "
                           "ST_GeomFromWKB(geom, 4326)")
            if index:
                cursor.execute(f"create index on {SCHEMA}.{case.table} using gist (geom)")
        connection.commit()


def ogr2ogr(lab: Lab, case: Case, index: bool) -> list[list[str]]:
    return [["ogr2ogr", "--config", "PG_USE_COPY", "YES", "-f", "PostgreSQL",
             "PG:" + _dsn(lab), str(case.package), "-nln", f"{SCHEMA}.{case.table}",
             "-lco", f"SPATIAL_INDEX={'GIST' if index else 'NONE'}"]]


def shp2pgsql(lab: Lab, case: Case, index: bool) -> list[list[str]]:
    return [["shp2pgsql", "-D", "-s", "4326", *["-I"] * index, str(case.shapefile),
             f"{SCHEMA}.{case.table}"], ["psql", "-Xq", "-v", "ON_ERROR_STOP=1", _dsn(lab)]]


# name in the table -> what does it, and whether that is a list of programs to run in a pipe
PEERS = {"GeoPandas `to_postgis`": (to_postgis, False), "`gislab.loading`": (gislab, False),
         "`gislab.loading`, `verify=False`": (unverified, False),
         "COPY of prepared data": (prepared, False),
         "COPY of prepared data, with a key": (partial(prepared, key=True), False),
         "ADBC": (adbc, False), "ogr2ogr": (ogr2ogr, True),
         "shp2pgsql \\| psql": (shp2pgsql, True)}
ALONE = {"`to_postgis`, its own index": (to_postgis_alone, False)}  # only with an index


def run(lab: Lab, peer, case: Case, index: bool) -> float | None:
    """Do what a peer does, here and now; of programs, return the larger one's peak in MB."""
    what, programs = peer
    found = what(lab, case, index)
    if not programs:
        return None
    with tempfile.TemporaryFile("w+") as said:
        made, pipe = [], None
        for words in found:
            made.append(subprocess.Popen(
                words, stdin=pipe, stderr=said,
                stdout=subprocess.DEVNULL if words is found[-1] else subprocess.PIPE))
            pipe = made[-1].stdout
        peak = 0.0
        while made[-1].poll() is None:
            peak = max(peak, *(_peak(process.pid) for process in made), 0)
            with contextlib.suppress(subprocess.TimeoutExpired):
                made[-1].wait(0.02)
        if any(process.wait() for process in made):
            said.seek(0)
            raise RuntimeError(f"{found[0][0]}: {said.read()[-500:]}")
    return peak


def _peak(pid: int) -> float:
    """Return a program's peak so far. Its ru_maxrss would begin with that of its parent."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0


def password(lab: Lab) -> None:
    """Let libpq find the password where no command line shows it."""
    os.environ["PGPASSWORD"] = lab.secret("gis_password")


def _dsn(lab: Lab) -> str:
    return f"host={lab.vip} port={lab.ports.primary} dbname={database.NAME} user=gis"


def _connect(lab: Lab):
    return database.connect(lab, "gis", port=lab.ports.primary)


def _engine(lab: Lab):
    import sqlalchemy

    return sqlalchemy.create_engine("postgresql+psycopg://", connect_args={
        "host": lab.vip, "port": lab.ports.primary, "dbname": database.NAME, "user": "gis"})


def _name(case: Case) -> sql.Identifier:
    return sql.Identifier(SCHEMA, case.table)


def _index(connection, case: Case, index: bool, column: str = "geom") -> None:
    if index:
        connection.execute(sql.SQL("create index on {} using gist ({})").format(
            _name(case), sql.Identifier(column)))
