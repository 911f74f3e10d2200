"""A bar for what takes longer than a moment: in a terminal, in a notebook, or nowhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

MOMENT = 0.5  # seconds; what is over by then needs no bar


class Bar:
    """A bar that appears after a moment; in `with`, so that it also goes when something breaks.

    Parameters
    ----------
    told : called with (done, total) instead of drawing anything; False: silence.
    unit : what is counted.
    """

    def __init__(self, title: str, told: Callable[[int, int], None] | bool | None = None, *,
                 unit: str = "rows"):
        self.title, self.told, self.unit = title, told, unit
        self._start = time.monotonic()
        self._bar = self._task = None

    def __enter__(self) -> Bar:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Say how far it is."""
        if callable(self.told):
            self.told(done, total)
        elif self.told is not False and time.monotonic() - self._start > MOMENT:
            self._draw(done, max(total, 1))

    def __exit__(self, *_) -> None:
        if self._task is not None:
            self._bar.stop()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = _notebook(total) or _terminal(self.unit)
            if self._bar and hasattr(self._bar, "add_task"):
                self._task = self._bar.add_task(self.title, total=total)
                self._bar.start()
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif self._bar:
            self._bar.progress = done


def _notebook(total: int):
    """Return IPython's own bar where a kernel shows it; rich's would need ipywidgets."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import ProgressBar

    bar = ProgressBar(total)
    bar.display()
    return bar


def _terminal(unit: str):
    if not sys.stderr.isatty():
        return False
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn("{task.description}"), BarColumn(),
                    TextColumn("{task.completed:,.0f} of {task.total:,.0f} " + unit),
                    TimeRemainingColumn(), console=Console(stderr=True), transient=True)
