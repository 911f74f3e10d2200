"""A planned change under load: what do clients notice of it? The aim is: nothing.

Unlike a fault nothing is broken and nothing is to be mended; so a Run of a change has a `strike`,
when it was ordered, and an `undone`, when it was complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from . import outage, probe, run, watch
from .run import RUNS, Run, placed
from .settings import Lab

LANES = ("maps", "features")
COLOUR = "#009E73"
PHASES = ("before", "during", "after")


def measure(lab: Lab, title: str, do: Callable[[], object], *, before: float = 5,
            after: float = 5, rate: float = 20, lanes: tuple[str, ...] = LANES,
            layer: str = "alive", first: int = 0, folder: str | Path | None = None,
            say=print) -> Run:
    """Ask the VIP steadily while `do()` changes the lab, and keep what happened.

    The parts of the lab are watched beside it: who holds the VIP, who is primary, who leads.

    Parameters
    ----------
    title : how a reader calls the change, e.g. "map servers 3 to 5".
    do : the verb, waiting until the change is complete.
    before, after : float, seconds of asking before and after it.
    rate, lanes, layer, first : see probe.vip; each question takes a new connection. With lanes
        that write, `first` is experiment.first_row(lab): else the rows are those of earlier runs.
    folder : where the run is kept; a new one under runs/ by default.
    """
    name = "".join(c if c.isalnum() else "_" for c in title.lower())
    settings = run.about(lab, fault=name, title=title, colour=COLOUR, target="planned",
                         rate=rate, layer=layer)
    events: list[tuple] = []
    with watch.Watch(lab) as watched, probe.vip(lab, lanes=lanes, rate=rate, layer=layer,
                                                first=first, warm=probe.WARM) as probes:
        probes.watch(before)
        events.append((probes.now(), "strike", title, name))
        try:
            do()
        finally:
            events += [(probes.now(), kind, title, name) for kind in ("undo", "undone")]
        probes.watch(after)
    result = run.make(probes.samples(), events, settings=settings,
                      system=watched.seen(probes.began))
    kept = result.save(Path(folder or run.folder_for(RUNS, name)))
    failed = int((result.samples["outcome"] != "ok").sum())
    say(f"{title}: took {events[-1][0] - events[0][0]:.0f} s; {failed} of {len(result.samples)} "
        f"questions failed; kept in {kept.name}")
    return result


@placed
def table(runs: Run | Iterable[Run]) -> pd.DataFrame:
    """Return one line per run and lane: questions, failed ones, and how long answers took.

    `p50` and `p99`, in milliseconds, are of answers before the change was ordered, and to
    questions sent while it went on and after it was complete: see outage.Outage.
    """
    lines = []
    for one in [runs] if isinstance(runs, Run) else list(runs):
        for lane in one.probes:
            o = outage.of(one, lane)
            line = {"change": one.settings.get("title", one.fault), "probe": lane,
                    "took [s]": round(one.at("undone") - one.at("strike"), 1),
                    "asked": o.asked, "failed": o.failed + o.unknown}
            line |= {f"{q} {phase} [ms]": round(1000 * getattr(o, f"{q}_{phase}"), 1)
                     for q in ("p50", "p99") for phase in PHASES}
            lines.append(line)
    return pd.DataFrame(lines)
