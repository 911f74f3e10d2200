"""What the map servers publish, while they run: publish, watch it arrive, take it back.

A version is a bundle in Consul's key-value store, compressed, under its hash, and never changed.
One key says which version is `current`; only that key changes, and only by check-and-set. An
agent beside each map server waits for it, has its server hold exactly that version, and reports.
"""

from __future__ import annotations

import json
import time

import pandas as pd

from .. import consul
from ..settings import Lab
from ..wait import NotYet, until
from . import bundle, keys, layers, mapserver, servers, tables
from .keys import CURRENT, PARTS, REPORTS, ROOT, VERSIONS, current
from .layers import ALIVE, WORLD, Catalog, CatalogError, Layer, Rule, Style, default
from .servers import Running, status
from .tiles import refresh, seed
from .yamlfile import read

__all__ = ["CURRENT", "PARTS", "REPORTS", "VERSIONS", "WORLD", "Catalog", "CatalogError",
           "Layer", "Rule", "Running", "Style", "allow", "current", "default", "mapfile",
           "publish", "put", "read", "refresh", "rollback", "seed", "status", "validate",
           "versions"]

KEEP = 10  # versions that can be rolled back to
# The agents' sessions hang on a node of their own, so that their token has no power over those
# of the database.
NODE = "gislab-maps"
RULES = f"""\
key_prefix "{ROOT}/" {{ policy = "read" }}
key_prefix "{REPORTS}" {{ policy = "write" }}
key "{ROOT}/reload" {{ policy = "write" }}
session "{NODE}" {{ policy = "write" }}
"""


def validate(catalog: Catalog, lab: Lab | None = None) -> None:
    """Raise CatalogError if a catalog cannot be published; a line for all that is wrong.

    Parameters
    ----------
    lab : compare it with this lab's map server and with the tables of its database, too.

    Raises
    ------
    CatalogError : all that is wrong, with the remedies; or the database does not answer.
    """
    layers.validate(catalog, lab.serves if lab else "")
    if lab:
        layers.fail(tables.problems(catalog, lab))


def mapfile(lab: Lab) -> str:
    """Return what a MapServer reads that publishes `alive` alone, without Consul or an agent."""
    base = default()
    alive = base.layer(ALIVE)
    return mapserver.files(Catalog(layers=(alive,), styles=(base.style(alive.style),)),
                           lab)["gis.map"]


def publish(lab: Lab, catalog: Catalog, *, running: Running | None = None, say=print,
            timeout: float = 180) -> int:
    """Have every map server serve `catalog`; return the number of its version.

    Nothing is touched unless it is valid, for this lab's map server and tables. Returns when
    every server that reports holds it.

    Parameters
    ----------
    running : tells which map servers run, as (Pi, id): `lambda: stack.running(lab, "mapserver")`.
        One of them that does not report for 20 seconds is late, too: it cannot reach Consul.
    timeout : float, seconds for all of them together; GeoServers reload one by one.

    Raises
    ------
    CatalogError : it is not valid, and nothing was touched; or a server refuses it, or is late:
        that one serves the old one on.
    ConsulError : Consul does not answer, or refuses.
    """
    validate(catalog, lab)
    number = put(lab, catalog, say=say)
    servers.held(lab, number, say, timeout, running)
    return number


def put(lab: Lab, catalog: Catalog, *, say=print) -> int:
    """Make a catalog current, without asking the database and without waiting.

    Returns the number of its version: a new one, or that of the current one if it is the same.

    Raises
    ------
    CatalogError : it is not valid by itself or for this lab's map server, it is too large, or
        somebody else published at the same moment. Nothing is current that was not before.
    ConsulError : Consul does not answer, or refuses.
    """
    made = bundle.render(catalog, lab)
    digest, parts = bundle.digest(made), bundle.split(made, consul.LARGEST)
    with consul.of(lab) as store:
        entry, known = store.get(CURRENT), _versions(store)
        if entry and keys.version(entry)[1] == digest:
            number = int(keys.version(entry)[0])
            say(f"version {number}: is current already, nothing was changed")
            return number
        number = max([0, *known]) + 1
        kept = [f"{PARTS}{digest}/{i}" for i in range(len(parts))]
        for key, part in zip(kept, parts, strict=True):
            store.put(key, part)  # under its hash: whoever else writes it writes the same
        about = {"number": number, "hash": digest, "parts": len(parts), "published": time.time(),
                 "title": catalog.title, "layers": [layer.name for layer in catalog.layers]}
        if not keys.switch(
                store, entry, [number, digest, len(parts)], *map(consul.there, kept),
                consul.written(_key(number), json.dumps(about).encode(), 0)):
            raise CatalogError("somebody else published at the same moment; see: gislab catalog, "
                               "then publish again")
        say(f"version {number}: published, {len(catalog.layers)} layers, "
            f"{sum(map(len, parts)) / 1000:.1f} kB")
        _forget(store, known | {number: about}, number)
    return number


def rollback(lab: Lab, version: int, *, running: Running | None = None, say=print,
             timeout: float = 180) -> int:
    """Have every map server serve an earlier version again; return its number.

    Parameters
    ----------
    version : int, one of those that `versions` lists.
    running : see `publish`.
    timeout : float, seconds for all servers together.

    Raises
    ------
    CatalogError : there is no such version, somebody else published at the same moment, or a
        server refuses it or is late.
    ConsulError : Consul does not answer, or refuses.
    """
    with consul.of(lab) as store:
        entry, known = store.get(CURRENT), _versions(store)
        if version not in known:
            raise CatalogError(f"no version {version}; there are "
                               + (", ".join(map(str, sorted(known))) or "none"))
        words = [known[version][word] for word in ("number", "hash", "parts")]
        if not keys.switch(store, entry, words, consul.there(_key(version))):
            raise CatalogError("somebody else published at the same moment; see: gislab catalog")
    say(f"version {version}: is current again")
    servers.held(lab, version, say, timeout, running)
    return version


def versions(lab: Lab) -> pd.DataFrame:
    """Return one row for each version that is kept, the oldest first.

    Columns: version (int), hash (12 of its 64 digits), published (local time), title, layers
    (their names), current ("current" or ""). Raises ConsulError.
    """
    with consul.of(lab) as store:
        entry, known = store.get(CURRENT), _versions(store)
    number = int(keys.version(entry)[0]) if entry else None
    return pd.DataFrame([{
        "version": n, "hash": v["hash"][:12],
        "published": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(v["published"])),
        "title": v["title"], "layers": ", ".join(v["layers"]),
        "current": "current" if n == number else ""} for n, v in sorted(known.items())],
        columns=["version", "hash", "published", "title", "layers", "current"])


def allow(lab: Lab, *, say=print, timeout: float = 60) -> None:
    """Give the agents their token, and a new lab the default catalog; safe to repeat.

    Parameters
    ----------
    timeout : float, seconds until Consul must answer; WaitTimeout says what it said last.
    """
    def ask() -> None:
        try:
            with consul.of(lab) as store:
                store.ask("PUT", "catalog/register", json={"Node": NODE, "Address": lab.vip})
                if consul.allow(store, "gislab-maps", RULES, lab.secret("map_token")):
                    say("Consul: the map servers' token may read the catalog, and report")
                entry = store.get(CURRENT)
        except consul.ConsulError as error:
            raise NotYet(str(error)) from None
        if entry is None:  # its tables come later: notebook 03 loads them
            put(lab, default(), say=say)
    until(ask, what="Consul", timeout=timeout, every=1, progress=say)


def _versions(store: consul.Consul) -> dict[int, dict]:
    found = [json.loads(entry.value) for entry in store.list(VERSIONS)]
    return {about["number"]: about for about in found}


def _forget(store: consul.Consul, known: dict[int, dict], number: int) -> None:
    """Remove versions that are too old, and the parts that no version needs."""
    kept = set(sorted(known)[-KEEP:]) | {number}
    needed = {known[n]["hash"] for n in kept}
    for old in sorted(set(known) - kept):
        store.delete(_key(old))
    # a publisher whose parts vanish here before its version is written is told to try again
    for digest in {key.removeprefix(PARTS).split("/")[0] for key in store.keys(PARTS)} - needed:
        store.delete(f"{PARTS}{digest}/")


def _key(number: int) -> str:
    return f"{VERSIONS}{number:06d}"
