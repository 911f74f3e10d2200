"""Failover: how long clients wait, beside what others wait, in the same run.

    make bench-failover                              # again, if it was stopped: it goes on
    make bench-failover ARGS="--rows 1 3 --trials 6" # only these rows
    make bench-failover ARGS=--quick                 # one trial of some rows, a few minutes
    make bench-failover ARGS=--report                # only the page, of what there is

Every trial is a Run in build/bench-failover, or, of the database (rows 2 to 4), where
`make bench-database` keeps it; so trials of another build of the images are to be deleted first.
It needs a lab that stands, whose programs have the machine to themselves, and leaves it as it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from gislab import experiment, settings
from gislab.settings import Lab

from . import bench_database, doors, maps, records, series, verdicts, vips

FOLDER = settings.PROJECT / "build" / "bench-failover"
ROWS = (1, 2, 3, 4, 5, 6, 9)
QUICK = (1, 5, 6, 9)  # what leaves the database's configuration alone
TRIALS = 20
DATABASE = {name: row for name, (row, _) in records.FAULTS.items()}
# name of the trials in the folder -> row, and what makes records of them
KEPT = {vips.NAME: (1, records.of_vip), "busy": (1, records.of_busy),
        "killed": (5, records.of_killed), "scaled": (6, records.of_scaled),
        "way": (9, records.of_way)}
SETUPS = {"ours": records.OURS, "Patroni's defaults": "Patroni's defaults"}
ABOUT = f"""\
1. Two more Keepalived on every Pi, of the same image and with the same priorities, with an advert
   every 1 s (its default) and every 5 s (2016); each has an address of its own. One power cut of
   the Pi that holds all three strikes all three. Asked is whether HAProxy answers at the address,
   {vips.RATE} times a second, over new connections, until the power comes back. With `--busy 10`
   every processor is busy for ten minutes besides; a takeover of VIP or primary is a false one.
2. to 4. Writes straight to the primary through the VIP, {bench_database.RATE} a second; the
   longest time between two that were acknowledged, or for which one was held back; trials and
   set-ups of `make bench-database`. The power cuts of 1 and 3 are the same.
5. {maps.RATE} maps a second at the VIP, and as many at a second HAProxy on the same Pi with the
   same configuration without `retry-on`, `redispatch` and `retries`; the same kill strikes both.
   The p99 is of answers to what was asked from the kill on, divided by that of those before.
6. The same load; one map server more, then one fewer. Beside it HAProxy as in 2016, which is
   stopped and started with the new list after each change.
9. One client in a map server's container on a Pi without the VIP, a new connection for each map;
   through the VIP and straight to a map server in turn, in an order drawn anew for each pair.

`p95` is the least value that 95 % of the trials do not exceed; `times ours` is the median of the
ratios of each trial where one blow strikes both (rows 1, 5, 6 and 9), else the ratio of medians.
A verdict that rests on fewer trials or maps than wanted says so. `no end`: it did not recover.
"""


def main(words: list[str] | None = None, lab: Lab | None = None, folder: Path = FOLDER) -> int:
    """Measure what is missing, and write the page and the figure."""
    parser = argparse.ArgumentParser(prog="make bench-failover ARGS=...",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", choices=ROWS, help="of the targets")
    parser.add_argument("--trials", type=int, help=f"{TRIALS} by default, 1 with --quick")
    parser.add_argument("--peers", type=int, help="trials of Patroni's defaults (rows 2 to 4), "
                        "which cannot be struck together with ours; as many by default")
    parser.add_argument("--busy", type=float, metavar="MINUTES", default=0,
                        help="row 1: with all processors busy for so long, once; at most 14")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no trial later")
    parser.add_argument("--quick", action="store_true", help=f"rows {QUICK}, one trial")
    parser.add_argument("--report", action="store_true", help="only write what there is")
    parser.add_argument("--output", type=Path, default=settings.PROJECT / "docs")
    given = parser.parse_args(words)
    rows = tuple(sorted(set(given.rows or (QUICK if given.quick else ROWS))))
    count = given.trials or (1 if given.quick else TRIALS)
    lab = lab or settings.read()
    if not given.report:
        experiment.heal(lab)
        measure(lab, rows, count, count if given.peers is None else given.peers, folder,
                time.monotonic() + 60 * given.minutes)
        if given.busy and 1 in rows and series.missing(folder, "busy", 1):
            vips.busy(lab, folder, given.busy)
    write(kept(folder, rows), folder, lab, command(given, rows, count), given.output)
    return 0


def command(given, rows: tuple[int, ...], count: int) -> str:
    """Return what has to be typed to have the same again."""
    words = ["--quick"] * given.quick
    words += ["--rows", *map(str, rows)] if rows != (QUICK if given.quick else ROWS) else []
    words += ["--trials", str(count)] if count != (1 if given.quick else TRIALS) else []
    words += ["--peers", str(given.peers)] if given.peers is not None else []
    words += ["--busy", f"{given.busy:g}"] if given.busy else []
    return "make bench-failover" + (f' ARGS="{" ".join(words)}"' if words else "")


def measure(lab: Lab, rows: tuple[int, ...], count: int, peers: int, folder: Path,
            end: float) -> None:
    """Do the trials that are missing, row by row, until the time is up.

    What a row needs beside the lab is there for this row only, and taken away on an error, too.
    """
    if {5, 6} & set(rows):
        maps.whole(lab)  # HAProxy of 2016 reads once which servers there are
    if 5 in rows and (left := series.missing(folder, "killed", count)):
        with doors.beside(lab, doors.WITHOUT_RETRIES) as base:
            _each(left, end, "row 5", lambda n: maps.killed(lab, base, folder, n))
    if 6 in rows and (left := series.missing(folder, "scaled", count)):
        with doors.beside(lab, doors.OF_2016) as base:
            _each(left, end, "row 6", lambda n: maps.scaled(lab, base, folder, n))
    if 9 in rows:
        _each(series.missing(folder, "way", count), end, "row 9",
              lambda n: maps.way(lab, folder, n))
    if 1 in rows and (left := series.missing(folder, vips.NAME, count)):
        bench_database.set_up(lab, "ours")  # whose trials these are, too
        with vips.beside(lab) as seen:
            _each(left, end, "row 1", lambda n: vips.trial(lab, seen, folder, n))
    for setup, trials in (("ours", count), ("Patroni's defaults", peers)):
        wanted = {name: trials for name, row in DATABASE.items() if row in rows}
        if any(series.missing(bench_database.FOLDER / setup, *each) for each in wanted.items()):
            bench_database.measure(lab, [setup], wanted, end)


def _each(numbers: list[int], end: float, what: str, do: Callable[[int], None]) -> None:
    for place, number in enumerate(numbers):
        if time.monotonic() > end:
            return
        start = time.monotonic()
        do(number)
        took = time.monotonic() - start
        print(f"{what}, trial {number}: {took:.0f} s; {len(numbers) - place - 1} more",
              flush=True)


def kept(folder: Path, rows: tuple[int, ...]) -> list[tuple]:
    """Return the records of the trials of these rows that there are."""
    found = [one for name, (row, of) in KEPT.items() if row in rows
             for one in of(series.runs(folder, name))]
    if set(rows) & set(DATABASE.values()):
        found += [one for one in records.of_database(bench_database.results(), SETUPS)
                  if one[0] in rows]
    return found


def builds(folder: Path, rows: tuple[int, ...]) -> int:
    """Return of how many builds of the images the trials of these rows are."""
    places = [(folder, name) for name, (row, _) in KEPT.items() if row in rows]
    places += [(bench_database.FOLDER / setup, name) for setup in SETUPS
               for name, row in DATABASE.items() if row in rows]
    heads = [json.loads(path.read_text())["settings"] for place, name in places
             for path in place.glob(f"{name}-[0-9][0-9]/run.json")]
    return len({json.dumps(head.get("images"), sort_keys=True) for head in heads})


def write(found: list[tuple], folder: Path, lab: Lab, typed: str, output: Path) -> None:
    """Write bench-failover.md and bench-failover.png."""
    if not found:
        raise SystemExit("there is no trial of these rows yet; run it without --report")
    rows = tuple(sorted({one[0] for one in found}))
    where = f"{lab.kind} Pis, {series.machine()}, maps by {lab.serves}"
    series.publish(output / "bench-failover", __doc__.splitlines()[0],
                   f"As `{typed}` printed it, on {where}.", verdicts.figure(found, where),
                   series.markdown(verdicts.table(found)), builds(folder, rows),
                   ["## How it was measured", "", ABOUT])


if __name__ == "__main__":
    raise SystemExit(main())
