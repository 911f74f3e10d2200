"""Prove that a table holds what was sent: a count, and a hash that both sides work out alone.

The server's is `hash_record_extended` of what it has stored, in its own binary format, summed over
the rows so that no order matters. Ours is the same function (Bob Jenkins' lookup3, PostgreSQL's
source src/common/hashfn.c, hash_bytes_extended) of what was sent, for many rows at a time. It
finds what went wrong by accident; it is no defence against somebody who means to deceive.
"""

from __future__ import annotations

from hashlib import md5, sha256

import geopandas
import numpy
from psycopg import sql

from . import shapes
from .columns import Column
from .values import Encoded, listed, payload, sizes

LONG = 256  # bytes; of a longer value its SHA-256 is hashed, which is quicker here
_SEND = {"boolean": "boolsend", "smallint": "int2send", "integer": "int4send",
         "bigint": "int8send", "real": "float4send", "double precision": "float8send",
         "text": "textsend", "bytea": "byteasend", "date": "date_send", "numeric": "numeric_send",
         "time without time zone": "time_send", "interval": "interval_send",
         "timestamp without time zone": "timestamp_send", "uuid": "uuid_send",
         "timestamp with time zone": "timestamptz_send"}
_SHORT = {"boolean", "smallint", "integer", "bigint", "real", "double precision", "date", "uuid",
          "time without time zone", "interval", "timestamp without time zone",
          "timestamp with time zone"}
# How many of the last 11 bytes count, as masks of three words.
_TAIL = numpy.array([[(1 << 8 * min(max(rest - 4 * word, 0), 4)) - 1 for word in range(3)]
                     for rest in range(12)], "u4")


class Tally:
    """Count and hash of the rows that were sent so far."""

    def __init__(self):
        self.rows = self.hash = 0

    def add(self, columns: list[Column], encoded: list[Encoded], rows: int) -> None:
        """Take in some more rows."""
        row = numpy.zeros(rows, "u8")
        for column, values in zip(columns, encoded, strict=True):
            if column.type == "jsonb":  # the server keeps it in a form of its own
                values = values.is_null().to_numpy(zero_copy_only=False)
            row = row * numpy.uint64(31) + hashes(values)
        self.rows += rows
        self.hash = (self.hash + int(row.sum())) % 2**64


def question(columns: list[Column], table: tuple[str, str], new_only: bool) -> sql.Composed:
    """Return SQL for: count and hash of a table's rows, or of this transaction's only."""
    parts = []
    for column in columns:
        name = sql.Identifier(column.name)
        if column.type == "jsonb":
            parts.append(sql.SQL("boolsend({} is null)").format(name))
            continue
        send = sql.SQL(_SEND.get(column.type, "geometry_send") + "({})").format(name)
        if column.type not in _SHORT and not column.type.startswith("geometry(Point"):
            send = sql.SQL("case when octet_length({0}) > {1} then sha256({0}) else {0} end"
                           ).format(send, sql.Literal(LONG))
        parts.append(send)
    where = "where xmin = pg_current_xact_id()::xid" if new_only else ""
    return sql.SQL("select count(*), coalesce(sum(hash_record_extended(row({}), 0)), 0) from {} "
                   + where).format(sql.SQL(", ").join(parts), sql.Identifier(*table))


def hashes(values: Encoded) -> numpy.ndarray:
    """Return PostgreSQL's 64-bit hash of each value; 0 for a NULL."""
    if isinstance(values, numpy.ndarray):
        size = numpy.full(len(values), values.itemsize, "i8")
        return _lookup3(values.tobytes(), size)
    size = sizes(values, null=0)
    if (size > LONG).any():
        values = listed(one if one is None or len(one) <= LONG else sha256(one).digest()
                        for one in values.to_numpy(zero_copy_only=False))
        size = sizes(values, null=0)
    found = _lookup3(payload(values), size)
    found[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return found


def fingerprint(gdf: geopandas.GeoDataFrame) -> int:
    """Return the sum of the geometries' hashes, as fingerprint_query's third number counts."""
    return sum(int(md5(one).hexdigest()[:15], 16)
               for one in shapes.ewkb(gdf.geometry) if one is not None)


def _lookup3(data: bytes | memoryview, size: numpy.ndarray) -> numpy.ndarray:
    """Hash values that lie one behind the other, each of its size in bytes."""
    if not len(size):
        return numpy.zeros(0, "u8")
    data = b"".join([data, bytes(12)])  # so that there are three words behind the last value, too
    longest_first = None
    if len(size) and size.min() == size.max():
        at = numpy.zeros(len(size), "i8")

        def word(offset: numpy.ndarray, rows: int) -> numpy.ndarray:
            return numpy.ndarray((rows,), "<u4", data, int(offset[0]), (int(size[0]),))
    else:
        at = numpy.cumsum(size) - size
        longest_first = numpy.argsort(-size, kind="stable")
        size, at = size[longest_first], at[longest_first]
        words = numpy.ndarray((len(data) - 3,), "<u4", data, 0, (1,))  # from every place

        def word(offset: numpy.ndarray, rows: int) -> numpy.ndarray:
            return words[offset]
    blocks = size // 12
    a = (size + 0x9E3779B9 + 3_923_095).astype("u4")
    state = numpy.stack([a, a, a])
    for block in range(int(blocks.max(initial=0))):
        active = int(numpy.count_nonzero(blocks > block))
        here = at[:active] + 12 * block
        a, b, c = (state[i, :active] + word(here + 4 * i, active) for i in range(3))
        for turn in ((4, 6, 8), (16, 19, 4)):
            a = (a - c) ^ _turned(c, turn[0])
            c = c + b
            b = (b - a) ^ _turned(a, turn[1])
            a = a + c
            c = (c - b) ^ _turned(b, turn[2])
            b = b + a
        state[:, :active] = a, b, c
    tail = at + 12 * blocks
    mask = _TAIL[size - 12 * blocks]
    a, b, c = (state[i] + ((word(tail + 4 * i, len(size)) & mask[:, i]) << (8 if i == 2 else 0))
               for i in range(3))
    for turn in ((14, 11, 25), (16, 4, 14)):
        c = (c ^ b) - _turned(b, turn[0])
        a = (a ^ c) - _turned(c, turn[1])
        b = (b ^ a) - _turned(a, turn[2])
    c = (c ^ b) - _turned(b, 24)
    found = (b.astype("u8") << numpy.uint64(32)) | c
    if longest_first is not None:
        back = numpy.empty_like(found)
        back[longest_first] = found
        return back
    return found


def _turned(word: numpy.ndarray, by: int) -> numpy.ndarray:
    return (word << numpy.uint32(by)) | (word >> numpy.uint32(32 - by))
