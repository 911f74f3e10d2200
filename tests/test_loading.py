"""What goes into PostGIS comes out again, exactly, on every member; or nothing of it does."""

import datetime
import math
import struct
import threading

import geopandas
import numpy
import pandas
import psycopg
import pytest
import shapely
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, Point, Polygon

from gislab import database, datasets, loading, postgis
from gislab.loading import copying, files, shapes, target
from gislab.loading.shapes import LoadError

HERE = [Point(1, 2), Point(3, 4)]


def frame(geometry=HERE, crs="EPSG:4326", **columns):
    return geopandas.GeoDataFrame(columns, geometry=list(geometry), crs=crs)


def sent(gdf, chunk=3):
    """Return {column: values as bytes} from the stream of a frame, read as PostgreSQL would."""
    columns = loading._columns(gdf)
    data = b"".join(part for part, _ in copying.stream([
        (columns, list(range(chunk, len(gdf), chunk)), len(gdf))]))
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    at, rows = 19, []
    while (count := struct.unpack_from(">h", data, at)[0]) != -1:
        at += 2
        row = []
        for _ in range(count):
            length, = struct.unpack_from(">i", data, at)
            row.append(None if length < 0 else data[at + 4:at + 4 + length])
            at += 4 + max(length, 0)
        rows.append(row)
    assert at + 2 == len(data) and len(rows) == len(gdf)
    return {c.name: [row[i] for row in rows] for i, c in enumerate(columns)}


def types(gdf):
    return {c.name: c.type for c in loading._columns(gdf)}


# --- pure: types, bytes, errors ----------------------------------------------------------------

@pytest.mark.parametrize("values, sql", [
    (numpy.array([1, 2], "i2"), "smallint"), (numpy.array([1, 2], "u1"), "smallint"),
    (numpy.array([1, 2], "i4"), "integer"), (numpy.array([1, 2], "u2"), "integer"),
    ([1, 2], "bigint"), (numpy.array([1, 2], "u4"), "bigint"),
    (numpy.array([1, 2], "u8"), "bigint"), (pandas.array([1, None], "Int32"), "integer"),
    (numpy.array([1, 2], "f4"), "real"), ([1.5, math.nan], "double precision"),
    ([True, False], "boolean"), (pandas.array([True, None], "boolean"), "boolean"),
    (["a", None], "text"), ([None, None], "text"), (pandas.Categorical(["a", "b"]), "text"),
    ([b"\0", b""], "bytea"), ([datetime.date(1, 1, 1), None], "date"),
    (pandas.to_datetime(["2026-01-01", None]), "timestamp without time zone"),
    (pandas.to_datetime(["2026-01-01", None], utc=True), "timestamp with time zone"),
    ([{"a": 1}, ["b"]], "jsonb"), (pandas.array([1, None], "int64[pyarrow]"), "bigint"),
])
def test_a_columns_type_follows_from_its_values(values, sql):
    assert types(frame(v=values)) == {"v": sql, "geom": "geometry(Point,4326)"}


@pytest.mark.parametrize("geometry, sql", [
    (HERE, "geometry(Point,4326)"),
    ([Point(1, 2, 3), None], "geometry(PointZ,4326)"),
    ([Point(1, 2), LineString([(0, 0), (1, 1)])], "geometry(Geometry,4326)"),
    ([Point(1, 2, 3), LineString([(0, 0, 1), (1, 1, 1)])], "geometry(GeometryZ,4326)"),
    ([MultiPoint([(0, 0)]), None], "geometry(MultiPoint,4326)"),
    ([None, None], "geometry(Geometry,4326)"),
])
def test_a_geometry_columns_type_follows_from_its_shapes(geometry, sql):
    assert types(frame(geometry))["geom"] == sql


@effort(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(
    st.integers(-2**63, 2**63 - 1), st.none() | st.text(st.characters(codec="utf-8",
                                                                     exclude_characters="\0")),
    st.floats(allow_nan=False), st.none() | st.booleans(),
    st.none() | st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)), max_size=12))
def test_every_value_and_every_gap_is_in_the_stream(rows):
    """Whatever the chunks: each value in its own row, each None a NULL."""
    number, text, real, flag, place = map(list, zip(*rows, strict=True)) if rows else [[]] * 5
    gdf = frame([p and Point(p) for p in place], number=pandas.Series(number, dtype="int64"),
                text=pandas.Series(text, dtype=object), real=pandas.Series(real, dtype=float),
                flag=pandas.array(flag, dtype="boolean"))
    found = sent(gdf)
    assert [struct.unpack(">q", b)[0] for b in found["number"]] == number
    assert [b if b is None else b.decode() for b in found["text"]] == text
    assert [struct.unpack(">d", b)[0] for b in found["real"]] == real
    assert [b if b is None else bool(b[0]) for b in found["flag"]] == flag
    points = [None if b is None else shapely.from_wkb(b) for b in found["geom"]]
    assert [p and (p.x, p.y) for p in points] == place
    assert all(shapely.get_srid(p) == 4326 for p in points if p)


def test_dates_and_moments_count_from_2000():
    found = sent(frame(day=[datetime.date(2000, 1, 2), datetime.date(1999, 12, 31)],
                       at=pandas.to_datetime(["2000-01-01 00:00:01", None]),
                       zoned=pandas.to_datetime(["2000-01-01 01:00+01:00"] * 2)))
    assert [struct.unpack(">i", b)[0] for b in found["day"]] == [1, -1]
    assert struct.unpack(">q", found["at"][0]) == (1_000_000,) and found["at"][1] is None
    assert found["zoned"] == [bytes(8)] * 2


@pytest.mark.parametrize("high", [False, True], ids=["flat", "z"])
@pytest.mark.parametrize("kind", ["points", "lines", "polygons", "with holes"])
def test_shapes_that_are_made_at_once_are_the_same_bytes_as_one_by_one(kind, high):
    areas = datasets.points(50).set_crs(3857, allow_override=True).buffer(1, quad_segs=2)
    areas = areas.where(numpy.arange(50) % 2 == 0, areas.envelope)  # rings of two lengths
    found = {"points": areas.centroid, "lines": areas.exterior.map(shapely.LineString),
             "polygons": areas, "with holes": areas.where(
                 numpy.arange(50) < 40, areas.difference(areas.scale(0.5, 0.5)))}[kind]
    if high:
        found = found.force_3d(numpy.arange(50.0))
    assert sent(frame(found, crs=found.crs), chunk=7)["geom"] == shapes.ewkb(found)


def test_an_empty_geometry_takes_the_dimensions_of_its_column():
    found = sent(frame([Point(1, 2, 3), Point(), Polygon()]))["geom"]
    assert [shapely.from_wkb(b).wkt for b in found] == ["POINT Z (1 2 3)", "POINT Z EMPTY",
                                                        "POLYGON Z EMPTY"]
    assert [shapely.get_srid(shapely.from_wkb(b)) for b in found] == [4326] * 3


MIXED = [shapely.set_srid(Point(1, 2), 4326), shapely.set_srid(Point(3, 4), 3857)]


@pytest.mark.parametrize("make, error, remedy", [
    (lambda: frame(crs=None), shapes.CrsMissing, "set_crs"),
    (lambda: frame(crs="+proj=laea +lat_0=52 +lon_0=10 +x_0=1 +ellps=GRS80"), shapes.CrsMissing,
     "to_crs"),  # very much like EPSG:3035, and another one
    (lambda: frame(MIXED), shapes.MixedCrs, "EPSG:3857"),
    (lambda: frame([Point(1, 2), Point(1, math.nan)]), shapes.BadGeometry, "row 1"),
    (lambda: frame([Point(1, 2), Point(1, math.inf)]), shapes.BadGeometry, "infinite"),
    (lambda: frame([Point(1, 2), Point(1, 2, 3)]), shapes.BadGeometry, "force_2d"),
    (lambda: frame([shapely.LinearRing([(0, 0), (1, 0), (1, 1)])]), shapes.BadGeometry,
     "polygons"),
    (lambda: frame(geom=[1, 2]), loading.DuplicateColumns, "rename"),
    (lambda: pandas.concat([frame(a=[1, 2]), frame(a=[1, 2])[["a"]]], axis=1),
     loading.DuplicateColumns, "'a'"),
    (lambda: frame(id=[1, 1]), loading.DoubleKey, "unique"),
    (lambda: frame(id=[1, None]), loading.DoubleKey, "unique"),
    (lambda: frame(ctid=[1, 2]), loading.BadName, "rename"),
    (lambda: frame(**{"é" * 32: [1, 2]}), loading.BadName, "63 bytes"),
    (lambda: frame(a=[1, 2]).rename(columns={"a": 7}), loading.BadName, "columns=str"),
    (lambda: frame(a=["x\0y", "z"]), copying.BadValue, "null byte"),
    (lambda: frame(a=pandas.Series(["\ud800", "z"], dtype=object)), copying.BadValue, "Unicode"),
    (lambda: frame(a=[1, "z"]), copying.BadValue, "int, str"),
    (lambda: frame(a=[2**63, 1]), copying.BadValue, "bigint"),
    (lambda: frame(a=[2**70, 1]), copying.BadValue, "bigint"),
    (lambda: frame(a=[1j, 2j]), copying.BadValue, "astype"),
    (lambda: frame(a=pandas.to_timedelta([1, 2])), copying.BadValue, "floor"),
    (lambda: frame(a=pandas.to_datetime([1, 2000])), copying.BadValue, "floor"),
    (lambda: frame(a=[{"x": math.nan}, {}]), copying.BadValue, "JSON"),
    (lambda: pandas.DataFrame({"a": [1]}), LoadError, "GeoDataFrame"),
    (lambda: geopandas.GeoDataFrame({"a": [1]}), LoadError, "geometry"),
])
def test_what_cannot_be_kept_exactly_is_refused_with_a_remedy(make, error, remedy):
    with pytest.raises(error, match=remedy):
        sent(make())


@pytest.mark.parametrize("table", ["", "Places", "my places", "a.b.c", "gis.", 'x"; drop table y',
                                   "x" * 64, "1st"])
def test_a_table_name_that_would_need_quotes_is_refused(table, paper):
    with pytest.raises(loading.BadName, match="e.g. '[a-z]"):
        loading.load(paper, frame(), table)


def test_hostile_column_names_are_names(paper):
    assert types(frame(**{'a"; drop table x; --': [1, 2], "größe %s": [1, 2]})) == {
        'a"; drop table x; --': "bigint", "größe %s": "bigint", "geom": "geometry(Point,4326)"}


def test_the_frame_itself_is_left_alone():
    gdf = frame([Point(1, 2, 3), Point()], a=["x", None])
    before = gdf.copy(deep=True)
    sent(gdf)
    assert gdf.equals(before) and shapely.get_srid(gdf.geometry.array).tolist() == [0, 0]


def test_a_file_is_asked_once_for_its_rows_however_often_it_is_read(monkeypatch):
    asked, ask = [], files.pyogrio.read_info
    monkeypatch.setattr(files.pyogrio, "read_info", lambda path, **how: asked.append(path)
                        or ask(path, **how))
    file = files.source(datasets.COUNTRIES, "countries_110m")
    _, rows = files.survey(file, lambda *far: None)
    assert rows == file.rows == sum(map(len, file.frames())) == 177
    assert asked == [str(datasets.COUNTRIES)]


@pytest.mark.parametrize("one, other", [("places", "places__loading"), ("a" * 60, "a" * 61),
                                        ("x" * 50 + "_north", "x" * 50 + "_south")])
def test_a_table_that_is_replaced_is_made_beside_it_under_a_name_of_its_own(one, other):
    """Neither the name of a table that there is, nor that of another one's replacement."""
    made = {name: into(name) for name in (one, other)}
    assert len(set(made.values())) == 2
    assert not {one, other, f"{one}__loading"} & set(made.values())
    assert all(len(name) <= 63 for name in made.values())


def into(name):
    """Return the name under which rows are sent that are to replace a table."""
    class Server:
        def execute(self, statement, values=None):
            return self

        def fetchone(self):
            return (name,)
    (_, made), fresh = target.prepare(Server(), "public", name, [], "replace")
    assert fresh
    return made


# --- live: through the VIP and back ------------------------------------------------------------

live = pytest.mark.live
ODD = frame(
    [Point(1, 2, 3), None, Point(), Polygon([(0, 0, 1), (1, 0, 1), (1, 1, 1)])], crs="EPSG:3857",
    text=["", "Ünï – 漢字 🗺", None, "a\tb\n\\N"],
    number=pandas.array([1, None, -2**63, 0], "Int64"), real=[math.inf, -0.0, 5e-324, math.nan],
    flag=pandas.array([True, None, False, True], "boolean"),
    day=[datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31), datetime.date(2000, 2, 29)],
    at=pandas.to_datetime(["1900-01-01", None, "2026-07-01 12:00:00.000001", "2262-01-01"],
                          format="ISO8601"),
    blob=[b"", b"\0\xff", None, b"x"], tags=[{"a": [1, None]}, [], None, {"ключ": "v"}],
    kind=pandas.Categorical(["b", "a", None, "b"]), **{'odd "name" %s': [1, 2, 3, 4]})


@pytest.fixture
def table(lab):
    """A name for a table of one test, which is gone after it."""
    name = "test_loading"
    yield f"{name}.rows"
    with database.connect(lab, "gis", port=lab.ports.primary) as connection:
        connection.execute(f"drop schema if exists {name} cascade")


def rows(lab, statement):
    with database.connect(lab, "gis", port=lab.ports.primary) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else None


@live
def test_a_frame_full_of_odd_things_comes_back_exactly(lab, table):
    loading.load(lab, ODD, table)
    columns = [c for c in ODD.columns if c != "geometry"]
    quoted = ", ".join('"' + c.replace('"', '""') + '"' for c in columns)
    found = rows(lab, f"select {quoted}, ST_AsEWKB(geom) from {table} order by id")
    for i, column in enumerate(columns):
        wanted = [None if not isinstance(v, (dict, list)) and pandas.isna(v) else v
                  for v in ODD[column]]
        assert [row[i] for row in found] == wanted, column
    assert [row[-1] for row in found] == shapes.ewkb(ODD.geometry)
    assert str(found[1][2]) == "-0.0"


@live
def test_every_member_holds_what_was_loaded(lab, table):
    places = datasets.places(min_population=200_000)
    done = loading.load(lab, places, table)
    found = postgis.verify(lab, table, places)
    assert done.rows == len(places) and len(found) == 3
    assert found["equal"].all() and set(found["rows"]) == {len(places)}
    moved = places.set_geometry(places.geometry.translate(1e-9))
    assert not postgis.verify(lab, table, moved)["equal"].any()


@live
def test_refuse_replace_and_append_do_what_they_say(lab, table):
    small = datasets.points(10)
    loading.load(lab, small, table)
    with pytest.raises(loading.TableExists, match="replace"):
        loading.load(lab, small, table)
    with pytest.raises(loading.DoubleKey, match="already there|exists"):
        loading.load(lab, small, table, if_exists="append")
    more = small.assign(id=small["id"] + 10)
    loading.load(lab, more, table, if_exists="append")
    assert rows(lab, f"select count(*), max(id) from {table}") == [(20, 20)]
    with pytest.raises(loading.WrongColumns, match="height"):
        loading.load(lab, more.assign(height=["x"] * 10), table, if_exists="append")
    with pytest.raises(loading.WrongColumns, match="has no id"):
        loading.load(lab, more.drop(columns="id"), table, if_exists="append")
    loading.load(lab, more.assign(id=more["id"] + 10).drop(columns="kind"), table,
                 if_exists="append")  # a column that may be NULL may be left out
    loading.load(lab, frame(note=["a", "b"]), table, if_exists="replace")
    assert rows(lab, f"select id, note from {table} order by id") == [(1, "a"), (2, "b")]
    indexes = rows(lab, "select indexname from pg_indexes where schemaname = 'test_loading'")
    assert len(indexes) == 2 and not any("loading_" in name for name, in indexes)
    assert postgis.connect(lab, "reader", port=lab.ports.replicas).execute(
        "select current_user").fetchone() == ("reader",)


@live
def test_an_interrupted_load_leaves_the_old_table_and_readers_never_see_half(lab, table):
    loading.load(lab, datasets.points(100), table)

    def stop(done, _):
        seen = rows(lab, f"select count(*) from {table}")
        assert seen == [(100,)], "a reader saw rows of a load that had not ended"
        if done >= 40_000:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        loading.load(lab, datasets.points(100_000), table, if_exists="replace", progress=stop)
    assert rows(lab, f"select count(*) from {table}") == [(100,)]
    assert rows(lab, "select count(*) from pg_tables where schemaname = 'test_loading'") == [(1,)]


@live
def test_a_load_whose_connection_is_cut_is_all_or_nothing(lab, table):
    """The server ends the session in the middle, as a failover would: one named error."""
    cuts = []

    def cut(done, of):
        if done and not cuts:
            cuts.append(done)
            assert done < of, "too late to be in the middle"
            with database.connect(lab, "postgres", port=lab.ports.primary) as connection:
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                                   "where query ilike 'copy%%' and usename = 'gis'")
    many = datasets.points(300_000)
    with pytest.raises(loading.Interrupted, match="replace"):
        loading.load(lab, many, table, progress=cut)
    assert rows(lab, f"select to_regclass('{table}')") == [(None,)]
    loading.load(lab, many.head(1000), table, if_exists="replace")
    assert rows(lab, f"select count(*) from {table}") == [(1000,)]


@live
def test_two_loads_of_one_table_at_once_are_one_after_the_other(lab, table):
    said = []

    def one(n):
        try:
            loading.load(lab, datasets.points(n), table, if_exists="replace", say=said.append)
        except psycopg.Error as error:
            said.append(error)
    threads = [threading.Thread(target=one, args=(n,)) for n in (3_000, 5_000)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [isinstance(s, str) for s in said] == [True, True], said
    assert rows(lab, f"select count(*) from {table}")[0][0] in (3_000, 5_000)


@live
def test_a_table_that_a_view_reads_is_not_replaced(lab, table):
    loading.load(lab, datasets.points(10), table)
    rows(lab, f"create view test_loading.seen as select * from {table}")
    with pytest.raises(loading.TableExists, match="view"):
        loading.load(lab, datasets.points(20), table, if_exists="replace")
    assert rows(lab, f"select count(*) from {table}") == [(10,)]


@live
def test_points_are_loaded_by_the_ten_thousands_a_second(lab, table):
    """With key, GiST and a synchronous replica; the comparison with others is a bench's."""
    done = loading.load(lab, datasets.points(200_000), table)
    assert done.rows / done.seconds > 20_000
