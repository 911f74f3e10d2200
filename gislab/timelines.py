"""What a database has lived through: its backups, its timelines, and which of them lead where.

Pure. A restore does not undo history but branches off from it: the cluster goes on upon a new
timeline, and the old one stays in the archive (PostgreSQL manual, 25.3.6). So "the state at noon"
means: on the timeline that was alive at noon.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd

_COLUMNS = ["label", "kind", "node", "start", "stop", "size_MB", "stored_MB", "first_wal",
            "last_wal"]


@dataclass(frozen=True)
class Backup:
    """One backup in the repository of one Pi; sizes in bytes."""

    label: str
    kind: str  # full, diff or incr
    node: str  # the Pi whose repository has it
    member: str  # which serves that repository
    start: datetime
    stop: datetime
    size: int  # of the database
    stored: int  # what this one added to the repository
    first_wal: str
    last_wal: str
    stop_lsn: int

    @property
    def timeline(self) -> int:
        return int(self.last_wal[:8], 16)


@dataclass(frozen=True)
class History:
    """One timeline: when it began, where it left each of its ancestors, and why."""

    number: int
    born: datetime
    left: tuple[tuple[int, int], ...] = ()  # (ancestor, LSN), oldest first
    restored: bool = False  # by a restore; else a failover, which continues its parent


@dataclass(frozen=True)
class Plan:
    """How a moment is reached; prints as what will happen."""

    to: str  # ISO, or "latest"
    timeline: int
    backup: Backup
    gone: float  # seconds of writing that the database will have lost

    def __str__(self) -> str:
        goal = "all that the archive holds" if self.to == "latest" else (
            f"{datetime.fromisoformat(self.to).astimezone().isoformat(' ')}; whatever was written "
            f"after it, in {timedelta(seconds=round(self.gone))} until now, leaves the database")
        return (f"back to {goal} (timeline {self.timeline}, from backup {self.backup.label} "
                f"on {self.backup.node})")


def backups(text: str, *, node: str, member: str) -> list[Backup]:
    """Read `pgbackrest info --output=json`; oldest first, failed ones left out."""
    return [Backup(b["label"], b["type"], node, member,
                   _time(b["timestamp"]["start"]), _time(b["timestamp"]["stop"]),
                   b["info"]["size"], b["info"]["repository"]["delta"],
                   b["archive"]["start"], b["archive"]["stop"], _lsn(b["lsn"]["stop"]))
            for stanza in json.loads(text) for b in stanza.get("backup", []) if not b["error"]]


def parse(text: str) -> dict[int, History]:
    """Read history files, each behind a line `@ <name> <seconds since 1970>`."""
    found = {}
    for part in ("\n" + text).split("\n@ ")[1:]:
        head, *lines = part.splitlines()
        name, born = head.split()
        steps = [line.split("\t") for line in lines if line.strip()]
        number = int(name.removesuffix(".history"), 16)
        # PostgreSQL says "before <time>" or "after <time>" only where it was told to stop
        found[number] = History(number, _time(int(born)),
                                tuple((int(step[0]), _lsn(step[1])) for step in steps),
                                bool(steps) and steps[-1][2].startswith(("before 2", "after 2")))
    return found


def merged(parts: Iterable[Mapping[int, History]]) -> dict[int, History]:
    """Put together what several repositories know; a copy that came later says nothing."""
    found: dict[int, History] = {}
    for part in parts:
        for number, history in part.items():
            if number not in found or history.born < found[number].born:
                found[number] = history
    return dict(sorted(found.items()))


def first(found: Iterable[Backup]) -> datetime:
    """Return the first moment that a backup can be restored to: when it was complete."""
    return min(b.stop for b in found) + timedelta(seconds=1)  # pgBackRest counts whole seconds


def lived(histories: Mapping[int, History], moment: datetime) -> int:
    """Return the timeline on which the cluster lived at a moment.

    A failover continues its parent, so the newest one is as good. A restore does not: for a
    moment before it was made, what was there is on the timelines before it.
    """
    later = [h.number for h in histories.values() if h.restored and moment < h.born]
    return max((n for n in histories if not later or n < min(later)), default=1)


def leading_to(found: Iterable[Backup], histories: Mapping[int, History], timeline: int,
               moment: datetime) -> Backup | None:
    """Return the last backup before a moment that is part of what the timeline lived through."""
    left = dict(histories[timeline].left) if timeline in histories else {}

    def on_the_way(b: Backup) -> bool:
        return b.timeline == timeline or b.stop_lsn <= left.get(b.timeline, -1)
    good = [b for b in found if b.stop < moment and on_the_way(b)]
    return max(good, key=lambda b: (b.stop, b.node), default=None)


def table(found: Iterable[Backup]) -> pd.DataFrame:
    """Return backups as a table, oldest first; sizes in millions of bytes."""
    rows = [(b.label, b.kind, b.node, b.start, b.stop, round(b.size / 1e6, 1),
             round(b.stored / 1e6, 1), b.first_wal, b.last_wal)
            for b in sorted(found, key=lambda b: (b.stop, b.node))]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
