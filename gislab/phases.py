"""Where the time of an outage went: to detect, to decide, to serve again. Pure.

The clock starts with the strike, the order to break. Then

- `detect`: until the former holder's role is free: its lock in Consul has fallen, or its Pi has
  given the address away;
- `decide`: until somebody else has it;
- `serve`: until the lane's next successful answer: promotion, HAProxy's checks, the client's own
  next attempt.

They come from Run.system, what the parts said themselves; where these do not tell, a phase is not
known (NaN), and none is guessed. Nobody gives an address up when a Pi is dark: VRRP's backups wait
and take it. So the time to detect is in `decide` there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from . import outage
from .run import Run, placed

# what must have a holder for a lane to succeed; maps read from any replica
ROLES = {"maps": ("vip",), "features": ("vip",)}
NAMES = {"vip": "VIP", "primary": "primary"}


@dataclass(frozen=True)
class Move:
    """A role that went from one holder to another; t in seconds on the run's clock."""

    role: str  # "vip" or "primary"
    former: str
    free: float  # when the role was let go; NaN: it was not seen
    taken: float
    holder: str


@dataclass(frozen=True)
class Phases:
    """The parts of one lane's longest outage, in seconds; NaN: not known."""

    probe: str
    move: Move | None  # the last role that was waited for
    detect: float
    decide: float
    serve: float


UNKNOWN = (math.nan, math.nan, math.nan)
LAG = 0.15  # seconds by which a Pi may see its own address later than the first client does


def of(run: Run, probe: str) -> Phases:
    """Return the phases of the longest outage of a lane, or of a layer of outage.LAYERS.

    If both roles moved, the later one is what the client waited for.
    """
    o = outage.layer(run, probe) if probe in outage.LAYERS and probe not in run.probes else \
        outage.of(run, probe)
    strike = run.at("strike")
    if o is None or strike is None or not o.recovered or not o.outage or o.end < strike:
        return Phases(probe, None, *UNKNOWN)
    roles = ROLES.get(probe, ("vip",) if probe == "address" else ("vip", "primary"))
    # what moves when the fault is mended is no part of an outage that came before
    found = [m for m in (move(run, role) for role in roles)
             if m and max(strike, o.begin) <= m.taken <= o.end + LAG]
    if not found:
        return Phases(probe, None, *UNKNOWN)
    last = max(found, key=lambda m: m.taken)
    taken = min(last.taken, o.end)
    if math.isnan(last.free):
        return Phases(probe, last, math.nan, taken - strike, o.end - taken)
    free = min(last.free, taken)
    return Phases(probe, last, free - strike, taken - free, o.end - taken)


def move(run: Run, role: str) -> Move | None:
    """Return the first move of a role after the strike; None if none was seen."""
    strike = run.at("strike")
    if strike is None:
        return None
    lines = run.system[run.system["kind"] == role]
    return (_vip if role == "vip" else _lock)(lines[lines["t"] < strike],
                                              lines[lines["t"] >= strike])


@placed
def table(runs: Run | Iterable[Run]) -> pd.DataFrame:
    """Return one line per run and lane that had an outage: what moved, and the phases."""
    runs = [runs] if isinstance(runs, Run) else list(runs)
    lines = []
    for run in runs:
        for probe in run.probes:
            p, o = of(run, probe), outage.of(run, probe)
            if o.recovered and not o.outage:
                continue
            moved = f"{NAMES[p.move.role]} to {p.move.holder}" if p.move else "not seen"
            lines.append({"fault": run.fault, "probe": probe, "moved": moved,
                          "detect [s]": round(p.detect, 2), "decide [s]": round(p.decide, 2),
                          "serve again [s]": round(p.serve, 2),
                          "outage [s]": round(o.outage, 2) if o.recovered else "not recovered"})
    return pd.DataFrame(lines, columns=["fault", "probe", "moved", "detect [s]", "decide [s]",
                                        "serve again [s]", "outage [s]"])


def _lock(before: pd.DataFrame, since: pd.DataFrame) -> Move | None:
    """Follow Patroni's lock; of what several Consuls say, the first word counts."""
    former = before["state"].iloc[-1] if len(before) else ""
    free, witness = math.nan, ""
    for t, node, state in zip(since["t"], since["node"], since["state"], strict=True):
        if not state:
            if math.isnan(free):
                free, witness = t, node
        # the former name, from one who never saw it fall, may be old news
        elif state != former or node == witness:
            return Move("primary", former, free, t, state)
    return None


def _vip(before: pd.DataFrame, since: pd.DataFrame) -> Move | None:
    """Follow the address: each Pi speaks of itself."""
    at = before.drop_duplicates("node", keep="last").set_index("node")["state"]
    holders = list(at.index[at == "here"])
    former = holders[-1] if holders else ""
    free = math.nan
    for t, node, state in zip(since["t"], since["node"], since["state"], strict=True):
        if node == former and state == "away" and math.isnan(free):
            free = t
        elif state == "here" and (node != former or not math.isnan(free)):
            return Move("vip", former, free, t, node)
    return None
