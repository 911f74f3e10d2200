"""Who is at work: a file, e.g. in a lab's home, locked for as long as a program says so.

The lock goes with its program, however that ends (flock(2)). So what a program has written down,
and no program holds, was left behind.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_MINE: set[Path] = set()  # what this program has locked


@contextmanager
def held(path: Path, otherwise: Exception) -> Iterator[TextIO]:
    """Hold the lock of a file, made if need be, for the length of the block.

    Parameters
    ----------
    otherwise : raised where it is held already; says by whom, and what to do.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise otherwise from None
        _MINE.add(path)
        try:
            yield file
        finally:
            _MINE.discard(path)


@contextmanager
def turn(path: Path, what: str, say=print) -> Iterator[None]:
    """Hold the lock of a file, made if need be, once whoever has it is done.

    Parameters
    ----------
    what : what is waited for, e.g. "the engine"; said if there is somebody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{what}: another program is at work there; waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mine(path: Path) -> bool:
    """Tell whether this program holds it."""
    return path in _MINE
