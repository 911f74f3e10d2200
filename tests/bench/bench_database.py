"""How long the database is away under each fault: ours, Patroni as it comes, and 2016's.

    make bench-database ARGS="--minutes 8"   # again and again: it goes on from there
    make bench-database ARGS=--report        # only docs/bench-database.md and .svg
    make bench-database ARGS=--quick         # one trial of each, ours only, in a few minutes

Each trial is a Run in build/bench-database/<setup>/<fault>-<number>. What is there is not measured
again, so the bench can be done in pieces; delete the folder to begin anew. It needs a lab that
stands, and leaves it in our own setup.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import re
import time

import pandas as pd
from matplotlib import pyplot

from gislab import (
    cluster,
    comparison,
    experiment,
    faults,
    faults2016,
    members,
    nodes,
    outage,
    postgis,
    run,
    settings,
    setup2016,
    stack,
)
from gislab.faults import colours
from gislab.wait import NotYet, until

from . import series

FOLDER = settings.PROJECT / "build" / "bench-database"
REPORT = settings.PROJECT / "docs" / "bench-database.md"
LANES = ("write_primary", "sql_write")
NAMES = {"write_primary": "straight to the primary", "sql_write": "through Pgpool-II"}
RATE = 10
TRIALS = {"primary_killed": 10, "switchover": 10, "primary_container_killed": 5,
          "primary_frozen": 5, "power_cut": 5}

# What is left out (see images/postgis/entrypoint.sh), and Patroni's dynamic configuration. The
# defaults are those of Patroni 4.0 ("Dynamic Configuration Settings"); what is PostgreSQL's, such
# as synchronous replication, is the same in all.
SETUPS = {
    "ours": ("", {"ttl": 20, "loop_wait": 1, "retry_timeout": 8, "primary_start_timeout": 0}),
    "no watcher, no relay": ("watch relay", {"ttl": 20, "loop_wait": 1, "retry_timeout": 8,
                                             "primary_start_timeout": 0}),
    "Patroni's defaults": ("watch relay checks", {"ttl": 30, "loop_wait": 10, "retry_timeout": 10,
                                                  "primary_start_timeout": 300}),
}
# Not a way to run our stack, but another one: see setup2016.py. It had Pgpool's way only, and
# knows a part of the faults.
OLD = "the set-up of 2016"
EVERY = (*SETUPS, OLD)


def set_up(lab: settings.Lab, name: str) -> None:
    """Have the lab's database run in one of SETUPS, and wait until it is whole."""
    without, config = SETUPS[name]
    manager = nodes.manager(lab)
    changed = False
    for member in members.containers(lab):
        now = json.loads(manager.docker("service", "inspect", f"{stack.NAME}_{member}", "--format",
                                        "{{json .Spec.TaskTemplate.ContainerSpec.Env}}"))
        if f"WITHOUT={without}" not in now:
            manager.docker("service", "update", "--detach", "--env-add", f"WITHOUT={without}",
                           f"{stack.NAME}_{member}")
            changed = True
    if changed:
        until(lambda: stack.settled(lab), what="the setup", timeout=180, every=1)
    cluster.ready(lab, say=None)
    words = [word for key, value in config.items() for word in ("-s", f"{key}={value}")]
    members.patronictl(lab, "edit-config", "--force", "--quiet", *words,
                       through=postgis.primary(lab))
    until(lambda: _follows(lab, config["loop_wait"]), what="the configuration", timeout=60)


def _follows(lab: settings.Lab, loop_wait: int) -> None:
    """Every member has taken a new configuration over after its next look, or two."""
    node, container = next(iter(members.containers(lab).values()))
    out = node.docker("exec", container, "entrypoint.sh", "patronictl", "show-config", lab.name)
    if f"loop_wait: {loop_wait}\n" not in out + "\n":
        raise NotYet(out)


def by_patronictl(lab: settings.Lab) -> faults.Fault:
    """Switch over as Patroni's own tool does."""
    def hit(lab, target):
        table = postgis.members(lab)
        to = table.loc[table["state"] == "streaming", "member"].iloc[0]
        postgis.switchover(lab, to, say=lambda text: None)
    return dataclasses.replace(faults.switchover(lab), hit=hit)


def fault_of(lab: settings.Lab, setup: str, name: str) -> faults.Fault:
    """Return the fault as it is done in this setup."""
    if setup == OLD:
        return faults2016.named(lab, name)
    if name == "switchover" and setup != "ours":
        return by_patronictl(lab)
    return faults.named(lab, name)


def trial(lab: settings.Lab, setup: str, name: str, number: int,
          fault: faults.Fault | None = None) -> None:
    """Do one trial and keep it, also one whose rows nobody could read; tell the load beside it."""
    load, kept = os.getloadavg()[0], series.path(FOLDER / setup, name, number)
    try:
        experiment.measure(lab, fault or fault_of(lab, setup, name), before=2, during=1, after=1,
                           recovery=120, rate=RATE, lanes=LANES, say=lambda text: None,
                           folder=kept)
    except experiment.ExperimentError as error:
        print(f"{setup}: {name} {number}: {error}", flush=True)
    done = run.load(kept)
    found = [f"{lane} " + (f"{o.outage:.2f} s" if o.recovered else "not recovered")
             for lane, o in ((lane, outage.of(done, lane)) for lane in done.probes)]
    written = outage.writes(done)
    print(f"{setup}: {name} {number}: {', '.join(found)}; acknowledged {written.acknowledged}, "
          f"lost {len(written.lost) if written.readings else 'not known'}; load {load:.0f}",
          flush=True)


def clients(lab: settings.Lab, seconds: int = 10) -> None:
    """Measure both ways in with pgbench: one client, many, and many that only sit there."""
    path = FOLDER / "clients.json"
    if path.exists():
        return
    replica = next(m for m in members.containers(lab) if m != postgis.primary(lab))
    node, container = members.containers(lab)[replica]
    rows = []
    scripts = {"read": "select id, geom from lab.alive;",
               "write": "insert into lab.bench default values;"}
    with postgis.connect(lab, port=lab.ports.primary) as connection:
        connection.execute("create table if not exists lab.bench "
                           "(id bigint generated always as identity)")
    # Pgpool keeps what it has opened for a minute, and HAProxy lets 90 through: 30 idle ones fit
    for what, script in scripts.items():
        for count, idle in ((1, 0), (16, 0), (1, 30)):
            for way, port in (("direct", lab.ports.primary), ("pgpool", lab.ports.sql)):
                sitting = [postgis.connect(lab, port=port, autocommit=True) for _ in range(idle)]
                out = node.run(
                    ["docker", "exec", "-i", container, "sh", "-c",
                     "PGPASSWORD=$(cat /run/secrets/gis_password) pgbench -n -h "
                     f"{lab.vip} -p {port} -U gis -c {count} -T {seconds} -f - gis 2>&1"
                     .replace("-f -", "-f /dev/stdin")],
                    input=script, timeout=seconds + 60, check=False).out
                for connection in sitting:
                    connection.close()
                latency = re.search(r"latency average = ([\d.]+)", out)
                rate = re.search(r"tps = ([\d.]+)", out)
                rows.append({"seconds": seconds, "statement": what, "clients": count,
                             "idle": idle, "way": way,
                             "ms": float(latency[1]) if latency else math.nan,
                             "per second": float(rate[1]) if rate else math.nan})
                print(rows[-1], "" if latency else out[-300:], flush=True)
    with postgis.connect(lab, port=lab.ports.primary) as connection:
        connection.execute("drop table lab.bench")
    path.write_text(json.dumps(rows, indent=1))


def results() -> pd.DataFrame:
    """Return one line for each trial and lane that was kept."""
    rows = []
    for setup in EVERY:
        for path in sorted((FOLDER / setup).glob("*-[0-9][0-9]/run.json")):
            kept = run.load(path.parent)
            fault, _, number = path.parent.name.rpartition("-")
            written = outage.writes(kept)
            lost = len(written.lost) if written.readings else math.nan
            for lane in (lane for lane in LANES if lane in kept.probes):
                found = outage.of(kept, lane)
                # what ended only when the fault was undone did not come back by itself
                back = found.recovered and not comparison.cost(kept, lane).stuck
                # a write that HAProxy held back and did not fail has waited as long
                rows.append((setup, fault, int(number), lane, max(found.outage, found.slowest),
                             back, lost, written.acknowledged))
    return pd.DataFrame(rows, columns=["setup", "fault", "trial", "lane", "outage", "recovered",
                                       "lost", "acknowledged"])


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return trials, median, p95 and spread of each setup, fault and lane."""
    rows = []
    for (fault, lane, setup), group in table.groupby(["fault", "lane", "setup"], sort=False):
        good = group.loc[group["recovered"], "outage"]
        rows.append({"fault": fault, "lane": NAMES[lane], "setup": setup, "trials": len(group),
                     "median [s]": good.median(), "p95 [s]": good.quantile(0.95),
                     "least [s]": good.min(), "most [s]": good.max(),
                     "not back": int((~group["recovered"]).sum()),
                     "lost": "not known" if group["lost"].isna().any()
                     else int(group["lost"].sum())})
    order = {name: place for place, name in enumerate(EVERY)}
    return (pd.DataFrame(rows).sort_values(by=["fault", "lane", "setup"], ignore_index=True,
                                           key=lambda c: c.map(order) if c.name == "setup" else c)
            .round(2))


def report() -> None:
    """Write what was measured as a page and a picture."""
    table = results()
    lines = [f"# {__doc__.splitlines()[0]}", "",
             f"Written by `make bench-database`. Virtual Pis on one machine: {series.machine()}."
             " An outage is the longest time between two acknowledged writes in which one failed, "
             "or the longest that a write was held back for, whichever is longer "
             f"({RATE} writes per second on each way; `gislab.outage`). Not back: not before the "
             "fault was undone. Lost: acknowledged, and missing on at least one server.", "",
             "![Outages by fault and setup](bench-database.svg)", "",
             series.markdown(summary(table))]
    if (FOLDER / "clients.json").exists():
        ways = pd.DataFrame(json.loads((FOLDER / "clients.json").read_text()))
        lines += ["", "## Pgpool-II beside the port of the primary", "",
                  "`pgbench` of PostgreSQL 17 on a Pi, through the VIP; `idle` clients are "
                  "connected and ask nothing.", "", series.markdown(ways)]
    REPORT.write_text("\n".join(lines) + "\n")
    _draw(table)
    print(f"{REPORT} written: {len(table)} outages")


def _draw(table: pd.DataFrame) -> None:
    lane = table["lane"].eq("write_primary") | table["setup"].eq(OLD)
    shown = table[lane & table["recovered"]]
    found = list(dict.fromkeys(shown["fault"]))
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.9 * max(1, len(found))))
    shades = dict(zip(EVERY, (colours.GREEN, colours.SKY, colours.VERMILION, colours.GREY),
                       strict=True))
    for place, fault in enumerate(found):
        for step, (setup, colour) in enumerate(shades.items()):
            seconds = shown[(shown["fault"] == fault) & (shown["setup"] == setup)]["outage"]
            axes.plot(seconds.clip(lower=0.05), [place + 0.2 * (step - 1.5)] * len(seconds), "o",
                      color=colour, alpha=0.7, label=setup if place == 0 else None)
    axes.set(xscale="log", xlabel="seconds without an acknowledged write",
             yticks=range(len(found)), yticklabels=[f.replace("_", " ") for f in found])
    axes.invert_yaxis()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=4, frameon=False)
    figure.savefig(REPORT.with_suffix(".svg"), bbox_inches="tight")


def main(words: list[str] | None = None) -> None:
    """Measure what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--setup", nargs="*", choices=EVERY, default=list(EVERY))
    parser.add_argument("--trials", nargs="*", metavar="FAULT=N", help="instead of all")
    parser.add_argument("--quick", action="store_true", help="one of each, ours only")
    parser.add_argument("--report", action="store_true", help="only write what there is")
    options = parser.parse_args(words)
    trials = {name: int(count) for name, count in
              (word.split("=") for word in options.trials)} if options.trials else TRIALS
    if options.quick:
        trials, options.setup = dict.fromkeys(trials, 1), ["ours"]
    if not options.report:
        lab, end = settings.read(), time.monotonic() + 60 * options.minutes
        measure(lab, options.setup, trials, end)
        if time.monotonic() < end:
            clients(lab, seconds=1 if options.quick else 10)
    report()


def measure(lab: settings.Lab, setups: list[str], trials: dict[str, int], end: float) -> None:
    """Do what is missing, until the time is up; then leave the lab in our own setup."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for setup in setups:
        missing = [(name, number) for name, count in trials.items()
                   if setup != OLD or name in faults2016.ALL
                   for number in series.missing(FOLDER / setup, name, count)]
        if not missing or time.monotonic() > end:
            continue
        with _stands(lab, setup):
            for name, number in missing:
                if time.monotonic() > end:
                    break
                (setup2016 if setup == OLD else cluster).ready(lab, say=None)
                trial(lab, setup, name, number)
    set_up(lab, "ours")


def _stands(lab: settings.Lab, setup: str) -> contextlib.AbstractContextManager:
    """Have a setup stand for the length of a block; ours stays until another one is wanted."""
    if setup == OLD:
        set_up(lab, "ours")  # what is put back at the end of 2016's is this
        return setup2016.standing(lab)
    return contextlib.nullcontext(set_up(lab, setup))


if __name__ == "__main__":
    main()
