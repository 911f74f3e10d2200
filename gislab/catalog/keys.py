"""Where a catalog lives in Consul, and the one line that says which is current.

That line is `<number> <hash> <parts>`, and behind them errands: what every map server is to do
to its tiles, once, e.g. `forget/gis:places=1732341234567`. One key, so that one blocking query
waits for all of it, and so that a shell can read it.
"""

from __future__ import annotations

import json

from .. import consul
from ..settings import Lab
from . import bundle
from .layers import Catalog, CatalogError

ROOT = "gislab/maps"
CURRENT = f"{ROOT}/current"
VERSIONS, PARTS, REPORTS = f"{ROOT}/versions/", f"{ROOT}/parts/", f"{ROOT}/reports/"


def current(lab: Lab) -> Catalog:
    """Return the catalog that is published now.

    Raises
    ------
    CatalogError : nothing is published yet, or parts of it are gone.
    ConsulError : Consul does not answer, or refuses.
    """
    with consul.of(lab) as store:
        entry = store.get(CURRENT)
        if entry is None:
            raise CatalogError("nothing is published yet; run: gislab up")
        _, digest, parts = version(entry)
        found = [store.get(f"{PARTS}{digest}/{i}") for i in range(int(parts))]
    if None in found:
        raise CatalogError(f"parts of version {entry.text} are gone; publish it again")
    return bundle.read(bundle.join([part.value for part in found]))


def version(entry: consul.Entry | None) -> list[str]:
    """Return number, hash and parts of the line; [] where nothing is published."""
    return entry.text.split()[:3] if entry else []


def errands(entry: consul.Entry | None) -> list[str]:
    """Return what the servers are to do to their tiles."""
    return entry.text.split()[3:] if entry else []


def line(words: list[object], asked: list[str]) -> bytes:
    """Return the line of a version (number, hash, parts) with its errands."""
    return (" ".join(map(str, [*words, *asked])) + "\n").encode()


def switch(store: consul.Consul, before: consul.Entry | None, words: list[object],
           *steps: dict) -> bool:
    """Make a version current, with the errands that there are; False if another came first.

    Parameters
    ----------
    before : what was current when the decision was taken.
    words : number, hash and parts of the version. steps : what must hold, or be done, as well.
    """
    entry = before
    while True:
        if store.commit(*steps, consul.written(CURRENT, line(words, errands(entry)),
                                               entry.index if entry else 0)):
            return True
        later = store.get(CURRENT)
        # a transaction of a client may have put an errand in between: that is no other version
        if not later or later.index == entry.index or version(later) != version(before):
            return False
        entry = later


def reports(store: consul.Consul) -> list[dict]:
    """Return what each map server says of itself, in the order of the Pis."""
    return sorted((json.loads(entry.value) for entry in store.list(REPORTS)),
                  key=lambda r: (r["node"], r["id"]))
