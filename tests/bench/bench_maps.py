"""Maps: what more map servers give for each processor, and what all of it takes.

    make bench-maps                                   # again, if it was stopped: it goes on
    make bench-maps ARGS="--rows 10 --trials 6"       # only these rows
    make bench-maps ARGS=--quick                      # one trial of each, some minutes
    make bench-maps ARGS=--report                     # only the page, of what there is

Every trial is a Run in build/bench-maps/<map server>, so that MapServer's and GeoServer's stand
apart; trials of another build of the images are to be deleted first. It needs a lab that stands,
whose programs have the machine to themselves, and leaves as many map servers as it found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gislab import experiment, settings
from gislab.run import Run
from gislab.settings import Lab

from . import growth, series, verdicts
from .records import OURS
from .verdicts import Goal

FOLDER = settings.PROJECT / "build" / "bench-maps"
ROWS = (10, 12, 14)
TRIALS = 10
LARGEST = {"geoserver": 400, "postgis": 300}  # MB, of an image
MEMORY = {"geoserver": 1200, "mapserver": 600}  # MB, on one Pi
RATE, EACH = (10, "maps a second"), (10, "maps for each second of a processor")
GROWN = (10, "maps for each second of a processor, of those of one server")
BUSY = (10, "processors used by map servers")
IDLE = (10, "processors used while no map is asked for")
HELD = (14, "memory of all that runs on one Pi")
SHARED = ("All Pis share these processors, with the database, HAProxy and the clients themselves: "
          "where map servers use all that is left, none is to spare, maps a second cannot grow, "
          "and what counts is how many a processor makes.")
OWN = "Each Pi has processors of its own, so maps a second should grow, too."
ABOUT = f"""\
10. {growth.CLIENTS} clients for each map server ask at the VIP for maps of the layer `alive`,
   {growth.SIZE} pixels wide and high, over a new connection each; a client asks again when it has
   its answer. After {growth.WARM} maps for each server that do not count, what comes within
   {growth.SECONDS} s does. What the map servers' containers used meanwhile is told by their
   control groups, and once more for {growth.CALM} s without a map. Neither HAProxy nor the
   database is in it. A trial takes 1, 2 and 3 map servers, in an order drawn anew; how many maps
   a processor makes is divided by what one server's made in the same trial.
12. As the engine says, of the lab's platform. The official images were not measured here; others
   publish 909 MB for GeoServer's, and 400 to 500 MB for that of PostGIS.
14. `docker stats` of the stack's containers, and what is resident (/proc) of dockerd, containerd
   and its shims, right after maps were asked for; pages of a program's file count once for all
   that run it. Files that a container has read or written lately are in it, too: of PostgreSQL
   they are most, above all the primary's WAL, and the kernel gives them up for others.
   MB are millions of bytes.

`p95` is the least value that 95 % of the trials do not exceed. A verdict that rests on fewer
trials than wanted says so.
"""


def main(words: list[str] | None = None, lab: Lab | None = None, folder: Path = FOLDER) -> int:
    """Measure what is missing, and write the page and the figure."""
    parser = argparse.ArgumentParser(prog="make bench-maps ARGS=...",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", choices=ROWS, help="of the targets")
    parser.add_argument("--trials", type=int, help=f"{TRIALS} by default, 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="one trial of each")
    parser.add_argument("--report", action="store_true", help="only write what there is")
    parser.add_argument("--output", type=Path, default=settings.PROJECT / "docs")
    given = parser.parse_args(words)
    rows = tuple(sorted(set(given.rows or ROWS)))
    lab = lab or settings.read()
    folder = folder / lab.serves
    if not given.report:
        experiment.heal(lab)
        measure(lab, rows, given.trials or (1 if given.quick else TRIALS), folder)
    write(runs(folder, rows), lab, command(given, rows), given.output)
    return 0


def command(given, rows: tuple[int, ...]) -> str:
    """Return what has to be typed to have the same again."""
    words = ["--quick"] * given.quick
    words += ["--rows", *map(str, rows)] if rows != ROWS else []
    words += ["--trials", str(given.trials)] if given.trials else []
    return "make bench-maps" + (f' ARGS="{" ".join(words)}"' if words else "")


def measure(lab: Lab, rows: tuple[int, ...], count: int, folder: Path) -> None:
    """Do the trials that are missing, and have as many map servers then as before."""
    if 12 in rows:
        growth.sized(lab, folder)  # costs nothing, so it is told anew
    todo = [("row 10", growth.grown, number) for number in grown(folder, count) if 10 in rows]
    todo += [("row 14", growth.remembered, number)
             for number in series.missing(folder, "memory", count) if 14 in rows]
    if not todo:
        return
    with growth.as_before(lab):
        for place, (row, do, number) in enumerate(todo, start=1):
            do(lab, folder, number)
            print(f"{row}, trial {number}; {len(todo) - place} more", flush=True)


def grown(folder: Path, count: int) -> list[int]:
    """Return the trials of row 10 that lack a number of map servers; they are done anew."""
    return sorted({number for servers in growth.COUNTS
                   for number in series.missing(folder, growth.name(servers), count)})


def runs(folder: Path, rows: tuple[int, ...]) -> dict[str, dict[int, Run]]:
    """Return name -> number -> Run of the trials of these rows that there are."""
    names = {10: [growth.name(count) for count in growth.COUNTS], 12: ["images"], 14: ["memory"]}
    return {name: series.runs(folder, name) for row in rows for name in names[row]}


def records(kept: Mapping[str, Mapping[int, Run]]) -> list[tuple]:
    """Return the lines of the trials; see records.py."""
    made, rates = [], {}
    for count in growth.COUNTS:
        setup = f"{count} map server" + "s" * (count > 1)
        for trial, one in kept.get(growth.name(count), {}).items():
            span, rest = (one.at(b) - one.at(a) for a, b in (("begin", "end"), ("rest", "rested")))
            total = one.system.assign(state=one.system["state"].astype(float)).groupby("kind")[
                "state"].sum()
            used = total["end"] - total["begin"]
            come = one.samples[(one.samples["sent"] + one.samples["took"]).between(
                one.at("begin"), one.at("end"))]
            drawn = int((come["outcome"] == "ok").sum())
            made += [(*RATE, setup, trial, drawn / span, len(come) - drawn, len(come)),
                     (*BUSY, setup, trial, used / span, 0, 0),
                     (*IDLE, setup, trial, (total["rested"] - total["rest"]) / rest, 0, 0),
                     (*EACH, setup, trial, drawn / used, 0, 0)]
            rates.setdefault(trial, {})[count] = drawn / used
            if count > 1 and 1 in rates[trial]:
                made.append((*GROWN, setup, trial,
                             100 * rates[trial][count] / rates[trial][1], 0, 0))
    made += [(12, f"image of {line.what}", OURS, trial, float(line.state), 0, 0)
             for trial, one in kept.get("images", {}).items() for line in one.system.itertuples()]
    made += [(*HELD, line.node, line.trial, line.mb, 0, 0) for line in
             memory(kept).groupby(["trial", "node"], as_index=False)["mb"].sum().itertuples()]
    return made


def memory(kept: Mapping[str, Mapping[int, Run]]) -> pd.DataFrame:
    """Return trial, node, part, mb of row 14."""
    lines = [(trial, line.node, line.what, float(line.state))
             for trial, one in kept.get("memory", {}).items() for line in one.system.itertuples()]
    return pd.DataFrame(lines, columns=["trial", "node", "part", "mb"])


def goals(server: str) -> dict[tuple[int, str], Goal]:
    """Return the targets where this map server serves."""
    def most(limit: float, **how) -> Goal:
        return Goal(f"at most {limit:,} MB", "MB", lambda own, peers: own["most"] <= limit, **how)
    return {RATE: Goal("", ""), BUSY: Goal("", ""), IDLE: Goal("", ""), EACH: Goal("", ""),
            GROWN: Goal("at least 90 % (median)", "%", lambda own, peers: own["median"] >= 90,
                        enough=TRIALS, each=True),
            (12, "image of mapserver"): Goal("", "MB"),
            **{(12, f"image of {name}"): most(limit, enough=1) for name, limit in LARGEST.items()},
            HELD: most(MEMORY[server], enough=TRIALS, each=True)}


def write(kept: dict[str, dict[int, Run]], lab: Lab, typed: str, output: Path) -> None:
    """Write bench-maps-<map server>.md and .png."""
    found = records(kept)
    if not found:
        raise SystemExit("there is no trial of these rows yet; run it without --report")
    targets, name = goals(lab.serves), f"bench-maps-{lab.serves}"
    where = f"{lab.kind} Pis, {series.machine()}, maps by {lab.serves}"
    picture = verdicts.figure([one for one in found if one[0] != 12], where, targets)
    for axis in picture.axes:
        axis.set_xlim(0, 1.05 * axis.dataLim.x1)  # a small difference is to look like one
    text = series.markdown(verdicts.table(found, targets).drop(columns="times ours"))
    held = memory(kept).groupby(["part", "node"])["mb"].median().unstack()
    held = held.round().astype("Int64").astype("str").replace("<NA>", "-").reset_index()
    builds = len({json.dumps(one.settings.get("images"), sort_keys=True)
                  for trials in kept.values() for one in trials.values()})
    sections = [["## What holds the memory", "", "Median of the trials, in MB.", "",
                 series.markdown(held), ""]] if len(held) else []
    spare = SHARED if lab.kind == "virtual" else OWN
    series.publish(output / name, __doc__.splitlines()[0],
                   f"As `{typed}` printed it, on {where}. {spare}", picture, text, builds,
                   *sections, ["## How it was measured", "", ABOUT])


if __name__ == "__main__":
    raise SystemExit(main())
