"""Columns as the stream of a binary COPY; pure, no connection.

PostgreSQL manual: COPY, "Binary Format". Each row is a count of columns, then for each its length
and its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy

from .columns import BadValue, Column, Encoded, column

__all__ = ["BadValue", "Column", "ahead", "column", "stream"]

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"


def stream(batches: Iterable[tuple[list[Column], list[int], int]],
           tally=None) -> Iterator[tuple[bytes, int]]:
    """Yield (bytes to send, rows done) of batches: columns, rows to cut before, rows in all.

    tally : has a method `add`, which is shown the columns and their encoded values.
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


def _rows(columns: list[Encoded], rows: int) -> bytes:
    """Join columns to rows.

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
