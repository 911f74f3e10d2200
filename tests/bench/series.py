"""Trials kept as Runs in folders, NAME-01, NAME-02, ...: a stopped bench goes on; and its page."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pandas as pd

from gislab import run
from gislab.plot import Picture
from gislab.run import Run


def path(folder: Path, name: str, number: int) -> Path:
    """Return the folder of one trial."""
    return folder / f"{name}-{number:02d}"


def missing(folder: Path, name: str, count: int) -> list[int]:
    """Return the numbers, from 1 to `count`, of the trials that were not measured to their end."""
    return [number for number in range(1, count + 1)
            if not (path(folder, name, number) / "run.json").exists()]


def runs(folder: Path, name: str) -> dict[int, Run]:
    """Return number -> Run of the trials that there are."""
    return {int(kept.parent.name.rpartition("-")[2]): run.load(kept.parent)
            for kept in sorted(folder.glob(f"{name}-[0-9][0-9]/run.json"))}


def markdown(table: pd.DataFrame) -> str:
    """Return a table as a page shows it."""
    rows = [list(table.columns), ["---"] * len(table.columns),
            *[[str(v) for v in row] for row in table.itertuples(index=False)]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def machine() -> str:
    """Say what this machine is."""
    return f"{os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}"


def publish(page: Path, title: str, intro: str, picture: Picture, text: str, builds: int,
            *sections: list[str]) -> None:
    """Write `page`.md and `page`.png, and print the table `text`.

    Parameters
    ----------
    builds : of how many builds of the images the trials are; more than one is warned of.
    sections : lines of each.
    """
    warning = [f"**Trials of {builds} builds of the images stand together here.**", ""]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.with_suffix(".png").write_bytes(picture.png())
    page.with_suffix(".md").write_text("\n".join([
        f"# {title}", "", intro, "", *(warning if builds > 1 else []),
        f"![{picture.alt}]({page.name}.png)", "", text, "",
        *[line for section in sections for line in section]]))
    print(text)
    print(f"{page}.md written" + (
        f"; of {builds} builds of the images, delete the older trials" if builds > 1 else ""))
