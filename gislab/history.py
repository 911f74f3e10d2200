"""Judge a history of writes: what was lost, doubled or never asked for, on which server. Pure.

An append-only set in the manner of Jepsen (github.com/jepsen-io/jepsen: jepsen.checker/set-full):
every worker adds numbered rows and never changes one; afterwards each server is read once, when
no write is under way and every replica has replayed what the primary had written. As there, an
attempt is ok, failed (it certainly did not happen) or unknown (jepsen's `info`), and an unknown
one may be found or not. As the reads come last, none is stale: what is not there then is lost.

Each row carries a point that follows from its number alone, so that what would be lost can be
drawn on a map. And each acknowledgement says which server gave it, on which timeline, so that
two primaries at a time are seen even when no row is missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import geopandas
import pandas as pd
import shapely

CRS = "EPSG:4326"
ATTEMPTS = ["id", "worker", "sent", "took", "outcome", "server", "timeline", "lon", "lat"]
# What a write answers, besides its number: the server's address and the timeline of its WAL,
# as `10.0.1.7 timeline 3`. The timeline comes from the name of the WAL file that is written
# now; the control file tells the former one until the checkpoint after a promotion is done.
SERVER = ("host(inet_server_addr()) || ' timeline ' || "
          "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int")

# The promises that a Verdict may find broken, and what is said of the rows.
BROKEN = {
    "lost": "acknowledged writes are lost",
    "unexpected": "rows are there that were refused, or never sent",
    "doubled": "rows are there more than once",
    "differing": "rows are on some members and not on others",
    "forked": "writes were acknowledged by a replaced primary",
}


@dataclass(frozen=True)
class Reading:
    """What one server's final read says about the writes."""

    reader: str
    rows: int  # that it held
    lost: tuple[int, ...]  # acknowledged, yet not there
    unexpected: tuple[int, ...]  # there, though never asked for or certainly refused
    doubled: tuple[int, ...]  # there more than once
    happened: tuple[int, ...]  # unknown to the client, and there
    vanished: tuple[int, ...]  # unknown to the client, and not there


@dataclass(frozen=True)
class Verdict:
    """What became of all writes, on all servers that were read."""

    acknowledged: int
    refused: int
    unanswered: int
    readings: tuple[Reading, ...]
    differing: tuple[int, ...]  # on some servers, and not on others
    forked: tuple[int, ...]  # acknowledged by a server that another one had replaced already

    @property
    def safe(self) -> bool:
        """Tell whether every promise was kept; without any reading nobody knows, so it is not."""
        return bool(self.readings) and not self.broken

    @property
    def broken(self) -> dict[str, tuple[int, ...]]:
        """Each broken promise in words, e.g. `3 acknowledged writes are lost`, with its rows."""
        found = {what: getattr(self, kind) for kind, what in BROKEN.items()}
        return {f"{len(rows)} {what}": rows for what, rows in found.items() if rows}

    @property
    def readers(self) -> tuple[str, ...]:
        return tuple(r.reader for r in self.readings)

    @property
    def lost(self) -> tuple[int, ...]:
        """Acknowledged, yet missing on at least one server."""
        return self._any("lost")

    @property
    def gone(self) -> tuple[int, ...]:
        """Acknowledged, yet on no server that was read."""
        if not self.readings:
            return ()
        return _sorted(set.intersection(*(set(r.lost) for r in self.readings)))

    @property
    def torn(self) -> tuple[int, ...]:
        """Acknowledged, on one server and not on another: whom a reader asks decides."""
        return _sorted(set(self.lost) - set(self.gone))

    @property
    def unexpected(self) -> tuple[int, ...]:
        return self._any("unexpected")

    @property
    def doubled(self) -> tuple[int, ...]:
        return self._any("doubled")

    @property
    def happened(self) -> tuple[int, ...]:
        """Unknown to the client, and there on at least one server."""
        return self._any("happened")

    @property
    def vanished(self) -> tuple[int, ...]:
        """Unknown to the client, and on no server."""
        return _sorted(set(self._any("vanished")) - set(self.happened))

    def table(self) -> pd.DataFrame:
        """Return one line per server that was read."""
        return pd.DataFrame(
            [(r.reader, self.acknowledged, r.rows, *(len(getattr(r, k)) for k in _KINDS))
             for r in self.readings],
            columns=["read from", "acknowledged", "rows", "lost", "unexpected", "doubled",
                     "unknown, happened", "unknown, did not"])

    def _any(self, kind: str) -> tuple[int, ...]:
        return _sorted(row for r in self.readings for row in getattr(r, kind))


_KINDS = ("lost", "unexpected", "doubled", "happened", "vanished")


def place(number: int) -> tuple[float, float]:
    """Return longitude and latitude of the point of a row, in degrees, of EPSG:4326.

    The multiples of two irrational numbers fill a square evenly, however many they are; the arc
    sine lays them evenly on the sphere. (Roberts, "The Unreasonable Effectiveness of Quasirandom
    Sequences", 2018: the plastic number's powers.)
    """
    across, along = (number * share % 1.0 for share in (0.7548776662466927, 0.5698402909980532))
    return round(360 * across - 180, 6), round(math.degrees(math.asin(2 * along - 1)), 6)


def attempts(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the writes among the samples of a Run, with the columns ATTEMPTS.

    `server` and `timeline` are known of acknowledged writes only, and missing in older runs.
    """
    found = samples.dropna(subset=["row"]).rename(columns={"row": "id", "probe": "worker"})
    by = found["detail"].str.extract(r"^(?P<server>\S+) timeline (?P<timeline>\d+)$")
    points = [place(int(number)) for number in found["id"]]
    found = found.assign(
        id=found["id"].astype("int64"), server=by["server"].fillna(""),
        timeline=pd.to_numeric(by["timeline"]).astype("Int64"),
        lon=[lon for lon, _ in points], lat=[lat for _, lat in points])
    return found[ATTEMPTS].sort_values("sent", kind="stable", ignore_index=True)


def reads(found: Mapping[str, Mapping[int, int]]) -> list[tuple]:
    """Return the lines of Run.rows for reader -> (row -> how many times it is there).

    Each reader has one line without a row, so that one who saw an empty table is known too.
    """
    return [line for reader, rows in found.items()
            for line in [(None, 0, reader), *((row, n, reader) for row, n in rows.items())]]


def check(attempts: pd.DataFrame, rows: pd.DataFrame) -> Verdict:
    """Compare what was attempted with what was found.

    Parameters
    ----------
    attempts : columns id, sent, took, outcome, server, timeline; see `attempts`.
    rows : columns row, times, reader; see `reads`.
    """
    by = {outcome: set(attempts.loc[attempts["outcome"] == outcome, "id"])
          for outcome in ("ok", "failed", "unknown")}
    held = {reader or "primary": lines.dropna(subset=["row"]).astype({"row": "int64"})
            for reader, lines in rows.groupby("reader", sort=False)}
    there = {reader: set(lines["row"]) for reader, lines in held.items()}
    everywhere = set.intersection(*there.values()) if there else set()
    return Verdict(
        len(by["ok"]), len(by["failed"]), len(by["unknown"]),
        tuple(_reading(reader, by, lines) for reader, lines in held.items()),
        differing=_sorted(set().union(*there.values()) - everywhere),
        forked=forked(attempts))


def forked(attempts: pd.DataFrame) -> tuple[int, ...]:
    """Return the writes that were acknowledged by a server that had been replaced by then.

    Each commit lies between the sending of its write and the arrival of its answer. So a write
    that was *sent* after a newer timeline's answer had *arrived* was certainly committed later
    than one of that timeline. The same holds for two servers on one timeline, where a write of
    one lies between two of the other. Neither can happen while there is one primary at a time,
    and neither is ever seen by mistake.
    """
    acks = attempts[(attempts["outcome"] == "ok") & attempts["timeline"].notna()]
    if acks.empty:
        return ()
    acks = acks.assign(arrived=acks["sent"] + acks["took"])
    found: set[int] = set()
    newer = math.inf  # when the first answer of any newer timeline had arrived
    for _, group in sorted(acks.groupby("timeline"), reverse=True, key=lambda pair: pair[0]):
        found |= set(group.loc[group["sent"] > newer, "id"])
        newer = min(newer, group["arrived"].min())
        for server, own in group.groupby("server"):
            others = group[group["server"] != server]
            between = (others["sent"] > own["arrived"].min()) & (
                others["arrived"] < own["sent"].max())
            found |= set(others.loc[between, "id"])
    return _sorted(found)


def places(verdict: Verdict, attempts: pd.DataFrame) -> geopandas.GeoDataFrame:
    """Return the rows that should not be as they are, with their points: id, what, where, worker.

    `what` is lost, unexpected or doubled; `where` names the servers; `worker` is empty for a row
    that nobody sent. An empty frame is what one hopes for.
    """
    lines: dict[tuple[int, str], list[str]] = {}
    for reading in verdict.readings:
        for what in ("lost", "unexpected", "doubled"):
            for row in getattr(reading, what):
                lines.setdefault((row, what), []).append(reading.reader)
    workers = dict(zip(attempts["id"], attempts["worker"], strict=True))
    frame = pd.DataFrame(
        [(row, what, ", ".join(readers), workers.get(row, ""))
         for (row, what), readers in sorted(lines.items())],
        columns=["id", "what", "where", "worker"])
    return geopandas.GeoDataFrame(
        frame, geometry=[shapely.Point(place(row)) for row in frame["id"]], crs=CRS)


def _reading(reader: str, by: Mapping[str, set[int]], lines: pd.DataFrame) -> Reading:
    found = set(lines["row"])
    return Reading(
        reader, int(lines["times"].sum()),
        lost=_sorted(by["ok"] - found),
        unexpected=_sorted(found - by["ok"] - by["unknown"]),
        doubled=_sorted(lines.loc[lines["times"] > 1, "row"]),
        happened=_sorted(by["unknown"] & found),
        vanished=_sorted(by["unknown"] - found))


def _sorted(rows: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(row) for row in sorted(set(rows)))
