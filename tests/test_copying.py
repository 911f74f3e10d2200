"""The stream of a COPY and its hash: without any server."""

import datetime
import decimal
import threading

import geopandas
import numpy
import pandas
import pyarrow
import pytest
import shapely

from gislab.loading import columns, copying, proof, shapes, single
from gislab.loading.values import listed


def kinds(values):
    return columns.column("v", pandas.Series(values)).type


@pytest.mark.parametrize("kind, sql", [
    (pyarrow.int8(), "smallint"), (pyarrow.uint16(), "integer"), (pyarrow.uint64(), "bigint"),
    (pyarrow.float32(), "real"), (pyarrow.bool_(), "boolean"), (pyarrow.large_string(), "text"),
    (pyarrow.date32(), "date"), (pyarrow.date64(), "date"), (pyarrow.time32("ms"),
                                                              "time without time zone"),
    (pyarrow.timestamp("ms"), "timestamp without time zone"),
    (pyarrow.timestamp("s", "Asia/Tokyo"), "timestamp with time zone"),
    (pyarrow.duration("ms"), "interval"), (pyarrow.decimal128(20, 3), "numeric"),
    (pyarrow.binary(), "bytea"), (pyarrow.binary(4), "bytea"),
    (pyarrow.list_(pyarrow.int32()), "jsonb"),
    (pyarrow.struct([("a", pyarrow.int8())]), "jsonb"),
    (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), "text"), (pyarrow.null(), "text"),
])
def test_an_arrow_columns_type_follows_from_its_dtype_alone(kind, sql):
    """So that a file's batch without a single value has the type of all others."""
    for values in ([], [None, None]):
        found = columns.column("v", pandas.Series(values, dtype=pandas.ArrowDtype(kind)))
        assert found.type == sql
        assert found.encode(slice(None)).tolist() == values


@pytest.mark.parametrize("values, remedy", [
    (pandas.period_range("2026", periods=2), "astype"),
    (pandas.interval_range(0, 2), "astype"),
    ([True, 1], "bool, int"), (pandas.Series([1.5, 2**60 + 1], dtype=object), "digits"),
    ([1, decimal.Decimal(1), 0.5], "kind"),
    ([datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1)], "date, datetime"),
    ([datetime.time(1, tzinfo=datetime.UTC)], "time zone"),
    ([{1: "a"}], "key 1"), ([["a\0"]], "null byte"), ([["\ud800"]], "JSON"), ([[{1}]], "JSON"),
    ([decimal.Decimal("1E+200000")], "digits"), ([decimal.Decimal("1E-20000")], "digits"),
    (numpy.array(["300000-01-01"], "datetime64[s]"), "range"),
    (numpy.array([2**60], "timedelta64[s]"), "range"),
    (numpy.array([1, 3], numpy.longdouble) / 3 + 1e-18, "round"),
    ([shapely.Point(1, 2)], "Point"), ([1j], "astype|complex"),
])
def test_a_value_without_a_counterpart_is_refused_by_name(values, remedy):
    with pytest.raises(columns.BadValue, match=remedy):
        found = columns.column("v", pandas.Series(values))
        found.encode(slice(None))


@pytest.mark.parametrize("number, digits", [
    ("0", []), ("-0.00", []), ("1", [1]), ("10000", [1]), ("12345.6", [1, 2345, 6000]),
    ("0.00001", [1000]), ("1E+8", [1]), ("-99.9999", [99, 9999]),
])
def test_a_decimal_is_digits_to_the_base_of_ten_thousand(number, digits):
    """PostgreSQL's source, numeric.c: value = sum of digit * 10000 ** (weight - place)."""
    one = decimal.Decimal(number)
    count, weight, sign, scale, *found = numpy.frombuffer(single.numeric("v", one), ">i2").tolist()
    value = sum(decimal.Decimal(10000)**(weight - i) * d for i, d in enumerate(found))
    assert (count, found) == (len(digits), digits) and scale == max(-one.as_tuple().exponent, 0)
    assert value == abs(one) and bool(sign) == (one < 0)


def test_every_bit_of_the_hash_is_postgresqls():
    """As `select hash_record_extended(row(v), 0)` answered, for a bytea `v`."""
    said = {b"": 11507180170145056365, b"a": 3591986179850072241,
            b"0123456789a": 16109094162609480841, b"0123456789ab": 18145761929628866187,
            b"0123456789abc" * 3: 5985404641972070327, bytes(range(100)): 6055188645894458010}
    assert proof.hashes(listed([*said, None])).tolist() == [*said.values(), 0]
    fixed = numpy.frombuffer(b"0123456789ab" * 2, "V12")
    assert proof.hashes(fixed).tolist() == [said[b"0123456789ab"]] * 2


def test_the_tally_is_of_rows_whatever_their_order_and_the_cuts():
    def tally(values, cuts):
        found = proof.Tally()
        column = columns.column("v", pandas.Series(values))
        list(copying.stream([([column], cuts, len(values))], found))
        return found.rows, found.hash
    assert tally(["a", "b", None, "x" * 9999], []) == tally(["x" * 9999, None, "b", "a"], [1, 3])
    assert tally(["a", "b"], []) != tally(["a", "a"], [])


def test_two_columns_that_were_swapped_have_another_hash():
    found = []
    for pair in (("a", "b"), ("b", "a")):
        tally = proof.Tally()
        made = [columns.column(str(i), pandas.Series([one])) for i, one in enumerate(pair)]
        list(copying.stream([(made, [], 1)], tally))
        found.append(tally.hash)
    assert found[0] != found[1]


def test_working_ahead_keeps_order_stays_near_and_passes_errors_on():
    begun, taken = [], []

    def parts():
        for i in range(20):
            begun.append((i, threading.current_thread()))
            if i == 15:
                raise KeyError("broken")
            yield i
    with pytest.raises(KeyError):
        for part in copying.ahead(parts(), depth=2):
            taken.append(part)
            assert len(begun) <= len(taken) + 2
    assert taken == list(range(15))
    assert threading.main_thread() not in {thread for _, thread in begun}


def test_nobody_works_on_when_the_reader_has_gone():
    begun = []
    reader = copying.ahead(iter(lambda: begun.append(0) or len(begun), None))
    next(reader)
    reader.close()
    count = len(begun)
    assert count <= 3 and not [t for t in threading.enumerate() if "ThreadPool" in t.name]


def test_parts_of_a_collection_are_looked_at_too():
    ring = shapely.LinearRing([(0, 0), (1, 0), (1, 1)])
    deep = shapely.GeometryCollection([shapely.GeometryCollection([ring])])
    with pytest.raises(shapes.BadGeometry, match="LinearRing"):
        shapes.ewkb(geopandas.GeoSeries([deep], crs=4326))
