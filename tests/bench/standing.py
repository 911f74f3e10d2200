"""What remains of loading's speed on the standing lab: `make bench-loading ARGS=--lab`.

Through the VIP and HAProxy to a primary with two replicas: with `synchronous_commit = on`, as the
lab has it, where a commit waits until a second Pi has it on disk; and with `local`, where it does
not. The WAL goes to the replicas either way. Each turn is a process of its own, in another order
in each trial, and begins when every replica has replayed the one before; ratios are those of one
trial.
"""

from __future__ import annotations

import os
import random
from contextlib import contextmanager
from pathlib import Path

import pandas
import psycopg

from gislab import cluster, database, postgis
from gislab.settings import Lab

from . import bench_loading, peers, series

COMMITS = ("on", "local")
WAYS = (bench_loading.BASE, "`gislab.loading`", bench_loading.RAW)


class Standing:
    """The primary of the lab, as a bench.server.Server."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def connect(self, role: str = "postgres", **options) -> psycopg.Connection:
        """Connect as one of the roles through the VIP, committing each statement."""
        return database.connect(self.lab, role, port=self.lab.ports.primary, autocommit=True,
                                **options)


@contextmanager
def committing(server, how: str):
    """Have every connection of this process and its children commit so; prove it."""
    former = os.environ.get("PGOPTIONS")
    os.environ["PGOPTIONS"] = f"-c synchronous_commit={how}"  # read by libpq, so by every way
    try:
        with server.connect("gis") as connection:
            found, = connection.execute("show synchronous_commit").fetchone()
        if found != how:
            raise RuntimeError(f"synchronous_commit is {found}, and was to be {how}")
        yield
    finally:
        del os.environ["PGOPTIONS"]
        if former is not None:
            os.environ["PGOPTIONS"] = former


def measure(lab: Lab, sizes: dict, trials: int, folder: Path) -> pandas.DataFrame:
    """Return one row a turn: trial, kind, rows, index, way, commit, seconds."""
    cluster.ready(lab, say=None)
    peers.password(lab)
    server, made = Standing(lab), []
    with server.connect("gis") as connection:
        connection.execute(f"create schema if not exists {peers.SCHEMA}")
    try:
        for kind, rows in [(kind, rows) for kind, counts in sizes.items() for rows in counts]:
            case = peers.case(kind, rows, folder)
            for trial in range(trials):
                turns = [(index, way, how) for index in (False, True) for way in WAYS
                         for how in COMMITS]
                random.Random(trial).shuffle(turns)
                for index, way, how in turns:
                    postgis.replayed(lab)
                    with committing(server, how):
                        found = bench_loading.turn(server, peers.PEERS[way], case, index)
                    made.append({"trial": trial, "kind": kind, "rows": rows, "index": index,
                                 "way": way, "commit": how, "seconds": found["seconds"]})
                    print(*made[-1].values(), flush=True)
    finally:
        with server.connect("gis") as connection:
            connection.execute(f"drop schema {peers.SCHEMA} cascade")
    return pandas.DataFrame(made)


def table(samples: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row a case, index and way: rows/s of both commits, and what the wait leaves."""
    made = []
    for (kind, rows, index, way), part in samples.groupby(["kind", "rows", "index", "way"]):
        seconds = part.pivot(index="trial", columns="commit", values="seconds")
        share = seconds["local"] / seconds["on"]
        base = samples.query("kind == @kind and rows == @rows and index == @index and "
                             "way == @bench_loading.BASE and commit == 'on'")
        ratio = base.set_index("trial")["seconds"] / seconds["on"]
        made.append({
            "frame": f"{rows:,} {kind}", "GiST": "yes" if index else "no", "way": way,
            **{f"rows/s, {how}": f"{rows / seconds[how].median():,.0f}" for how in COMMITS},
            "on, of local": f"{share.median():.0%} ({share.quantile(0.05):.0%} to "
                            f"{share.quantile(0.95):.0%})",
            "times `to_postgis`, on": f"{ratio.median():.1f}", "trials": len(seconds)})
    return pandas.DataFrame(made)


def write(samples: pandas.DataFrame, typed: str, folder: Path) -> None:
    """Write bench-loading-lab.md."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([
        "# Loading into the standing lab: what synchronous replication leaves of the speed", "",
        f"As `{typed}` printed it, on {series.machine()}.", "",
        __doc__.split("\n\n", 1)[1].replace("\n", " ").strip(), "",
        series.markdown(table(samples)), ""])
    (folder / "bench-loading-lab.md").write_text(text)
    print(text)
