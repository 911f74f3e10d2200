"""What is broken at this moment, on disk: a program that dies leaves word for the next one.

The file holds all that the undoing needs. While a program is at work on a fault it holds a lock
beside it, so that only what nobody is at work on counts as left behind (see claim.py).
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

from . import claim
from .settings import Lab


class AtWork(RuntimeError):
    """Another program breaks, or mends, this lab at this moment."""


def claimed(lab: Lab) -> AbstractContextManager:
    """Hold the lab for a fault, for the length of a block; AtWork where somebody does."""
    return claim.held(lab.home / "fault.lock", AtWork(
        "an experiment is at work on this lab; wait for its end, or stop it: it undoes its fault"))


def remember(lab: Lab, what: dict) -> None:
    """Write down what is about to be broken; whole or not at all, however this program ends."""
    path = file(lab)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(what))
    draft.replace(path)


def left(lab: Lab) -> dict:
    """Return what was written down and not forgotten, or nothing."""
    try:
        return json.loads(file(lab).read_text())
    except (OSError, ValueError):
        return {}


def forget(lab: Lab) -> None:
    """Say that nothing is broken any more."""
    file(lab).unlink(missing_ok=True)


def file(lab: Lab) -> Path:
    return lab.home / "fault.json"
