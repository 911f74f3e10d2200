"""The outage that the settings predict for each fault. Pure: numbers in, seconds out.

Each prediction is a range: between the best and the worst moment for a client to ask, and for a
fault to come in a timer's cycle; and what is expected, the mean over all moments. All three
follow from the settings, with a formula and its source, and none was fitted to a measurement.
What theory leaves out, such as a busy machine, a slow disk or the time that a command takes to
arrive, makes the measurement longer; a large difference is what the lab is there to find.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from .. import outage as outages
from ..run import Run
from .consul import election, gossip_death
from .database import (
    container_killed,
    cut_off,
    database_moves,
    frozen,
    handed_over,
    primary_killed,
)
from .prediction import NO_THEORY, NONE, Prediction, by_chance, lasts
from .timing import Timing
from .vip import haproxy_killed, keepalived_killed, maps_move, skew, vip_moves

__all__ = ["NONE", "NO_THEORY", "SQL", "Prediction", "Timing", "compare", "container_killed",
           "database_moves", "election", "frozen", "gossip_death", "handed_over",
           "haproxy_killed", "keepalived_killed", "maps_move", "of", "outage", "primary_killed",
           "skew", "table", "vip_moves"]
SQL = ("sql_read", "sql_write", "write_primary")


def outage(fault: str, probe: str, timing: Timing | None = None) -> Prediction:
    """Return the outage that `fault` costs the lane `probe`.

    Raises KeyError for a fault without a theory.
    """
    t, sql = timing or Timing(), probe in SQL
    return {
        "switchover": lambda: handed_over(t) if sql else NONE,
        "map_server_killed": lambda: NONE,
        "service_killed": lambda: NO_THEORY,  # it says not which service, on which Pi
        "haproxy_killed": lambda: haproxy_killed(t),
        "keepalived_killed": lambda: keepalived_killed(t),
        "primary_killed": lambda: primary_killed(t) if sql else NONE,
        "primary_container_killed": lambda: container_killed(t) if sql else NONE,
        "power_cut": lambda: _dark(t, sql),
        "unplugged": lambda: _dark(t, sql),
        "pi_power_cut": lambda: by_chance(_dark(t, sql), 1 / t.servers),  # one on each Pi
        "primary_frozen": lambda: frozen(t) if sql else NONE,
        "primary_paused": lambda: container_killed(t) if sql else NONE,
        "primary_and_standby_dark": lambda: lasts("no majority is left") if sql
        else maps_move(t),
        "primary_cut_off": cut_off,
        "primary_deaf": cut_off,
        "primary_mute": cut_off,
        "link_cut": lambda: NO_THEORY if sql else NONE,
        "ring_cut": lambda: lasts("no two Pis hear each other") if sql else NO_THEORY,
        "consul_leader_lost": lambda: NONE,
        "consul_majority_lost": lambda: NONE,  # Patroni's failsafe mode
        "cpu_full": lambda: NONE,
        "service_frozen": lambda: NO_THEORY,  # it says not which service, on which Pi
        "swarm_leader_lost": lambda: by_chance(_dark(t, sql), 1 / t.servers),
        "swarm_majority_lost": lambda: lasts("no majority is left") if sql
        else by_chance(maps_move(t), (t.servers // 2 + 1) / t.servers),
        "registry_lost": lambda: NONE,
        "network_halves": cut_off,
        "lossy": lambda: NO_THEORY,  # by chance
        "slow": lambda: NO_THEORY,  # it depends on the size of the answers
        "memory_limit": lambda: NO_THEORY,  # it says not which service, on which Pi
        "disk_full": lambda: NONE,
    }[fault]()


def of(run: Run, probe: str, timing: Timing | None = None) -> Prediction:
    """Return what theory says of a run; nothing of another set-up, whose settings are not ours."""
    if run.settings.get("setup"):
        return NO_THEORY
    try:
        return outage(run.fault, probe, timing)
    except KeyError:
        return NO_THEORY


def table(fault: str, probes: list[str] | tuple[str, ...], timing: Timing | None = None
          ) -> pd.DataFrame:
    """Return one line per probe: best, worst and expected outage, and where they come from."""
    found = {p: outage(fault, p, timing) for p in probes}
    return pd.DataFrame([{"probe": p, "predicted": str(f), "from": f.formula}
                         for p, f in found.items()])


def compare(runs: Iterable[Run], guesses: Mapping[str, float] | None = None,
            timing: Timing | None = None) -> pd.DataFrame:
    """Return one line per run: a reader's guess, the theory and the worst lane measured."""
    lines = []
    for run in runs:
        found = [outages.of(run, p) for p in run.probes]
        worst = max(found, key=lambda o: o.outage if o.recovered else math.inf)
        theory = [of(run, p, timing) for p in run.probes]
        lines.append({
            "fault": run.settings.get("title", run.fault),
            "your guess [s]": (guesses or {}).get(run.fault, math.nan),
            "theory, expected [s]": _longest(theory, "expected"),
            "theory, at most [s]": _longest(theory, "most"),
            "measured, longest [s]": (round(worst.outage, 2) if worst.recovered
                                      else "not recovered"),
            "worst lane": "none" if worst.recovered and not worst.outage else worst.probe})
    return pd.DataFrame(lines).round(2)


def _dark(t: Timing, sql: bool) -> Prediction:
    """A Pi that had both roles is gone: what that costs the one kind of lane or the other."""
    return database_moves(t) if sql else maps_move(t)


def _longest(found: list[Prediction], which: str) -> float | str:
    """Return the longest of what is expected of the lanes, or of the most."""
    if not all(p.known for p in found):
        return "no theory"
    longest = max(getattr(p, which) for p in found)
    return round(longest, 2) if math.isfinite(longest) else "until it is undone"
