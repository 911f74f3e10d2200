"""Columns of a frame as PostgreSQL's types, and their values in its binary format; pure.

Every number is big-endian; dates and moments count from 2000 (PostgreSQL's source,
src/backend/utils/adt: timestamp.c, date.c, numeric.c, uuid.c, jsonb.c, each one's `_recv`). The
type of an Arrow-backed column follows from its dtype alone, so that every batch of a file
has the same; that of an object column from all its values.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import geopandas
import numpy
import pandas
import pyarrow

from . import shapes, single
from .shapes import LoadError
from .single import BadValue
from .values import Encoded, binary, gapped, listed, payload

__all__ = ["BadValue", "Column", "column"]

_INTEGERS = ((2**15, "smallint", ">i2"), (2**31, "integer", ">i4"), (2**63, "bigint", ">i8"))
_DAYS = 10_957  # from 1970 to 2000
_MICROSECONDS = {"s": 10**6, "ms": 10**3, "us": 1}
_FIRST, _LAST = -210_866_803_200_000_000, 9_224_318_016_000_000_000  # 4714 BC to 294276, in us
_INTERVAL = numpy.dtype([("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])


@dataclass(frozen=True)
class Column:
    """One column: its name, its SQL type, and its values as COPY wants them, by rows."""

    name: str
    type: str
    encode: Callable[[slice], Encoded]


def column(name: str, values: pandas.Series) -> Column:
    """Return the column that holds `values`, typed by what they are.

    Raises
    ------
    BadValue : these values have no exact counterpart in PostgreSQL; says what to do.
    """
    kind = values.dtype
    types = pandas.api.types
    if isinstance(kind, geopandas.array.GeometryDtype):
        return Column(name, *shapes.column(name, geopandas.GeoSeries(values)))
    if isinstance(kind, pandas.CategoricalDtype):
        return _category(name, values)
    if isinstance(kind, pandas.SparseDtype):
        return column(name, values.sparse.to_dense())
    if isinstance(kind, pandas.ArrowDtype):
        return _arrow(name, values, kind.pyarrow_dtype)
    if types.is_bool_dtype(kind):
        return _fixed(name, "boolean", values, "?")
    if types.is_integer_dtype(kind):
        return _integer(name, values, numpy.dtype(getattr(kind, "numpy_dtype", kind)))
    if types.is_float_dtype(kind):
        return _float(name, values, kind.itemsize)
    if types.is_datetime64_any_dtype(kind):
        zone = values.dt.tz is not None
        plain = values.dt.tz_convert(None) if zone else values
        return _moments(name, plain.to_numpy(), zone)
    if types.is_timedelta64_dtype(kind):
        return _durations(name, values.to_numpy())
    if types.is_object_dtype(kind):
        return _objects(name, values)
    if types.is_string_dtype(kind):
        return _text(name, lambda rows: pyarrow.array(values.iloc[rows].array))
    raise BadValue(f"column {name}: values of type {kind} have no counterpart; change them with "
                   f"gdf[{name!r}].astype(str)")


def _arrow(name: str, values: pandas.Series, kind: pyarrow.DataType) -> Column:
    """Return an Arrow-backed column; its dtype says everything."""
    is_ = pyarrow.types
    if is_.is_dictionary(kind):
        return column(name, values.astype(pandas.ArrowDtype(kind.value_type)))
    if is_.is_boolean(kind):
        return _fixed(name, "boolean", values, "?")
    if is_.is_integer(kind):
        return _integer(name, values, numpy.dtype(kind.to_pandas_dtype()))
    if is_.is_floating(kind):
        return _float(name, values, kind.bit_width // 8)

    def whole() -> pyarrow.Array:
        return _one(pyarrow.array(values.array))
    if is_.is_timestamp(kind):
        return _moments(name, _ticks(whole(), f"datetime64[{kind.unit}]"), kind.tz is not None)
    if is_.is_duration(kind):
        return _durations(name, _ticks(whole(), f"timedelta64[{kind.unit}]"))
    if is_.is_date(kind):
        return _days(name, _ticks(whole().cast(pyarrow.date32()), "datetime64[D]"))
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind) \
            or is_.is_null(kind):
        return _text(name, lambda rows: pyarrow.array(values.iloc[rows].array))
    found = [(sql, encode) for fits, sql, encode in (
        (is_.is_time(kind), "time without time zone", single.time),
        (is_.is_decimal(kind), "numeric", single.numeric),
        (is_.is_nested(kind), "jsonb", single.json),
        (str(kind) == "extension<arrow.uuid>", "uuid", single.uuid),
        ("binary" in str(kind), "bytea", single.binary)) if fits]
    if not found:
        raise BadValue(f"column {name}: values of type {kind} have no counterpart; change them "
                       f"with gdf[{name!r}].astype(str)")
    sql, encode = found[0]
    if is_.is_time64(kind) and kind.unit == "ns":
        _exact(name, _ticks(whole(), "timedelta64[ns]"))
    return Column(name, sql, lambda rows: listed(
        None if one is None else encode(name, one)
        for one in _one(pyarrow.array(values.iloc[rows].array)).to_pylist()))


def _one(array: pyarrow.Array | pyarrow.ChunkedArray) -> pyarrow.Array:
    return array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array


def _ticks(array: pyarrow.Array, kind: str) -> numpy.ndarray:
    """Return numpy's moments or durations of Arrow's, a NULL as NaT; in UTC where zoned."""
    width = pyarrow.int32() if array.type.bit_width == 32 else pyarrow.int64()
    numbers = array.cast(width) if array.type.bit_width == 32 else array.view(width)
    filled = numbers.cast(pyarrow.int64()).fill_null(numpy.iinfo("i8").min)
    return filled.to_numpy(zero_copy_only=False).view(kind)


def _fixed(name: str, sql: str, values: pandas.Series, kind: str) -> Column:
    """Return a column of numbers; a gap in them makes that chunk one of single values."""
    native = numpy.dtype(kind).newbyteorder("=")

    def encode(rows: slice) -> Encoded:
        part = values.iloc[rows]
        gaps = part.isna().to_numpy()
        filled = part.to_numpy(dtype=native, na_value=native.type(0)) if gaps.any() \
            else part.to_numpy(dtype=native)
        if native.kind == "f":  # of Arrow's, where a NaN may be no gap to pandas
            gaps = gaps | numpy.isnan(filled)
        return gapped(numpy.ascontiguousarray(filled.astype(kind)), gaps)
    return Column(name, sql, encode)


def _integer(name: str, values: pandas.Series, kind: numpy.dtype) -> Column:
    top = int(numpy.iinfo(kind).max)
    if top >= 2**63:  # unsigned: it may hold what bigint cannot
        top = min(top, 2**63 - 1)
        if (values > top).any():
            raise BadValue(f"column {name}: {values.max()} is larger than PostgreSQL's bigint; "
                           f"load it as text with gdf[{name!r}].astype(str)")
    _, sql, layout = next(row for row in _INTEGERS if top < row[0])
    return _fixed(name, sql, values, layout)


def _float(name: str, values: pandas.Series, size: int) -> Column:
    if size > 8:
        long = values.to_numpy()
        short = pandas.Series(long.astype("f8"))
        if (short.to_numpy() != long)[~numpy.isnan(long)].any():
            raise BadValue(f"column {name}: PostgreSQL keeps 8 bytes of a number, and these have "
                           f"more; round them with gdf[{name!r}].astype('float64')")
        values = short
    return _fixed(name, "real", values, ">f4") if size <= 4 \
        else _fixed(name, "double precision", values, ">f8")


def _microseconds(name: str, ticks: numpy.ndarray, what: str) -> tuple[numpy.ndarray, int, int]:
    """Return ticks as integers with the factor and divisor that make microseconds of them."""
    unit = numpy.datetime_data(ticks.dtype)[0]
    if unit == "ns":
        _exact(name, ticks)
        return ticks.view("i8"), 1, 1000
    factor = _MICROSECONDS[unit]
    numbers = ticks.view("i8")
    real = numbers[~numpy.isnat(ticks)]
    low, high = (_FIRST, _LAST) if what == "moment" else (-2**63 + 1, 2**63 - 1)
    if len(real) and not low <= int(real.min()) * factor <= int(real.max()) * factor <= high:
        raise BadValue(f"column {name}: a {what} is out of PostgreSQL's range (years 4713 BC to "
                       f"294276); load it as text with gdf[{name!r}].astype(str)")
    return numbers, factor, 1


def _exact(name: str, ticks: numpy.ndarray) -> None:
    if (ticks.view("i8")[~numpy.isnat(ticks)] % 1000).any():
        raise BadValue(f"column {name}: PostgreSQL keeps microseconds, not nanoseconds; round "
                       f"them with gdf[{name!r}].dt.floor('us')")


def _moments(name: str, moments: numpy.ndarray, zone: bool) -> Column:
    numbers, factor, divisor = _microseconds(name, moments, "moment")
    epoch = _DAYS * 86_400_000_000

    def encode(rows: slice) -> Encoded:
        gaps = numpy.isnat(moments[rows])
        part = numpy.where(gaps, 0, numbers[rows])  # so that no NaT overflows
        # the year 294276 needs the room that 30 years take off
        part = (part - epoch // factor) * factor if factor > 1 else part // divisor - epoch
        return gapped(part.astype(">i8"), gaps)
    return Column(name, f"timestamp {'with' if zone else 'without'} time zone", encode)


def _durations(name: str, durations: numpy.ndarray) -> Column:
    numbers, factor, divisor = _microseconds(name, durations, "duration")

    def encode(rows: slice) -> Encoded:
        gaps = numpy.isnat(durations[rows])
        part = numpy.zeros(len(gaps), _INTERVAL)
        part["microseconds"] = numpy.where(gaps, 0, numbers[rows]) * factor // divisor
        return gapped(part, gaps)
    return Column(name, "interval", encode)


def _days(name: str, days: numpy.ndarray) -> Column:
    first, last = numpy.datetime64("-4712-01-01"), numpy.datetime64("5874897-12-31")
    if ((days < first) | (days > last)).any():
        raise BadValue(f"column {name}: a date is out of PostgreSQL's range (4713 BC to 5874897); "
                       f"load it as text with gdf[{name!r}].astype(str)")

    def encode(rows: slice) -> Encoded:
        gaps = numpy.isnat(days[rows])
        numbers = numpy.where(gaps, 0, days[rows].view("i8") - _DAYS)
        return gapped(numbers.astype(">i4"), gaps)
    return Column(name, "date", encode)


def _text(name: str, chunk: Callable[[slice], pyarrow.Array]) -> Column:
    def encode(rows: slice) -> Encoded:
        try:
            text = _one(chunk(rows)).cast(pyarrow.large_string())
        except (UnicodeEncodeError, pyarrow.ArrowInvalid):
            raise BadValue(f"column {name} holds what is no valid Unicode; read its file again "
                           "with the right encoding") from None
        data = text.cast(pyarrow.large_binary())
        if not numpy.frombuffer(payload(data), "u1").all():
            raise BadValue(f"column {name}: a text has a null byte, which PostgreSQL cannot hold; "
                           f"remove it with gdf[{name!r}].str.replace('\\0', '')")
        return data
    return Column(name, "text", encode)


def _category(name: str, values: pandas.Series) -> Column:
    """Return the column of the categories, each encoded once."""
    one = column(name, pandas.Series(values.cat.categories, dtype=values.cat.categories.dtype))
    kinds, codes = binary(one.encode(slice(None))), values.cat.codes.to_numpy()
    return Column(name, one.type, lambda rows: kinds.take(
        pyarrow.array(codes[rows], mask=codes[rows] < 0)))


def _objects(name: str, values: pandas.Series) -> Column:
    objects = values.to_numpy(dtype=object)
    gaps = values.isna().to_numpy()
    kinds = {type(one) for one in objects[~gaps]}

    def all_are(*wanted: type, but: tuple[type, ...] = ()) -> bool:
        return bool(kinds) and all(issubclass(kind, wanted) and not issubclass(kind, but)
                                   for kind in kinds)

    if not kinds or all_are(str):
        return _text(name, lambda rows: pyarrow.array(objects[rows], mask=gaps[rows],
                                                      type=pyarrow.large_string()))
    if all_are(bool, numpy.bool_):
        return column(name, values.astype("boolean"))
    if all_are(int, numpy.integer, but=(bool, numpy.timedelta64)):
        try:
            return column(name, values.astype("Int64"))
        except (OverflowError, TypeError, ValueError):
            raise BadValue(f"column {name}: a number is larger than PostgreSQL's bigint; load it "
                           f"as text with gdf[{name!r}].astype(str)") from None
    if all_are(int, float, numpy.integer, numpy.floating, but=(bool, numpy.timedelta64)):
        if any(float(one) != one for one in objects[~gaps]):
            raise BadValue(f"column {name}: a whole number among fractions has more than the 15 "
                           f"digits of a double; load it as text with gdf[{name!r}].astype(str)")
        return column(name, values.astype("Float64"))
    try:
        if all_are(datetime.datetime, numpy.datetime64):
            return column(name, pandas.to_datetime(values))
        if all_are(datetime.timedelta, numpy.timedelta64):
            return column(name, pandas.to_timedelta(values))
    except (ValueError, TypeError) as error:
        if isinstance(error, LoadError):
            raise
        raise BadValue(f"column {name}: {error}; bring all moments into one time zone with "
                       "pandas.to_datetime(..., utc=True)") from None
    if all_are(datetime.date, but=(datetime.datetime,)):
        return _days(name, numpy.array([None if gap else one for one, gap in zip(
            objects, gaps, strict=True)], "datetime64[D]"))
    for sql, encode, wanted, but in (
            ("bytea", single.binary, (bytes, bytearray, memoryview), ()),
            ("numeric", single.numeric, (decimal.Decimal, int), (bool,)),
            ("uuid", single.uuid, (UUID,), ()),
            ("time without time zone", single.time, (datetime.time,), ()),
            ("jsonb", single.json, (dict, list, tuple, numpy.ndarray), ())):
        if all_are(*wanted, but=but):
            return Column(name, sql, lambda rows, encode=encode: listed(
                None if gap else encode(name, one) for one, gap in zip(
                    objects[rows].tolist(), gaps[rows].tolist(), strict=True)))
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise BadValue(f"column {name} holds {found}; make it of one kind (text, numbers, dates, "
                   f"lists), e.g. with gdf[{name!r}].astype(str)")
