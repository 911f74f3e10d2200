"""Columns of a GeoDataFrame as the stream of a binary COPY; pure, no connection.

PostgreSQL manual: COPY, "Binary Format". Every number is big-endian; dates count from 2000.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import geopandas
import numpy
import pandas

from . import shapes
from .shapes import LoadError

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_INTEGERS = ((2**15, "smallint", ">i2"), (2**31, "integer", ">i4"), (2**63, "bigint", ">i8"))
_EPOCH = numpy.datetime64("2000-01-01")


class BadValue(LoadError):
    """A value that has no exact counterpart in PostgreSQL."""


# What `encode` returns: fixed-width values without a gap, or one bytes (None: NULL) per row.
Encoded = numpy.ndarray | list


@dataclass(frozen=True)
class Column:
    """One column: its name, its SQL type, and its values as COPY wants them, by rows."""

    name: str
    type: str
    encode: Callable[[slice], Encoded]


def stream(columns: list[Column], rows: int, chunk: int) -> Iterator[tuple[bytes, int]]:
    """Yield (bytes to send, rows done), `chunk` rows at a time."""
    yield HEADER, 0
    for start in range(0, rows, chunk):
        end = min(start + chunk, rows)
        yield _rows([c.encode(slice(start, end)) for c in columns], end - start), end
    yield TRAILER, rows


def column(name: str, values: pandas.Series) -> Column:
    """Return the column that holds `values`, typed by what they are."""
    if isinstance(values.dtype, geopandas.array.GeometryDtype):
        return Column(name, *shapes.column(name, geopandas.GeoSeries(values)))
    if isinstance(values.dtype, pandas.CategoricalDtype):
        return _category(name, values)
    kind = values.dtype
    types = pandas.api.types
    if types.is_bool_dtype(kind):
        return _fixed(name, "boolean", values, "?")
    if types.is_integer_dtype(kind):
        return _integer(name, values)
    if types.is_float_dtype(kind):
        small = getattr(kind, "itemsize", 8) <= 4
        return _fixed(name, "real" if small else "double precision", values,
                      ">f4" if small else ">f8")
    if types.is_datetime64_any_dtype(kind):
        return _time(name, values)
    if types.is_string_dtype(kind) or types.is_object_dtype(kind):
        return _objects(name, values)
    raise BadValue(f"column {name}: values of type {kind} have no counterpart; change them with "
                   f"gdf[{name!r}].astype(str)")


def _rows(columns: list[Encoded], rows: int) -> bytes:
    """Join columns to rows: each a count of columns, then for each its length and its bytes.

    Columns of fixed width go together into one packed record per row. A column of varying width
    ends a record with its length, and its bytes come between that record and the next.
    """
    pieces: list[list[bytes]] = []
    fields: list[tuple[str, str]] = [("count", ">i2")]
    values: list = [len(columns)]

    def packed() -> numpy.ndarray:
        record = numpy.empty(rows, dtype=fields)
        for (name, _), value in zip(fields, values, strict=True):
            record[name] = value
        return record

    for i, encoded in enumerate(columns):
        fields.append((f"length{i}", ">i4"))
        if isinstance(encoded, numpy.ndarray):
            fields.append((f"value{i}", encoded.dtype))
            values += [encoded.dtype.itemsize, encoded]
            continue
        values.append([-1 if one is None else len(one) for one in encoded])
        record = packed()
        pieces += [record.view(f"V{record.itemsize}").tolist(),
                   [one or b"" for one in encoded]]
        fields, values = [], []
    if not pieces:
        return packed().tobytes()
    if fields:
        record = packed()
        pieces.append(record.view(f"V{record.itemsize}").tolist())
    return b"".join(chain.from_iterable(zip(*pieces, strict=True)))


def _fixed(name: str, sql: str, values: pandas.Series, kind: str) -> Column:
    """Return a column of numbers; a gap in them makes that chunk one of single values."""
    native = numpy.dtype(kind).newbyteorder("=")

    def encode(rows: slice) -> Encoded:
        part = values.iloc[rows]
        gaps = part.isna().to_numpy()
        filled = part.to_numpy(dtype=native, na_value=native.type(0)) if gaps.any() \
            else part.to_numpy(dtype=native)
        numbers = numpy.ascontiguousarray(filled.astype(kind))
        return numbers if not gaps.any() else _single(numbers, gaps)
    return Column(name, sql, encode)


def _single(numbers: numpy.ndarray, gaps: numpy.ndarray) -> list:
    listed = numbers.view(f"V{numbers.itemsize}").tolist()
    return [None if gap else one for one, gap in zip(listed, gaps.tolist(), strict=True)]


def _integer(name: str, values: pandas.Series) -> Column:
    kind = numpy.dtype(getattr(values.dtype, "numpy_dtype", values.dtype)) \
        if not isinstance(values.dtype, pandas.ArrowDtype) else numpy.dtype("i8")
    top = int(numpy.iinfo(kind).max)
    if top >= 2**63:  # unsigned: it may hold what bigint cannot
        top = min(top, 2**63 - 1)
        if (values > top).any():
            raise BadValue(f"column {name}: {values.max()} is larger than PostgreSQL's bigint; "
                           f"load it as text with gdf[{name!r}].astype(str)")
    _, sql, layout = next(row for row in _INTEGERS if top < row[0])
    return _fixed(name, sql, values, layout)


def _time(name: str, values: pandas.Series) -> Column:
    zone = getattr(values.dt, "tz", None)
    plain = (values.dt.tz_convert("UTC").dt.tz_localize(None) if zone else values)
    ticks = plain.to_numpy(dtype="datetime64[ns]") if "[ns]" in str(values.dtype) else None
    if ticks is not None and (ticks.view("i8")[~numpy.isnat(ticks)] % 1000).any():
        raise BadValue(f"column {name}: PostgreSQL keeps microseconds, not nanoseconds; round "
                       f"them with gdf[{name!r}].dt.floor('us')")

    def encode(rows: slice) -> Encoded:
        moments = plain.iloc[rows].to_numpy(dtype="datetime64[us]")
        gaps = numpy.isnat(moments)
        numbers = (moments - _EPOCH).astype("i8").astype(">i8")
        return numbers if not gaps.any() else _single(numbers, gaps)
    return Column(name, "timestamp with time zone" if zone else "timestamp without time zone",
                  encode)


def _category(name: str, values: pandas.Series) -> Column:
    """Return the column of the categories, each encoded once."""
    one = column(name, pandas.Series(values.cat.categories, dtype=values.cat.categories.dtype))
    kinds = one.encode(slice(None))
    listed = kinds if isinstance(kinds, list) else \
        kinds.view(f"V{kinds.itemsize}").tolist()
    listed = [*listed, None]  # code -1: no category
    codes = values.cat.codes.to_numpy()
    return Column(name, one.type, lambda rows: [listed[code] for code in codes[rows].tolist()])


def _objects(name: str, values: pandas.Series) -> Column:
    listed = values.to_numpy(dtype=object)
    gaps = values.isna().to_numpy()
    kinds = {type(one) for one in listed[~gaps]}

    def all_are(*wanted: type) -> bool:
        return bool(kinds) and all(issubclass(kind, wanted) for kind in kinds)

    if not kinds or all_are(str):
        return _varying(name, "text", listed, gaps, lambda one: _text(name, one))
    if all_are(bool, numpy.bool_):
        return column(name, values.astype("boolean"))
    if all_are(int, numpy.integer):
        try:
            return column(name, values.astype("Int64"))
        except (OverflowError, TypeError):
            raise BadValue(f"column {name}: a number is larger than PostgreSQL's bigint; load it "
                           f"as text with gdf[{name!r}].astype(str)") from None
    if all_are(int, float, numpy.number):
        return column(name, values.astype("Float64"))
    if all_are(bytes):
        return _varying(name, "bytea", listed, gaps, bytes)
    if all_are(datetime.datetime):
        try:
            return column(name, pandas.to_datetime(values))
        except (ValueError, TypeError) as error:
            raise BadValue(f"column {name}: {error}; bring all moments into one time zone with "
                           "pandas.to_datetime(..., utc=True)") from None
    if all_are(datetime.date):
        first = _EPOCH.astype(datetime.date)
        return _varying(name, "date", listed, gaps,
                        lambda one: (one - first).days.to_bytes(4, "big", signed=True))
    if all_are(dict, list):
        return _varying(name, "jsonb", listed, gaps, lambda one: _json(name, one))
    found = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise BadValue(f"column {name} holds {found}; make it of one kind (text, numbers, dates, "
                   f"lists), e.g. with gdf[{name!r}].astype(str)")


def _varying(name: str, sql: str, listed: numpy.ndarray, gaps: numpy.ndarray,
             encode: Callable[[object], bytes]) -> Column:
    return Column(name, sql, lambda rows: [
        None if gap else encode(one)
        for one, gap in zip(listed[rows].tolist(), gaps[rows].tolist(), strict=True)])


def _text(name: str, text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise BadValue(f"column {name}: {text[:40]!r} is no valid Unicode; read its file again "
                       "with the right encoding") from None
    if b"\0" in data:
        raise BadValue(f"column {name}: {text[:40]!r} has a null byte, which PostgreSQL's text "
                       "cannot hold; remove it with .str.replace('\\0', '')")
    return data


def _json(name: str, thing: object) -> bytes:
    try:
        return b"\x01" + _text(name, json.dumps(thing, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        if isinstance(error, LoadError):
            raise
        raise BadValue(f"column {name}: {str(thing)[:40]} is no JSON ({error}); load it as text "
                       f"with gdf[{name!r}].astype(str)") from None
