"""Any frame and any file, against one real PostGIS: exactly there, or not at all."""

import datetime
import decimal
import json
import math
import subprocess
import sys
import threading
import uuid

import geopandas
import numpy
import pandas
import pyogrio
import pytest
import shapely
from bench.server import Server
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from gislab import datasets, loading
from gislab.loading import files, proof, shapes
from gislab.loading.shapes import LoadError
from gislab.loading.values import listed

pytestmark = pytest.mark.live
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@pytest.fixture(scope="module")
def server(the_engine, image):
    with Server(the_engine, image("postgis")) as made:
        yield made


@pytest.fixture
def plain(server):
    """A lab of one plain server, with an empty schema `t`."""
    with server.connect("gis") as connection:
        connection.execute("drop schema if exists t cascade")
    return server.lab


def ask(server, statement, *values):
    with server.connect("gis") as connection:
        return connection.execute(statement, values or None).fetchall()


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


# --- any frame ---------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [math.nan, math.inf, -0.0, 5e-324, 1.7976931348623157e308])
some = st.text(max_size=8) | st.sampled_from(["", "\\N", "\t\n\r", "'; drop table t; --", "🗺",
                                              "nul\0", "\ud800", "x" * 5000])


@st.composite
def geometries(draw, z):
    """Any shape that shapely makes, empty ones and NaN among them."""
    axes = 3 if z else 2
    place = st.tuples(*[st.floats(-180, 180) if draw(st.integers(0, 40)) else numbers] * axes)
    line = st.lists(place, min_size=2, max_size=4)
    # a ring that begins with NaN does not end where it began, and shapely refuses it
    ring = st.tuples(place, place, place).filter(
        lambda r: not any(map(math.isnan, r[0][:2])))
    area = ring.map(Polygon)
    kinds = {"Point": place.map(Point), "LineString": line.map(LineString), "Polygon": area,
             "MultiPoint": st.lists(place, max_size=3).map(shapely.MultiPoint),
             "MultiLineString": st.lists(line, max_size=2).map(shapely.MultiLineString),
             "MultiPolygon": st.lists(area, max_size=2).map(MultiPolygon),
             "empty": st.sampled_from([Point(), LineString(), Polygon(), MultiPolygon(),
                                       GeometryCollection()]),
             "LinearRing": ring.map(shapely.LinearRing)}
    parts = st.one_of(*(one for name, one in kinds.items() if name != "LinearRing"))
    kinds["GeometryCollection"] = st.lists(parts, max_size=3).map(GeometryCollection)
    chosen = draw(st.sampled_from(sorted(kinds) * 3 + ["LinearRing"]))
    return draw(st.none() | kinds[chosen] | kinds[chosen] | kinds["empty"])


@st.composite
def columns(draw, rows):
    """A column of one kind, some of it missing, and the dtype that it is to have."""
    moment = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))
    nested = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | some,
                          lambda inner: st.lists(inner, max_size=3)
                          | st.dictionaries(some, inner, max_size=3), max_leaves=4)
    kind, values = draw(st.sampled_from([
        ("Int64", st.integers(-2**63, 2**63 - 1)), ("UInt64", st.integers(0, 2**64 - 1)),
        ("Int16", st.integers(-2**15, 2**15 - 1)), ("int64[pyarrow]", st.integers(0, 2**40)),
        ("float64", st.floats()), ("Float32", st.floats(width=32)),
        ("double[pyarrow]", st.floats()), ("boolean", st.booleans()),
        ("bool[pyarrow]", st.booleans()), ("str", some), (object, some),
        ("string[pyarrow]", some), ("category", st.sampled_from(["a", "b", "ü"])),
        (object, st.binary(max_size=20)), (object, st.dates()), (object, st.times()),
        (object, st.decimals(allow_nan=False) | st.decimals(places=3, allow_nan=False,
                                                           allow_infinity=False)),
        (object, st.uuids()), (object, st.timedeltas(datetime.timedelta(-10**5),
                                                     datetime.timedelta(10**5))),
        ("datetime64[us]", moment), (object, moment),
        (object, moment.map(lambda at: at.replace(tzinfo=EAST))),
        ("date32[pyarrow]", st.dates()), ("timestamp[us, UTC][pyarrow]", st.integers(0, 2**50)),
        ("duration[us][pyarrow]", st.integers(-2**50, 2**50)),
        (object, st.lists(nested, max_size=2) | st.dictionaries(some, nested, max_size=2)),
        (object, some | st.integers()),
    ]))
    listed = draw(st.lists(st.none() | values | values, min_size=rows, max_size=rows))
    try:
        return pandas.Series(listed, dtype=kind)
    except (UnicodeEncodeError, OverflowError, ValueError, TypeError):
        return pandas.Series(listed, dtype=object)


@st.composite
def frames(draw):
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(some.filter(lambda one: one and "\ud800" not in one) | st.sampled_from(
        ['a"b', "%s", "select", "größe", "x" * 63, "x" * 64, "ctid", "geometry", "geom", "$1"]),
        max_size=3, unique=True))
    shapes_ = draw(st.lists(geometries(draw(st.booleans())), min_size=rows, max_size=rows))
    if not draw(st.integers(0, 9)):  # some with Z and some without
        shapes_ = [draw(geometries(draw(st.booleans()))) for _ in range(rows)]
    table = pandas.DataFrame({name: draw(columns(rows)) for name in names}, index=range(rows))
    crs = draw(st.sampled_from(["EPSG:4326", "EPSG:3857", "OGC:CRS84", "ESRI:54009", None,
                                "+proj=laea +lat_0=52 +lon_0=10 +x_0=1 +ellps=GRS80"]))
    return geopandas.GeoDataFrame(table, geometry=geopandas.GeoSeries(
        shapes_, index=table.index, crs=crs))


def as_read(values):
    """Return what psycopg gives for the values of a column: NaN in a number is NULL."""
    out = []
    for one in values.tolist() if isinstance(values.dtype, pandas.ArrowDtype) else list(values):
        if isinstance(one, (list, dict)):
            out.append(json.loads(json.dumps(one)))
        elif one is None or pandas.isna(one):
            out.append(None)
        else:
            out.append(one)
    return out


def same(found, wanted):
    if isinstance(wanted, (pandas.Timestamp, datetime.datetime)):
        found = pandas.Timestamp(found).tz_convert("UTC") if found.tzinfo else \
            pandas.Timestamp(found)
        wanted = pandas.Timestamp(wanted)
    if isinstance(found, float) and isinstance(wanted, float):
        return found == wanted and math.copysign(1, found) == math.copysign(1, wanted)
    return found == wanted


@effort(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(gdf=frames())
def test_a_random_frame_is_exactly_there_or_refused_by_name_and_not_at_all(server, gdf):
    with server.connect("gis") as connection:
        connection.execute("drop schema if exists t cascade")
    try:
        done = loading.load(server.lab, gdf, "t.rows", say=lambda _: None)
    except LoadError as error:
        assert len(str(error)) > 30
        assert ask(server, "select to_regclass('t.rows')") == [(None,)]
        return
    assert done.rows == len(gdf)
    names = [name for name in gdf.columns if name != "geometry"]
    picked = "".join(quoted(name) + ", " for name in names)
    with server.connect("gis") as connection:
        connection.execute("set time zone 'UTC'")
        statement = f"select {picked} ST_AsEWKB(geom) from t.rows order by id"
        found = connection.execute(statement.encode(), binary=True).fetchall()
    assert [row[-1] for row in found] == shapes.ewkb(gdf.geometry)
    for i, name in enumerate(names):
        wanted = as_read(gdf[name])
        assert len(found) == len(wanted)
        for row, one in zip(found, wanted, strict=True):
            assert same(row[i], one), (name, gdf[name].dtype, row[i], one)


@pytest.mark.parametrize("values, sql, wanted", [
    (pandas.to_timedelta(["1 day 00:00:00.000001", None]), "interval",
     datetime.timedelta(days=1, microseconds=1)),
    ([decimal.Decimal("-12345.67890"), None], "numeric", decimal.Decimal("-12345.67890")),
    ([decimal.Decimal("1E+30"), 7], "numeric", decimal.Decimal(10)**30),
    ([decimal.Decimal("1E-20"), None], "numeric", decimal.Decimal("1E-20")),
    ([decimal.Decimal("-Infinity"), None], "numeric", decimal.Decimal("-Infinity")),
    ([uuid.UUID(int=7), None], "uuid", uuid.UUID(int=7)),
    ([datetime.time(23, 59, 59, 999999), None], "time without time zone",
     datetime.time(23, 59, 59, 999999)),
    ([numpy.array([1, 2]), None], "jsonb", [1, 2]),
    ([("a", 1), None], "jsonb", ["a", 1]),
    ([bytearray(b"\0x"), None], "bytea", b"\0x"),
])
def test_a_value_of_each_kind_comes_back_as_itself(server, plain, values, sql, wanted):
    gdf = geopandas.GeoDataFrame({"v": pandas.Series(values)}, geometry=[Point(0, 0)] * 2,
                                 crs="EPSG:4326")
    loading.load(plain, gdf, "t.rows")
    (found, kind), (second, _) = ask(
        server, "select v, format_type(atttypid, atttypmod) from t.rows, pg_attribute "
        "where attrelid = 't.rows'::regclass and attname = 'v' order by id")
    assert (found, kind) == (wanted, sql) and second == (values[1] if values[1] == 7 else None)


def test_the_hash_is_postgresqls_own(server):
    values = [bytes(range(256))[:n] * 3 for n in range(0, 60)] + [None]
    found = ask(server, "select coalesce(hash_record_extended(row(v), 0), 0) from unnest(%s) "
                "with ordinality as u(v, n) order by n", values)
    assert [row[0] % 2**64 for row in found] == proof.hashes(listed(values)).tolist()


def test_a_server_that_stores_something_else_is_found_out(server, plain):
    points = datasets.points(1000)
    loading.load(plain, points, "t.rows")
    with server.connect("gis") as connection:
        connection.execute("""create function t.move() returns trigger language plpgsql as $$
            begin if new.id = 1777 then new.geom = ST_Translate(new.geom, 1e-9, 0); end if;
            return new; end $$""")
        connection.execute("create trigger move before insert on t.rows for each row "
                           "execute function t.move()")
    more = points.assign(id=points["id"] + 1000)
    with pytest.raises(loading.Altered, match="trigger"):
        loading.load(plain, more, "t.rows", if_exists="append")
    assert ask(server, "select count(*) from t.rows") == [(1000,)]
    loading.load(plain, more, "t.rows", if_exists="append", verify=False)
    assert ask(server, "select count(*) from t.rows") == [(2000,)]


def test_points_are_appended_to_a_table_of_any_shape_and_not_the_other_way_round(server, plain):
    mixed = geopandas.GeoDataFrame(geometry=[Point(0, 0), box(0, 0, 1, 1)], crs="EPSG:4326")
    loading.load(plain, mixed, "t.mixed")
    loading.load(plain, mixed.head(1), "t.mixed", if_exists="append")
    assert ask(server, "select id from t.mixed order by id") == [(1,), (2,), (3,)]
    loading.load(plain, mixed.head(1), "t.points")
    with pytest.raises(loading.WrongColumns, match="Geometry"):
        loading.load(plain, mixed, "t.points", if_exists="append")
    assert ask(server, "select count(*), count(distinct id) from t.mixed") == [(3, 3)]


def test_a_frame_is_transformed_on_its_way(server, plain):
    places = datasets.places(1_000_000)
    loading.load(plain, places, "t.rows", to_crs=3857)
    wanted = shapes.ewkb(places.to_crs(3857).geometry)
    assert [r[0] for r in ask(server, "select ST_AsEWKB(geom) from t.rows order by id")] == wanted
    with pytest.raises(shapes.CrsMissing, match="set_crs"):
        loading.load(plain, places.set_crs(None, allow_override=True), "t.none", to_crs=3857)
    with pytest.raises(shapes.CrsMissing, match="does not know"):
        loading.load(plain, places.to_crs("EPSG:10598"), "t.none")


# --- interrupted -------------------------------------------------------------------------------

def cut_by_backend(server):
    with server.connect() as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                           "where usename = 'gis' and query ilike 'copy%%'")


def cut_by_power(server):
    server.container.kill()


@pytest.mark.parametrize("cut", [cut_by_backend, cut_by_power])
@pytest.mark.parametrize("when", [0.1, 0.6, 1.0])
def test_a_load_that_is_cut_leaves_all_or_nothing_and_again_gives_no_doubles(
        server, plain, cut, when):
    """Cut early, in the middle, and just as the last row was sent."""
    points = datasets.points(120_000)
    struck = threading.Event()

    def strike(done, total):
        if done >= when * total and not struck.is_set():
            struck.set()
            cut(server)
    try:
        loading.load(plain, points, "t.rows", progress=strike)
        whole = True
    except loading.Interrupted:
        whole = False
    assert struck.is_set()
    if cut is cut_by_power:
        server.container.start()
        plain = server.ready()
    found = ask(server, "select to_regclass('t.rows')")[0][0]
    assert (found is not None) == whole
    loading.load(plain, points, "t.rows", if_exists="replace")
    assert ask(server, "select count(*), count(distinct id) from t.rows") == [(120_000,) * 2]


def test_a_table_with_the_name_of_a_replacement_is_in_nobodys_way(server, plain):
    for name in ("t.places", "t.places__loading"):
        loading.load(plain, datasets.points(5), name)
    loading.load(plain, datasets.points(7), "t.places", if_exists="replace")
    assert ask(server, "select (select count(*) from t.places), "
                       "(select count(*) from t.places__loading)") == [(7, 5)]


def test_a_reader_in_the_way_delays_a_replacement_and_sees_no_half_of_it(server, plain):
    loading.load(plain, datasets.points(10), "t.rows")
    with server.connect("gis", ) as reader:
        reader.execute("begin isolation level repeatable read")
        assert reader.execute("select count(*) from t.rows").fetchone() == (10,)
        load = threading.Thread(target=loading.load, args=(plain, datasets.points(20), "t.rows"),
                                kwargs={"if_exists": "replace"})
        load.start()
        assert reader.execute("select count(*) from t.rows").fetchone() == (10,)
        reader.execute("commit")
        load.join(30)
        assert reader.execute("select count(*) from t.rows").fetchone() == (20,)


# --- files -------------------------------------------------------------------------------------

def varied(rows=400):
    """Polygons, and at the very end what changes every guess from the first rows."""
    random = numpy.random.default_rng(1)
    areas = [box(x, y, x + 1, y + 1) for x, y in random.uniform(-80, 79, (rows, 2)).round(3)]
    areas[-1] = MultiPolygon([areas[0], box(80, 80, 81, 81)])
    gdf = geopandas.GeoDataFrame({
        "name": [None] * (rows - 1) + ["Ünï"], "count": [0] * (rows - 1) + [2**40],
        "share": [None] * (rows - 1) + [0.5]}, geometry=areas, crs="EPSG:3035")
    return gdf.astype({"name": object, "share": "float64"})


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "shp", "geojson"])
def test_a_files_types_are_decided_by_all_of_it(server, plain, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(files, "BATCH", 1)  # the fewest rows at a time
    gdf, path = varied(), tmp_path / f"areas.{ending}"
    if ending == "geojson":
        gdf = gdf.set_crs(4326, allow_override=True)
    gdf.to_file(path, engine="pyogrio", SPATIAL_INDEX="NO") if ending == "fgb" else \
        gdf.to_file(path, engine="pyogrio")
    told = []
    loading.load_file(plain, path, "t.rows", progress=lambda *far: told.append(far))
    read = geopandas.read_file(path)
    found = ask(server, "select ST_AsEWKB(geom), name, count, share from t.rows order by id")
    assert [row[0] for row in found] == shapes.ewkb(read.geometry)
    assert found[-1][1:] == ("Ünï", 2**40, 0.5) and found[0][1:3] == (None, 0)
    kind, = ask(server, "select format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = 't.rows'::regclass and attname = 'geom'")[0]
    srid = 4326 if ending == "geojson" else 3035
    kinds = {one.geom_type for one in read.geometry}
    assert kind == f"geometry({kinds.pop() if len(kinds) == 1 else 'Geometry'},{srid})"
    assert told[-1] == (400, 400) and len(told) > 3
    loading.load_file(plain, path, "t.small", columns=["count"], to_crs="EPSG:4258")
    assert ask(server, "select min(ST_SRID(geom)), count(count) from t.small") == [(4258, 400)]


def test_a_file_and_its_frame_are_the_same_table(server, plain, tmp_path):
    path = tmp_path / "p.gpkg"
    points = datasets.points(3000)
    pyogrio.write_dataframe(points, path)
    loading.load_file(plain, path, "t.file")
    loading.load(plain, points, "t.frame")
    with server.connect("gis") as connection:
        one, two = (connection.execute(loading.fingerprint_query(t)).fetchone()
                    for t in ("t.file", "t.frame"))
    assert one == two and one[2] == loading.fingerprint(points)


def test_a_layer_has_to_be_named_where_there_are_several(server, plain):
    with pytest.raises(files.Unreadable, match="countries_110m"):
        loading.load_file(plain, datasets.COUNTRIES, "t.rows")
    with pytest.raises(files.Unreadable, match="no layer 'roads'"):
        loading.load_file(plain, datasets.COUNTRIES, "t.rows", layer="roads")
    done = loading.load_file(plain, datasets.COUNTRIES, "t.rows", layer="countries_110m")
    assert done.rows == 177


def test_a_file_that_cannot_be_loaded_is_refused_before_anything_is_sent(server, plain, tmp_path):
    broken = tmp_path / "broken.gpkg"
    broken.write_bytes(b"SQLite format 3\0 and no more")
    table = tmp_path / "table.csv"
    table.write_text("lon,lat,name\n1,2,a\n3,4,b\n")
    for path, word in ((tmp_path / "none.shp", "cannot read"), (broken, "cannot read"),
                       (table, "X_POSSIBLE_NAMES")):
        with pytest.raises(files.Unreadable, match=word):
            loading.load_file(plain, path, "t.rows")
    how = {"X_POSSIBLE_NAMES": "lon", "Y_POSSIBLE_NAMES": "lat"}
    with pytest.raises(shapes.CrsMissing):
        loading.load_file(plain, table, "t.rows", **how)
    assert ask(server, "select to_regclass('t.rows')") == [(None,)]
    loading.load_file(plain, table, "t.rows", crs="EPSG:4326", **how)
    assert ask(server, "select name, ST_X(geom) from t.rows order by id") == [("a", 1), ("b", 3)]


def test_an_id_with_doubles_in_a_file_leaves_nothing(server, plain, tmp_path):
    path = tmp_path / "p.fgb"
    pyogrio.write_dataframe(datasets.points(500).assign(id=lambda p: p["id"] % 499), path)
    with pytest.raises(loading.DoubleKey, match="499|\\(id\\)"):
        loading.load_file(plain, path, "t.rows")
    assert ask(server, "select to_regclass('t.rows')") == [(None,)]


PEAK = """
import dataclasses, re, sys
from pathlib import Path
from gislab import loading, settings
from gislab.loading import files
files.BATCH = 1_000_000
lab = dataclasses.replace(settings.make({"name": sys.argv[1]}), vip=sys.argv[2],
                          ports=settings.Ports(sql=6432, primary=5432))
done = loading.load_file(lab, sys.argv[3], "t.rows", if_exists="replace")
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(int(peak) // 1024, done.rows)
"""


def test_memory_stays_flat_for_a_file_ten_times_as_large(plain, tmp_path):
    """The larger file is larger than what the smaller one's load leaves as room to grow."""
    circle = shapely.segmentize(Point(0, 0).buffer(1, quad_segs=30), 1)
    peaks, sizes = [], []
    for rows in (3_000, 30_000):
        where = numpy.random.default_rng(1).uniform(-80, 80, (rows, 2))
        areas = [shapely.transform(circle, lambda xy, p=p: xy + p) for p in where]
        path = tmp_path / f"{rows}.fgb"
        pyogrio.write_dataframe(geopandas.GeoDataFrame(
            {"name": ["x" * 50] * rows}, geometry=areas, crs=4326), path, SPATIAL_INDEX="NO")
        sizes.append(path.stat().st_size / 1e6)
        out = subprocess.run([sys.executable, "-c", PEAK, plain.name, plain.vip, path],
                             capture_output=True, text=True, check=True).stdout.split()
        peaks.append(int(out[-2]))
        assert int(out[-1]) == rows
    assert sizes[1] > 9 * sizes[0] and sizes[1] > 55
    assert peaks[1] - peaks[0] < 25, (peaks, sizes)


