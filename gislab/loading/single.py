"""Values of PostgreSQL's binary format one by one: numeric, time, uuid, bytea, jsonb; pure.

Formats: PostgreSQL's source, src/backend/utils/adt, numeric_recv, time_recv and jsonb_recv.
"""

from __future__ import annotations

import datetime
import json as _json
import struct
from decimal import Decimal
from uuid import UUID

import numpy

from .shapes import LoadError

_SPECIAL = {"n": 0xC000, "N": 0xC000, "F": 0xD000}  # by the exponent of as_tuple
_NEGATIVE, _NEGATIVE_INFINITY = 0x4000, 0xF000
_WHOLE, _FRACTION = 131_072, 16_383  # digits that a numeric has before and behind its point


class BadValue(LoadError):
    """A value that has no exact counterpart in PostgreSQL."""


def numeric(name: str, one: Decimal | int) -> bytes:
    """Encode a decimal number: digits to the base of 10,000, and how many are shown."""
    number = Decimal(one)
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        flag = _NEGATIVE_INFINITY if sign and exponent == "F" else _SPECIAL[exponent]
        # the scale is what numeric_send gives for an infinity, so that our hash is the server's
        return struct.pack(">hhHH", 0, 0, flag, 0x20 if exponent == "F" else 0)
    scale = max(-exponent, 0)
    if scale > _FRACTION or (any(digits) and number.adjusted() >= _WHOLE):
        raise BadValue(f"column {name}: a number has more digits than PostgreSQL's numeric keeps "
                       f"({_WHOLE} and {_FRACTION}); load it as text with astype(str)")
    text = "".join(map(str, digits)) + "0" * max(exponent, 0) if any(digits) else ""
    fraction = scale + -scale % 4
    text += "0" * (fraction - scale)
    text = text.rjust(max(len(text) + -len(text) % 4, fraction), "0")
    groups = [int(text[at:at + 4]) for at in range(0, len(text), 4)]
    weight = len(groups) - fraction // 4 - 1
    while groups and not groups[0]:
        groups.pop(0)
        weight -= 1
    while groups and not groups[-1]:
        groups.pop()
    return struct.pack(f">hhHH{len(groups)}h", len(groups), weight if groups else 0,
                       _NEGATIVE if sign and groups else 0, scale, *groups)


def time(name: str, one: datetime.time) -> bytes:
    """Encode a time of the day in microseconds."""
    if one.tzinfo is not None:
        raise BadValue(f"column {name}: a time of the day has a time zone, without a day to go "
                       "with it; leave it out with .replace(tzinfo=None)")
    seconds = one.hour * 3600 + one.minute * 60 + one.second
    return struct.pack(">q", seconds * 1_000_000 + one.microsecond)


def uuid(name: str, one: UUID) -> bytes:
    """Encode a UUID: its 16 bytes."""
    return one.bytes


def binary(name: str, one: bytes | bytearray | memoryview) -> bytes:
    """Encode bytes as they are."""
    return bytes(one)


def json(name: str, thing: object) -> bytes:
    """Encode a list or a dictionary; BadValue where JSON would change it."""
    plain = _plain(name, thing)
    try:
        text = _json.dumps(plain, ensure_ascii=False, allow_nan=False)
        return b"\x01" + text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"column {name}: {str(thing)[:40]!r} is no JSON ({error}); load it as text "
                       f"with gdf[{name!r}].astype(str)") from None


def _plain(name: str, thing: object, depth: int = 0) -> object:
    """Return lists of tuples and arrays; refuse what json.dumps would make another thing of."""
    if depth > 500:
        raise BadValue(f"column {name}: lists in lists, 500 deep; load it as text with "
                       f"gdf[{name!r}].astype(str)")
    if isinstance(thing, str) and "\0" in thing:
        raise BadValue(f"column {name}: {thing[:40]!r} has a null byte, which PostgreSQL's jsonb "
                       "cannot hold; remove it")
    if isinstance(thing, numpy.generic | numpy.ndarray):
        return _plain(name, thing.tolist(), depth)
    if isinstance(thing, list | tuple):
        return [_plain(name, one, depth + 1) for one in thing]
    if isinstance(thing, dict):
        odd = [key for key in thing if not isinstance(key, str)]
        if odd:
            raise BadValue(f"column {name}: the key {odd[0]!r} is no text, as JSON wants it; make "
                           "it one with str()")
        return {_plain(name, key): _plain(name, one, depth + 1) for key, one in thing.items()}
    return thing
