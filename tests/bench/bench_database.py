"""How long the database is away under each fault: ours against Patroni's defaults.

    python tests/bench/bench_database.py --minutes 8      # as often as it takes: it goes on
    python tests/bench/bench_database.py --report         # docs/bench-database.md and .svg

Each trial is a Run in build/bench-database/<setup>/<fault>-<number>; what is there is not
measured again, so that the bench can be done in pieces.
"""

from __future__ import annotations

import argparse
import time

from gislab import cluster, experiment, outage, settings

FOLDER = settings.PROJECT / "build" / "bench-database"
LANES = ("write_primary", "sql_write")
TRIALS = {"primary_killed": 10, "primary_container_killed": 5, "power_cut": 5, "switchover": 10}
RATE = 10


def measure(lab: settings.Lab, setup: str, fault: str, number: int) -> None:
    """Do one trial and keep it."""
    folder = FOLDER / setup / f"{fault}-{number:02d}"
    run = experiment.measure(lab, fault, before=2, during=1, after=1, rate=RATE, lanes=LANES,
                             folder=folder, say=lambda text: None)
    for lane in LANES:
        found = outage.of(run, lane)
        print(f"{setup} {fault} {number} {lane}: "
              f"{found.outage:.2f} s" if found.recovered else "not recovered", end="  ")
    written = outage.writes(run)
    print(f"acknowledged {written.acknowledged}, lost {len(written.lost)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--setup", default="ours")
    parser.add_argument("--trials", nargs="*", metavar="FAULT=N")
    options = parser.parse_args()
    lab = settings.read()
    trials = dict(word.split("=") for word in options.trials) if options.trials else TRIALS
    end = time.monotonic() + 60 * options.minutes
    for fault, count in trials.items():
        for number in range(1, int(count) + 1):
            if (FOLDER / options.setup / f"{fault}-{number:02d}" / "run.json").exists():
                continue
            if time.monotonic() > end:
                return
            cluster.ready(lab, say=None)
            measure(lab, options.setup, fault, number)


if __name__ == "__main__":
    main()
