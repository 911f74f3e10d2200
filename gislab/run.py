"""One measurement, as a thing to keep: samples, events, rows found, settings.

Nothing here needs a cluster: a saved run can be read, judged and drawn anywhere. What is in the
folder of a run, column by column, is told in docs/run-format.md.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow

from .settings import PROJECT, Lab

RUNS = PROJECT / "runs"  # where measurements are kept unless they are told otherwise
FORMAT = 2  # 1 had no table `system`, and is read still
OUTCOMES = ("ok", "failed", "unknown")

_SAMPLES = {"probe": "str", "sent": "float64", "took": "float64", "outcome": "str",
            "detail": "str", "row": "Int64"}
_EVENTS = {"t": "float64", "kind": "str", "what": "str", "fault": "str"}
_ROWS = {"row": "Int64", "times": "Int64", "reader": "str"}
_SYSTEM = {"t": "float64", "node": "str", "kind": "str", "what": "str", "state": "str"}
TABLES = {"samples": _SAMPLES, "events": _EVENTS, "rows": _ROWS, "system": _SYSTEM}


class RunError(ValueError):
    """A folder does not hold a run that this version can read; says what to do."""


@dataclass(frozen=True)
class Run:
    """What was asked, what came back, what was broken meanwhile.

    samples : one line per question: probe; sent [s since the run's start, monotonic clock];
        took [s]; outcome: `ok`, `failed` (it certainly did not happen) or `unknown` (sent, but
        no answer: it may have happened); detail (why; of a write that is ok: which server took
        it, on which timeline); row (the number a write carried).
    events : t [s, the same clock], kind, what, fault. Kinds: `strike` (the order to break is
        given), `struck` (it is broken), `undo` (the order to mend is given), `undone`.
    rows : the numbered rows that each reader (the primary, each replica) held after the run, and
        how many times each; a reader has one line without a row, even if it held none.
    settings : lab, kind ("virtual" or "pi"), map_server, fault, started, versions, ...
    system : what the parts of the lab said of themselves meanwhile, one line for each change:
        t [s, the same clock]; node, the Pi that saw it; kind, what, state: see watch.py.
    """

    samples: pd.DataFrame
    events: pd.DataFrame
    settings: dict
    rows: pd.DataFrame = field(default_factory=lambda: frame([], _ROWS))
    system: pd.DataFrame = field(default_factory=lambda: frame([], _SYSTEM))

    @property
    def fault(self) -> str:
        """The name of the fault of this run."""
        return self.settings.get("fault", "")

    @property
    def probes(self) -> list[str]:
        """The names of the probes, in the order in which they first asked."""
        return list(dict.fromkeys(self.samples["probe"]))

    def at(self, kind: str) -> float | None:
        """Return the time of the first event of this kind, or None."""
        times = self.events.loc[self.events["kind"] == kind, "t"]
        return float(times.iloc[0]) if len(times) else None

    def save(self, folder: str | Path) -> Path:
        """Write the run into `folder` (made if need be) as Parquet and JSON."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # The JSON last: a folder without it is a run that was not written to its end.
        (folder / "run.json").unlink(missing_ok=True)
        text = json.dumps({"format": FORMAT, "settings": self.settings}, indent=2)
        for name in TABLES:
            getattr(self, name).to_parquet(folder / f"{name}.parquet", index=False)
        (folder / "run.json").write_text(text + "\n")
        return folder


def make(samples: list | pd.DataFrame, events: list | pd.DataFrame = (), *,
         settings: dict | None = None, rows: list | pd.DataFrame = (),
         system: list | pd.DataFrame = ()) -> Run:
    """Return a Run of lists of tuples in the order of the columns, or of tables."""
    return Run(frame(samples, _SAMPLES), frame(events, _EVENTS), dict(settings or {}),
               frame(rows, _ROWS), frame(system, _SYSTEM))


def rows(found: list | pd.DataFrame) -> pd.DataFrame:
    """Return the table Run.rows of lines such as history.reads makes them."""
    return frame(found, _ROWS)


def load(folder: str | Path) -> Run:
    """Read a run that `save` wrote; RunError if the folder holds none."""
    folder = Path(folder)
    try:
        head = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: not a whole run ({error}); measure it again") from None
    if head.get("format") not in range(1, FORMAT + 1):
        raise RunError(f"{folder}: written in format {head.get('format')}, this gislab reads "
                       f"1 to {FORMAT}; measure again, or read it with the gislab that wrote it")
    tables: dict = dict.fromkeys(TABLES, ())
    for name in TABLES if head["format"] > 1 else ("samples", "events", "rows"):
        try:
            tables[name] = pd.read_parquet(folder / f"{name}.parquet")
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise RunError(f"{folder}: {name}.parquet is missing or damaged ({error}); copy the "
                           "whole folder again, or measure again") from None
    return make(tables["samples"], tables["events"], settings=head["settings"],
                rows=tables["rows"], system=tables["system"])


def load_all(folder: str | Path) -> list[Run]:
    """Read every whole run below a folder, in the order of their names; RunError if none is.

    A folder of `experiment.repeat` is such a one, and so is `runs/`.
    """
    found = [load(path.parent) for path in sorted(Path(folder).rglob("run.json"))]
    if not found:
        raise RunError(f"{folder}: holds no run; measure one: gislab experiment power_cut")
    return found


def folder_for(parent: str | Path, fault: str) -> Path:
    """Return `<parent>/<time>-<fault>`, the folder that a new run is kept in."""
    return Path(parent) / f"{time.strftime('%Y%m%d-%H%M%S')}-{fault}"


def about(lab: Lab, **more: object) -> dict:
    """Return the settings that a run of `lab` is saved with; no secret among them."""
    packages = ("gislab", "httpx", "psycopg", "pandas")
    return {
        "lab": lab.name,
        "kind": lab.kind,
        "map_server": lab.serves,
        "platform": lab.platform,
        "machines": [m.name for m in lab.machines],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in packages},
        "driver": {"machine": platform.machine(), "processors": os.cpu_count(),
                   "system": f"{platform.system()} {platform.release()}"},
        **more,
    }


def where(run: Run) -> str:
    """Say where a run was made: on virtual or real Pis, with which map server."""
    names = {"mapserver": "MapServer", "geoserver": "GeoServer"}
    kind = {"virtual": "virtual Pis", "pi": "real Pis"}.get(run.settings.get("kind"), "?")
    server = run.settings.get("map_server", "?")
    old = f", the set-up of {run.settings['setup']}" if run.settings.get("setup") else ""
    return (f"{run.settings.get('kind', '?')} lab ({kind}), maps by "
            f"{names.get(server, server)}{old}")


def places(runs: Iterable[Run]) -> str:
    """Say where all these runs were made; most often it is one place."""
    return " / ".join(dict.fromkeys(where(run) for run in runs))


def placed(table: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """Have a function of runs that returns a table say over its columns where they were made."""
    @functools.wraps(table)
    def tell(runs: Run | Iterable[Run], *more, **how) -> pd.DataFrame:
        runs = [runs] if isinstance(runs, Run) else list(runs)
        return table(runs, *more, **how).rename_axis(columns=places(runs) or None)
    return tell


def frame(rows: list | pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Return `rows` as a table of exactly these columns and types."""
    if isinstance(rows, pd.DataFrame):
        # a column that an older gislab did not write: texts are empty, numbers missing
        texts = {name: "" for name, kind in columns.items() if kind == "str" and name not in rows}
        return (rows.assign(**texts).reindex(columns=list(columns)).astype(columns)
                .reset_index(drop=True))
    # Column by column: guessed from rows, numbers beside None would turn into rounded floats.
    table = {}
    for place, (name, kind) in enumerate(columns.items()):
        values = [row[place] if place < len(row) else None for row in rows]
        if kind == "str":
            values = [value or "" for value in values]
        table[name] = pd.Series(values, dtype=kind)
    return pd.DataFrame(table)
