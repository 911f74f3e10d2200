"""Runs that nobody measured, for tests of figures and tables."""

from __future__ import annotations

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
