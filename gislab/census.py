"""Every single thing of the lab, killed once: is there one that nothing stands in for?

A thing is one container of a service on one Pi; or a whole Pi, whose power is cut; or the registry
of this machine, which is frozen. Each is killed while clients ask, in a lab that is whole, and is
back before the next one dies.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from . import comparison, experiment, faults, nodes, outage, run, stack
from .run import Run
from .settings import Lab

SERVICES = ("consul", "postgis", "pgpool", "mapserver", "haproxy", "keepalived")
POWER = "power"  # a whole Pi
REGISTRY = "registry"  # there is one, on this machine
KINDS = (*SERVICES, POWER, REGISTRY)
LANES = ("maps", "sql_read", "sql_write")


def things(lab: Lab, kinds: Iterable[str] = KINDS, pis: Iterable[str] = ()
           ) -> pd.DataFrame:
    """Return what can be killed by itself: kind, service, node; one line each.

    Parameters
    ----------
    kinds : of KINDS; `postgis` stands for all its members.
    pis : names of Pis; all by default, and the registry, which is on none.
    """
    names = tuple(m.name for m in lab.machines)
    kinds, pis = tuple(kinds), tuple(pis) or (*names, faults.HERE)
    unknown = sorted(set(kinds) - set(KINDS)) or sorted(set(pis) - {*names, faults.HERE})
    if unknown:
        raise ValueError(f"there is no {', '.join(unknown)}; there are "
                         + ", ".join([*KINDS, *names]))
    table = stack.tasks(lab)
    table = table[table["state"] == "Running"]
    table = table.assign(kind=table["service"].str.rstrip("0123456789"))
    whole = pd.DataFrame([(POWER, POWER, name) for name in names]
                         + [(REGISTRY, REGISTRY, faults.HERE)],
                         columns=["kind", "service", "node"])
    table = pd.concat([table[["kind", "service", "node"]], whole])
    table = table[table["kind"].isin(kinds) & table["node"].isin(pis)].drop_duplicates()
    order = {kind: place for place, kind in enumerate(KINDS)}
    return table.sort_values(["kind", "node", "service"], ignore_index=True, kind="stable",
                             key=lambda column: column.map(order) if column.name == "kind"
                             else column)


def kill_each(lab: Lab, what: pd.DataFrame, *, before: float = 2, during: float = 3,
              after: float = 1, recovery: float = 30, folder: str | Path | None = None,
              say=print, **how) -> list[Run]:
    """Kill each of `things` once, one after another, and return a run for each.

    Parameters
    ----------
    before, during, after, recovery : float, seconds; see experiment.measure, as `how`. Of a dead
        Consul server the primary beside it hears after two seconds (gossip, then Patroni's look).
    folder : where the runs are kept, as 001, 002, ...; a new one under runs/ by default. With one
        that is there, it goes on from it.
    """
    folder = Path(folder or run.folder_for(experiment.RUNS, "census"))
    how = {"lanes": LANES, "before": before, "during": during, "after": after,
           "recovery": recovery, **how}
    made = []
    for number, thing in enumerate(what.itertuples(), 1):
        kept = folder / f"{number:03d}"
        called = f"{thing.service} of {thing.node}"
        if not (kept / "run.json").exists():
            experiment.measure(lab, _fault(lab, thing.service, thing.node), folder=kept,
                               about={"thing": called}, say=lambda text: None, **how)
        made.append(run.load(kept))
        if made[-1].settings.get("thing") != called:
            raise experiment.ExperimentError(f"{kept} is a run of "
                                             f"{made[-1].settings.get('thing')}, not of {called}; "
                                             "take another folder")
        say(f"{number} of {len(what)}: {called}: {verdict(made[-1])}")
    return made


def verdict(made: Run) -> str:
    """Say in words whether one thing's death was survived."""
    writes = outage.writes(made)
    if not writes.readings:
        return "not known: no server's rows were read"
    if writes.broken:
        return "; ".join(writes.broken)
    costs = {lane: comparison.cost(made, lane) for lane in made.probes}
    stuck = [lane for lane, cost in costs.items() if cost.stuck]
    if stuck:
        return f"a single point of failure for {', '.join(stuck)}"
    longest = max(cost.disturbed for cost in costs.values())
    return f"survived, {longest:.1f} s" if longest else "survived, not noticed"


def name(made: Run) -> str:
    """Return what was killed, as a reader calls it."""
    return made.settings.get("thing") or made.settings.get("title") or made.fault


def survived(made: Run) -> bool:
    """Tell whether a death was survived: all came back by themselves, and nothing was lost."""
    return verdict(made).startswith("survived")


def table(runs: Iterable[Run]) -> pd.DataFrame:
    """Return one line per thing: what it cost each lane, what became of the writes, a verdict."""
    lines = []
    for made in runs:
        writes = outage.writes(made)
        lines.append({"killed": name(made),
                      **{lane: str(comparison.cost(made, lane)) for lane in made.probes},
                      "acknowledged": writes.acknowledged,
                      "lost": len(writes.lost) if writes.readings else "not known",
                      "verdict": verdict(made)})
    return pd.DataFrame(lines)


def _fault(lab: Lab, service: str, pi: str) -> faults.Fault:
    if service == REGISTRY:
        return faults.registry_lost(lab)
    if service != POWER:
        return faults.service_killed(lab, service, pi)
    names = [node.name for node in nodes.all(lab)]
    return faults.pi_power_cut(lab, names.index(pi))
