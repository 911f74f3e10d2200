"""How quickly a frame comes into PostGIS, next to the other ways: `make bench-loading`.

One server of the lab's image with PostgreSQL's own settings, so durable ones. In each trial every
way has its turn, in another order each time; ratios are those of one trial. What a way needs to
have (a file, a prepared stream) is made before. Each turn is a process of its own, forked
from one that has everything imported; its peak memory is counted above what it began with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pandas
import psycopg
from rich.console import Console
from rich.progress import Progress

from gislab import engine, images, plot, settings
from gislab.settings import Lab

from . import peers
from .server import Server

BASE, RAW = "GeoPandas `to_postgis`", "COPY of prepared data"
SIZES = {"points": [100_000, 500_000], "polygons": [5_000, 20_000]}
QUICK = {"points": [5_000, 20_000], "polygons": [500, 2_000]}
SAMPLES = settings.PROJECT / "reports"


def main(words: list[str] | None = None) -> int:
    """Measure, and write the table and the plot."""
    parser = argparse.ArgumentParser(prog="make bench-loading ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, one trial: a minute")
    parser.add_argument("--lab", action="store_true", help="through the VIP of the lab that "
                        "stands, with synchronous commits and without; see standing.py")
    parser.add_argument("--points", type=int, nargs="+", help="rows of each size")
    parser.add_argument("--polygons", type=int, nargs="+")
    parser.add_argument("--trials", type=int, help="7 by default, 1 with --quick")
    parser.add_argument("--output", type=Path, default=settings.PROJECT / "docs")
    given = parser.parse_args(words)
    usual = QUICK if given.quick else SIZES
    sizes = {"points": given.points or usual["points"],
             "polygons": given.polygons or usual["polygons"]}
    trials = given.trials or (1 if given.quick else 7)
    peers.tools()
    if given.lab:
        from . import standing  # which needs turn() of this module

        with tempfile.TemporaryDirectory() as folder:
            samples = standing.measure(settings.read(), sizes, trials, Path(folder))
        standing.write(samples, command(given, sizes, trials), given.output)
        return 0
    tag = images.build(settings.make({}), ["postgis"]).tag[0]
    with Server(engine.client(), tag) as server, tempfile.TemporaryDirectory() as folder:
        peers.password(server.lab)
        samples, facts = measure(server, sizes, trials, Path(folder))
    text = command(given, sizes, trials)
    write(samples, facts, text, given.output)
    return 0


def command(given, sizes: dict, trials: int) -> str:
    """Return what has to be typed to have the same again."""
    words = ["--lab"] * given.lab + ["--quick"] * given.quick
    usual = QUICK if given.quick else SIZES
    for kind in sizes:
        if sizes[kind] != usual[kind]:
            words += [f"--{kind}", *map(str, sizes[kind])]
    if trials != (1 if given.quick else 7):
        words += ["--trials", str(trials)]
    return "make bench-loading" + (f' ARGS="{" ".join(words)}"' if words else "")


def measure(server: Server, sizes: dict, trials: int, folder: Path) -> tuple:
    """Return the samples, one row a turn, and the facts of machine and server.

    An interrupted run goes on where it was, as long as nothing else has changed.
    """
    plan = hashlib.sha256(json.dumps([sizes, _code()]).encode()).hexdigest()
    SAMPLES.mkdir(exist_ok=True)
    path = SAMPLES / f"bench-loading-{plan[:8]}.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(s["trial"], s["kind"], s["rows"], s["index"], s["way"]) for s in kept}
    with server.connect("gis") as connection:
        connection.execute(f"create schema if not exists {peers.SCHEMA}")
        facts = _facts(connection)
    console = Console(stderr=True)
    with Progress(console=console) as bar, path.open("a") as file:
        turns = trials * sum(len(n) for n in sizes.values()) * (2 * len(peers.PEERS)
                                                                + len(peers.ALONE))
        task = bar.add_task("loading", total=turns)
        for kind, rows in [(one, n) for one, counts in sizes.items() for n in counts]:
            case = peers.case(kind, rows, folder)
            for trial in range(trials):
                ways = [(index, way, peer) for index in (False, True)
                        for way, peer in {**peers.PEERS, **(peers.ALONE if index else {})}.items()]
                random.Random(trial).shuffle(ways)
                for index, way, peer in ways:
                    bar.update(task, advance=1, description=f"{kind} {rows} {way}")
                    if (trial, kind, rows, index, way) in done:
                        continue
                    sample = {"trial": trial, "kind": kind, "rows": rows,
                              "index": index, "way": way, **turn(server, peer, case, index)}
                    kept.append(sample)
                    file.write(json.dumps(sample) + "\n")
                    file.flush()
    path.rename(SAMPLES / f"bench-loading-{time.strftime('%Y%m%dT%H%M%S')}.jsonl")
    return pandas.DataFrame(kept), facts


def turn(server: Server, peer, case: peers.Case, index: bool) -> dict:
    """Load once on a quiet server; return seconds, peak MB, and how many rows are there."""
    with server.connect("gis") as connection:
        connection.execute(f"drop table if exists {peers.SCHEMA}.{case.table}")
    with server.connect() as connection:
        connection.execute("checkpoint")
    found = _forked(lambda: _timed(server.lab, peer, case, index))
    with server.connect("gis") as connection:
        found["stored"] = connection.execute(
            f"select count(*) from {peers.SCHEMA}.{case.table}").fetchone()[0]
        indexes = connection.execute(
            "select count(*) from pg_indexes where schemaname = %s and tablename = %s and "
            "indexdef like '%%gist%%'", (peers.SCHEMA, case.table)).fetchone()[0]
    if found["stored"] != case.rows or indexes != index:
        raise RuntimeError(f"{case.table}: {found['stored']} rows, {indexes} GiST indexes")
    return found


def _timed(lab: Lab, peer, case: peers.Case, index: bool) -> dict:
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak (manual page proc(5))
    before = _status("VmHWM")
    start = time.monotonic()
    peak = peers.run(lab, peer, case, index)
    seconds = time.monotonic() - start
    if peak is None:
        peak = (_status("VmHWM") - before) / 1024
    return {"seconds": seconds, "megabytes": round(peak, 1)}


def _forked(work) -> dict:
    """Do it in a process of its own; what it returns comes back, what it raises is told."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as error:  # whatever it was, the parent says it
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as file:
        text = file.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "it was killed"}')
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def table(samples: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row a case and way: rows/s, ratios to `to_postgis` and to COPY, peak MB."""
    made = []
    for (kind, rows, index), part in samples.groupby(["kind", "rows", "index"], sort=True):
        seconds = part.pivot(index="trial", columns="way", values="seconds")
        for way in seconds:
            ratio = seconds[BASE] / seconds[way]
            share = seconds[RAW] / seconds[way]
            made.append({
                "kind": kind, "rows": rows, "index": index, "way": way,
                "rows/s": rows / seconds[way].median(), "ratio": ratio.median(),
                "low": ratio.quantile(0.05), "high": ratio.quantile(0.95),
                "share": share.median(), "share_low": share.quantile(0.05),
                "share_high": share.quantile(0.95), "trials": len(ratio),
                "MB": part[part.way == way]["megabytes"].median()})
    return pandas.DataFrame(made).sort_values(
        ["kind", "rows", "index", "ratio"], ascending=[True, True, True, False])


def write(samples: pandas.DataFrame, facts: dict, typed: str, folder: Path) -> None:
    """Write bench-loading.md and bench-loading.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    found = table(samples)
    lines = [
        "# Loading: how quickly a frame comes into PostGIS", "", f"As `{typed}` printed it.", "",
        "Ratios are to GeoPandas `to_postgis` in the same trial, and to a COPY of binary data "
        "that was prepared before: median, and 5th to 95th percentile of "
        f"{found['trials'].max()} trials. More is quicker.", "",
        "![Bars: how many times quicker than to_postgis each way is, for points and polygons of "
        "two sizes, without and with a GiST index](bench-loading.svg)", ""]
    for index in (False, True):
        lines += [f"## {'With' if index else 'Without'} a GiST index", "",
                  "| Frame | Way | rows/s | times `to_postgis` | share of prepared COPY | "
                  "client's peak memory, MB |", "|---|---|---|---|---|---|"]
        for row in found[found["index"] == index].to_dict("records"):
            lines.append(
                f"| {row['rows']:,} {row['kind']} | {row['way']} | {row['rows/s']:,.0f} | "
                f"{row['ratio']:.1f} ({row['low']:.1f} to {row['high']:.1f}) | "
                f"{row['share']:.0%} ({row['share_low']:.0%} to {row['share_high']:.0%}) | "
                f"{row['MB']:.0f} |")
        lines.append("")
    lines += [
        "## How it was measured", "",
        __doc__.split("\n\n", 1)[1].replace("\n", " ").strip(), "",
        "`gislab.loading` makes a primary key, has the server hash all rows and compares (not "
        "with `verify=False`), and runs ANALYZE. ogr2ogr and shp2pgsql make a primary key; "
        "`to_postgis`, ADBC and the prepared COPY none, and none of these proves anything. ADBC "
        "sends WKB, which the server then turns into geometries; ogr2ogr reads a GeoPackage, "
        "shp2pgsql a Shapefile. The memory of ogr2ogr and shp2pgsql is that of the larger "
        "program.", "",
        "| What | Here |", "|---|---|", *[f"| {k} | {v} |" for k, v in facts.items()], ""]
    (folder / "bench-loading.md").write_text("\n".join(lines))
    picture(found).savefig(folder / "bench-loading.svg", metadata={"Date": None})
    print("\n".join(lines))


def picture(found: pandas.DataFrame) -> plot.Picture:
    """Draw the ratios, one panel a case."""
    cases = list(found.groupby(["kind", "rows"], sort=True).groups)
    made = plot.Picture(figsize=(10, 2.6 * len(cases)))
    axes = made.subplots(len(cases), 2, sharex=True, squeeze=False)
    colours = dict(zip(sorted(set(found["way"])), plot.FILLS * 2, strict=False))
    for row, (kind, rows) in zip(axes, cases, strict=True):
        for axis, index in zip(row, (False, True), strict=True):
            part = found[(found.kind == kind) & (found.rows == rows)
                         & (found["index"] == index)].sort_values("ratio")
            names = [way.replace("`", "").replace("\\", "") for way in part.way]
            axis.barh(names, part.ratio, color=[colours[way] for way in part.way],
                      xerr=[part.ratio - part.low, part.high - part.ratio], ecolor="#333333")
            axis.axvline(1, color="black", lw=0.8)
            axis.set_xscale("log")
            axis.set_title(f"{rows:,} {kind}, {'with' if index else 'without'} GiST",
                           fontsize=10)
            axis.tick_params(labelsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("times as quick as to_postgis (log scale)")
    made.alt = "How many times quicker than to_postgis each way is"
    return made


def _facts(connection: psycopg.Connection) -> dict:
    def one(query):
        return connection.execute(query).fetchone()[0]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    gdal = peers.subprocess.run(["ogr2ogr", "--version"], capture_output=True, text=True)
    names = ("geopandas", "pandas", "shapely", "psycopg", "adbc-driver-postgresql")
    return {"Processors, shared by client and server": os.cpu_count(),
            "Memory": f"{memory:.0f} GiB",
            "Server": f"PostgreSQL {one('show server_version').split()[0]}, PostGIS "
                      f"{one('select postgis_lib_version()')}, in a container on this machine",
            "Its settings": ", ".join(f"{name} = {one('show ' + name)}" for name in (
                "fsync", "synchronous_commit", "wal_level", "shared_buffers", "max_wal_size",
                "maintenance_work_mem")),
            "Client": ", ".join(f"{name} {version(name)}" for name in names),
            "ogr2ogr": gdal.stdout.split(",")[0]}


def _code() -> list[str]:
    folders = (settings.PROJECT / "gislab", Path(__file__).parent)
    return [hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in folders for path in sorted(folder.rglob("*.py"))]


def _status(key: str) -> int:
    line, = [x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key)]
    return int(line.split()[1])


if __name__ == "__main__":
    raise SystemExit(main())
