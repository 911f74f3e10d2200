"""What each map server holds of the catalog: told, and waited for.

A server reports to Consul by itself. One that cannot is only known to whoever knows the Pis; he
gives us the servers that run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pandas as pd

from .. import consul
from ..settings import Lab
from ..wait import NotYet, WaitTimeout, until
from . import keys
from .layers import CatalogError

Running = Callable[[], Iterable[tuple[str, str]]]  # (Pi, id) of the map servers that run
COLUMNS = ["server", "node", "version", "hash", "age [s]", "state"]
# Seconds after which a map server that runs should have reported; a session of an agent that
# cannot reach Consul lasts no longer.
HEARD = 20


def status(lab: Lab, running: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """Return what each map server reports to hold: one row for each that reports.

    Columns: server, node, version (int, or "-" for none yet), hash (12 of its 64 digits),
    `age [s]` (for how long it has held that), state: `current`, or what else is so: `stale`,
    `loads ...`, `refuses ...`. A server that has gone is not listed any more. One that cannot
    reach Consul for 20 seconds still serves what it had; it is listed as `silent`, without a
    version, if it is among `running`: (Pi, id) of those that run, see `publish`.

    Raises ConsulError.
    """
    with consul.of(lab) as store:
        entry, found = store.get(keys.CURRENT), keys.reports(store)
    wanted = keys.version(entry)[0] if entry else "-"
    rows = [[f"{r['server']} {r['id']}", r["node"], r["version"] or "-", (r["hash"] or "-")[:12],
             round(max(0.0, time.time() - r["since"])), _state(r, wanted)] for r in found]
    rows += [[f"{lab.serves} {name}", node, "-", "-", "-", "silent: it runs, and does not report"]
             for node, name in silent(found, running)]
    return pd.DataFrame(rows, columns=COLUMNS)


def held(lab: Lab, number: int, say, timeout: float, running: Running | None = None) -> None:
    """Wait until every server that reports, or runs, holds a version; say of each when it does.

    Parameters
    ----------
    timeout : float, seconds for all of them. running : see `catalog.publish`.

    Raises
    ------
    CatalogError : one refuses it, is late, or does not report.
    """
    begin, told, looked = time.monotonic(), set(), -1.0

    def ask() -> None:
        with consul.of(lab) as store:
            found = keys.reports(store)
        for r in found:
            name = f"{r['node']}: {r['server']} {r['id']}"
            if r["state"] == "refuses" and r["wanted"] == number:
                raise CatalogError(f"{name} refuses version {number}, and serves "
                                   f"{r['version'] or 'nothing'}: {r['said']}. Next: gislab "
                                   "rollback, or publish a better one")
            if r["version"] == number and r["state"] == "holds" and name not in told:
                told.add(name)
                say(f"{name} holds version {number} after {time.monotonic() - begin:.1f} s")
        late = [f"{r['node']} {r['server']} {r['id']} {_state(r, str(number))}" for r in found
                if (r["version"], r["state"]) != (number, "holds")]
        if late:
            raise NotYet(", ".join(late))
        if running:
            heard(found)
        if not found:
            say("no map server reports yet; each holds this version before it serves")

    def heard(found: list[dict]) -> None:
        nonlocal looked
        now = time.monotonic()
        if 0 <= now - looked < 1:  # each look asks every Pi
            raise NotYet("not every map server that runs has reported")
        names = ", ".join(f"{node} {name}" for node, name in silent(found, running()))
        looked = now
        if names and now - begin > HEARD:
            raise CatalogError(f"version {number} is current, and {names} does not report: it "
                               "cannot reach Consul, and serves what it had until it can. Next: "
                               "gislab status")
        if names:
            raise NotYet(f"{names} runs, and does not report")
    try:
        until(ask, what=f"version {number} on every map server", timeout=timeout, every=0.1)
    except WaitTimeout as error:
        raise CatalogError(f"{error}; see: gislab catalog") from None


def silent(found: list[dict], running: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (Pi, id) of those map servers that run and do not report."""
    heard = {(r["node"], r["id"]) for r in found}
    return [one for one in running if one not in heard]


def _state(report: dict, wanted: str) -> str:
    if report["state"] == "holds":
        return "current" if str(report["version"]) == wanted else f"stale: {wanted} is current"
    return f"{report['state']} {report['wanted']}" + (f": {report['said']}" if report["said"]
                                                      else "")
