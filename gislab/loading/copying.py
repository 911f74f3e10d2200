"""Columns as the stream of a binary COPY; pure, no connection.

PostgreSQL manual: COPY, "Binary Format". Each row is a count of columns, then for each its length
and its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy
import pyarrow

from .columns import BadValue, Column, column
from .values import Encoded, binary, joined, payload, sizes

__all__ = ["BadValue", "Column", "ahead", "column", "stream"]

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


def stream(batches: Iterable[tuple[list[Column], list[int], int]], tally=None, *,
           numbered: bool = False) -> Iterator[tuple[bytes | memoryview, int]]:
    """Yield (bytes to send, rows done) of batches: columns, rows to cut before, rows in all.

    tally : has a method `add`, which is shown the columns and their encoded values.
    numbered : whether rows get a first column of their own, a bigint that counts from 1.
    """
    yield HEADER, 0
    done = 0
    for columns, cuts, rows in batches:
        start = 0
        for end in [*cuts, rows]:
            if end > start:
                encoded = [column.encode(slice(start, end)) for column in columns]
                if tally is not None:
                    tally.add(columns, encoded, end - start)
                if numbered:
                    encoded.insert(0, numpy.arange(done + start + 1, done + end + 1, dtype=">i8"))
                yield _rows(encoded, end - start), done + end
            start = end
        done += rows
    yield TRAILER, done


def ahead(parts: Iterator, depth: int = 2) -> Iterator:
    """Yield from an iterator that works in a thread of its own, `depth` steps ahead at most.

    So one processor builds the next part while the server takes in this one.
    """
    with ThreadPoolExecutor(1) as worker:
        steps = deque(worker.submit(next, parts, None) for _ in range(depth))
        try:
            while (part := steps.popleft().result()) is not None:
                steps.append(worker.submit(next, parts, None))
                yield part
        finally:
            [step.cancel() for step in steps]


def _rows(columns: list[Encoded], rows: int) -> memoryview:
    """Join columns to rows.

    Columns of fixed width go together into one packed record per row. A column of varying width
    ends a record with its length, and its bytes come between that record and the next.
    """
    pieces: list[pyarrow.LargeBinaryArray] = []
    fields: list[tuple[str, str]] = [("count", ">i2")]
    values: list = [len(columns)]

    def packed() -> pyarrow.LargeBinaryArray:
        record = numpy.empty(rows, dtype=fields)
        for (name, _), value in zip(fields, values, strict=True):
            record[name] = value
        return binary(record)

    for i, encoded in enumerate(columns):
        fields.append((f"length{i}", ">i4"))
        if isinstance(encoded, numpy.ndarray):
            fields.append((f"value{i}", encoded.dtype))
            values += [encoded.dtype.itemsize, encoded]
            continue
        values.append(sizes(encoded, null=-1))
        pieces += [packed(), encoded]
        fields, values = [], []
    if fields:
        pieces.append(packed())
    return payload(joined(*pieces))
