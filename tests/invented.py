"""Runs that nobody measured, for tests of figures and tables."""

from __future__ import annotations

import math
import random

from gislab import run

LANES = ("maps", "sql_read", "sql_write", "write_primary")
TITLES = {"power_cut": "power cut: VIP and primary", "primary_killed": "postmaster of the primary "
          "killed", "haproxy_killed": "HAProxy of the VIP holder killed",
          "ring_cut": "network cut: a ring"}


def one(fault="power_cut", *, vip=0.7, lock=1.4, serve=0.9, ends=True, seen=True, seed=0,
        lanes=LANES, server="mapserver", kind="virtual") -> run.Run:
    """A run struck at 5 s: the VIP moves after `vip` seconds, the lock falls after `lock`.

    vip, lock : None: it does not move, and the lanes that need it alone do not fail.
    """
    chance = random.Random(seed)
    strike, undone = 5.0 + chance.random() / 10, 16.0
    taken = None if lock is None else strike + lock + 0.3
    samples = []
    for place, lane in enumerate(lanes):
        moves = [] if vip is None else [strike + vip + 0.05]
        moves += [] if taken is None or lane == "maps" else [taken + serve]
        for n in range(200):
            sent = (n + place / len(lanes)) / 10
            away = bool(moves) and strike < sent and (sent < max(moves) or
                                                      (not ends and lane != "maps"))
            took = chance.uniform(0.001, 1.0) if away else chance.lognormvariate(-4.6, 0.7)
            outcome = "ok" if not away else "unknown" if sent - strike < 0.15 else "failed"
            samples.append((lane, sent, took if not away else min(took, 0.8), outcome))
    system = [(0.0, "pi1", "vip", "", "here"), (0.0, "pi2", "vip", "", "away"),
              (0.0, "pi2", "primary", "", "postgis1"), (0.0, "pi2", "consul_leader", "", "pi3"),
              (0.0, "pi2", "swarm_leader", "", "pi1"),
              *[(0.0, pi, "server", f"maps/maps{n}", "UP") for pi in ("pi1", "pi2")
                for n in (1, 2, 3)]]
    if vip is not None:
        system += [(strike, "pi1", "watch", "", "ends"), (strike + vip, "pi2", "vip", "", "here"),
                   (strike + 0.4, "pi2", "server", "maps/maps1", "DOWN"),
                   (strike + 2.1, "pi2", "swarm_leader", "", "pi2"),
                   (undone - 1, "pi2", "server", "maps/maps1", "UP")]
    if lock is not None:
        system += [(strike + lock, "pi2", "primary", "", ""),
                   (taken, "pi2", "primary", "", "postgis2")]
    return run.make(samples, [(strike, "strike", "pi1", fault), (strike + 0.1, "struck"),
                              (strike + 6, "undo"), (undone, "undone")],
                    settings={"kind": kind, "map_server": server, "fault": fault, "rate": 10,
                              "title": TITLES.get(fault, fault), "target": "pi1 with the VIP"},
                    system=sorted(system if seen else [], key=lambda line: line[0]))


def series(n=12, fault="power_cut", *, slower=0.0, seed=0, **how) -> list[run.Run]:
    """Trials that differ as trials do."""
    chance = random.Random(seed)
    base = {"vip": 0.5, "lock": 1.3, "serve": 0.8, **how}
    return [one(fault, seed=100 * seed + i, **{
        key: value if not isinstance(value, float) or value is None
        else value + slower + chance.expovariate(3) for key, value in base.items()})
        for i in range(n)]


def two_setups(trials=3, faults=("map_server_killed", "power_cut")) -> list[run.Run]:
    """Runs of both set-ups: ours is soon back, and 2016's waits for somebody to mend it."""
    found = []
    for fault in faults:
        for n in range(trials):
            for setup in ("", "2016"):
                found.append(_of_setup(fault, setup, random.Random(100 * n + len(fault))))
    return found


def _of_setup(fault: str, setup: str, chance: random.Random) -> run.Run:
    from gislab import history

    away = {("map_server_killed", ""): {}, ("map_server_killed", "2016"): {"maps": math.inf},
            ("power_cut", ""): {"maps": 0.7, "sql_read": 2.8, "sql_write": 3.0},
            ("power_cut", "2016"): {"maps": math.inf, "sql_read": 12.0, "sql_write": 12.5},
            ("primary_killed", ""): {"sql_read": 0.7, "sql_write": 0.9},
            ("primary_killed", "2016"): {"sql_read": 1.5, "sql_write": 1.6}}[fault, setup]
    samples, held = [], {"a": {}, "b": {}}
    strike, undo = 5.0 + chance.random(), 25.0
    for place, lane in enumerate(("maps", "sql_read", "sql_write")):
        until = strike + away.get(lane, 0) * (1 + chance.random() / 5)
        for n in range(300):
            sent = (n + place / 3) / 10
            third = math.isinf(until) and fault == "map_server_killed"
            bad = strike <= sent < min(until, undo) and (not third or n % 3 == 0)
            row = n if lane == "sql_write" else None
            samples.append((lane, sent, chance.uniform(0.003, 0.03) if not bad else 2.0,
                            "failed" if bad else "ok", "", row))
            if row is not None and not bad:
                held["b"][n] = 1
                if not (setup and fault != "map_server_killed" and strike < sent < undo):
                    held["a"][n] = 1
    return run.make(samples, [(strike, "strike", "", fault), (strike + 0.1, "struck"),
                              (undo, "undo"), (undo + 3, "undone")],
                    settings={"kind": "virtual", "map_server": "mapserver", "fault": fault,
                              "title": TITLES.get(fault, fault.replace("_", " ")), "rate": 10,
                              **({"setup": setup} if setup else {})},
                    rows=history.reads(held))
