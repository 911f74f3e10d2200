"""The one home of waiting: ask again until something is so, or say why it is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
AGAIN = 30.0  # seconds until a reason for waiting is told once more


class NotYet(Exception):
    """Raised by a question whose answer may change: ask again."""


class WaitTimeout(TimeoutError):
    """Something did not come to be in time; the text says what was still missing."""


def until(ask: Callable[[], T], *, what: str, timeout: float, every: float = 0.5,
          progress: Callable[[str], None] | None = None) -> T:
    """Call `ask` until it no longer raises NotYet, and return what it returned.

    Any other error passes straight through: a typing error must not wait for a minute.

    Parameters
    ----------
    ask : a function without arguments.
    what : the thing waited for, as it reads in "waiting for ...".
    timeout, every : float, seconds; the whole wait, and the pause between two questions.
    progress : told each reason for waiting as it comes, and not again before AGAIN seconds, also
        where several take turns, as while a task ends again and again.

    Raises
    ------
    WaitTimeout : names `what`, the seconds and the last reason.
    """
    end = time.monotonic() + timeout
    told: dict[str, float] = {}  # reason: when
    while True:
        try:
            return ask()
        except NotYet as reason:
            now = time.monotonic()
            if progress and now - told.get(str(reason), -AGAIN) >= AGAIN:
                told[str(reason)] = now
                progress(f"waiting for {what}: {reason}")
            if now + every > end:
                raise WaitTimeout(f"{what}: not there after {timeout:g} s ({reason})") from None
        time.sleep(every)


def rescued(ask: Callable[[], T], rescue: Callable[[], object], *, patience: float,
            timeout: float, **how) -> T:
    """Wait as `until` does; call `rescue` once if `patience` seconds did not do.

    With a `timeout` no longer than that it is left to the caller.
    """
    try:
        return until(ask, timeout=min(timeout, patience), **how)
    except WaitTimeout:
        if timeout <= patience:
            raise
    rescue()
    return until(ask, timeout=timeout - patience, **how)


def patiently(ask: Callable[[], T], *errors: type[Exception]) -> T:
    """Call `ask`, and have some errors mean NotYet; their last line tells why."""
    try:
        return ask()
    except errors as error:
        raise NotYet(str(error).strip().splitlines()[-1][-200:]) from None
