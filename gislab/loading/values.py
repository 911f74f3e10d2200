"""Encoded values of a column, as COPY and the proof read them; pure.

Values of one width without a gap are a numpy array of records, all others an Arrow array of bytes,
with its NULLs: in neither is there a Python object for each value.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy
import pyarrow
from pyarrow import compute

Encoded = numpy.ndarray | pyarrow.LargeBinaryArray


def listed(values: Iterable[bytes | None]) -> pyarrow.LargeBinaryArray:
    """Return values that were encoded one by one; None is a NULL."""
    return pyarrow.array(values, pyarrow.large_binary())


def gapped(records: numpy.ndarray, gaps: numpy.ndarray) -> Encoded:
    """Return records of one width, those at `gaps` as NULLs."""
    return compute.if_else(pyarrow.array(~gaps), binary(records), None) if gaps.any() else records


def binary(values: Encoded) -> pyarrow.LargeBinaryArray:
    """Return records as an Arrow array that looks at the same memory; others as they are."""
    if not isinstance(values, numpy.ndarray):
        return values
    return cut(values, numpy.full(len(values), values.itemsize))


def cut(data: numpy.ndarray, size: numpy.ndarray) -> pyarrow.LargeBinaryArray:
    """Return an array's bytes as values of these sizes, one behind the other, in its memory."""
    ends = numpy.zeros(len(size) + 1, "i8")
    size.cumsum(out=ends[1:])
    data = numpy.ascontiguousarray(data).reshape(-1).view("u1")
    return pyarrow.LargeBinaryArray.from_buffers(
        pyarrow.large_binary(), len(size), [None, *map(pyarrow.py_buffer, (ends, data))])


def joined(*pieces: pyarrow.LargeBinaryArray) -> pyarrow.LargeBinaryArray:
    """Return for each row its pieces, one behind the other; a NULL adds nothing."""
    return compute.binary_join_element_wise(
        *pieces, pyarrow.scalar(b"", pyarrow.large_binary()), null_handling="replace",
        null_replacement=b"")


def sizes(values: pyarrow.LargeBinaryArray, null: int) -> numpy.ndarray:
    """Return the bytes of each value, and `null` for a NULL."""
    return compute.binary_length(values).fill_null(null).to_numpy()


def payload(values: pyarrow.LargeBinaryArray) -> memoryview:
    """Return the values one behind the other; nothing for a NULL."""
    if values.null_count:
        values = values.fill_null(b"")
    _, ends, data = values.buffers()
    ends = numpy.frombuffer(ends, "i8", len(values) + 1, 8 * values.offset)
    return memoryview(data or b"")[ends[0]:ends[-1]]
