"""Tiles of maps, which each GeoServer keeps for itself: empty them everywhere, or draw them ahead.

A new style or catalog empties what it must by itself. What only the database knows of, a table
loaded anew, is told here; `ows.transact` does it by itself.
"""

from __future__ import annotations

import math
import time

from .. import consul
from ..progress import Bar
from ..settings import Lab
from ..wait import NotYet, WaitTimeout, until
from . import keys
from .geoserver import EXPIRE
from .layers import Catalog, CatalogError, Layer
from .servers import Running, silent

GRID = "EPSG:900913"  # Web Mercator; tiles of the other grid are drawn when they are asked for
EDGE = 85.05113  # degrees of latitude at which that grid ends
DEEPEST = 20
# Tiles of one call: each takes 4 to 16 kB of the 96 MiB that a server keeps, and more would only
# push out what was drawn before.
MOST = 6000


def refresh(lab: Lab, *names: str, running: Running | None = None, say=print,
            timeout: float = 30) -> None:
    """Have every map server forget its tiles of these layers: their data has changed.

    Parameters
    ----------
    names : of tiled layers; none means all that are tiled.
    running : see `catalog.publish`.
    timeout : float, seconds until every server has done so.

    Raises
    ------
    CatalogError : a layer is not tiled, a server is late, or runs and does not report: it cannot
        reach Consul, serves what it had, and forgets it when it can.
    ConsulError : Consul does not answer, or refuses.
    """
    cat = keys.current(lab)
    tiled = [layer.name for layer in cat.layers if layer.tiled]
    for name in names:
        _tiled(cat.layer(name))
    chosen = list(dict.fromkeys(names)) or tiled
    if not chosen:
        say("no layer is tiled, so nothing was to be forgotten")
        return
    asked = _ask(lab, cat, [f"forget/{cat.workspace}:{name}" for name in chosen])
    _done(lab, asked, f"tiles of {', '.join(chosen)} forgotten", timeout, running)
    say(f"tiles of {', '.join(chosen)}: forgotten by every map server")


def seed(lab: Lab, name: str, zooms: tuple[int, int] = (0, 5), *,
         running: Running | None = None, say=print, told=None, timeout: float = 1800) -> int:
    """Have every map server draw tiles of a layer ahead; return how many each has looked at.

    Those that are there already are not drawn again. A server that comes later draws them, too;
    a new style or new data empties them all.

    Parameters
    ----------
    zooms : the first and the last, of Web Mercator; 0 is one tile for the world.
    running : see `catalog.publish`.
    told : called with (done, total) of all servers together; by default a bar is drawn.
    timeout : float, seconds for all servers together.

    Raises
    ------
    CatalogError : the layer is not tiled, the zooms are wrong or too many, or a server is late
        or runs and does not report.
    ConsulError : Consul does not answer, or refuses.
    """
    cat = keys.current(lab)
    layer = cat.layer(name)
    _tiled(layer)
    first, last = zooms
    if not 0 <= first <= last <= DEEPEST:
        raise CatalogError(f"zooms {zooms}: say (first, last) between 0 and {DEEPEST}, "
                           "e.g. (0, 5)")
    total = tiles(layer, zooms)
    if total > MOST:
        raise CatalogError(f"zooms {first} to {last} of {name} are {total:,} tiles, and {MOST:,} "
                           f"fit a server; say fewer, e.g. ({first}, {_deepest(layer, first)})")
    asked = _ask(lab, cat, [f"seed/{cat.workspace}:{name}/{first}/{last}"])
    with Bar(f"tiles of {name}", told, unit="tiles") as bar:
        servers = _done(lab, asked, f"tiles of {name}", timeout, running, lambda found: bar(
            sum(_drawn(r, asked[0], total) for r in found), total * max(1, len(found))))
    say(f"tiles of {name}: zooms {first} to {last}, {total:,} at each of {servers} map servers")
    if layer.writable:
        say(f"{name} is writable: who asks {EXPIRE} s later gets a tile drawn anew")
    return total


def tiles(layer: Layer, zooms: tuple[int, int]) -> int:
    """Return how many tiles of Web Mercator a layer's extent touches, all zooms together."""
    west, south, east, north = layer.extent
    count = 0
    for zoom in range(zooms[0], zooms[1] + 1):
        side = 2 ** zoom
        left, right = (_clamp((edge + 180) / 360 * side, side) for edge in (west, east))
        top, bottom = (_clamp(_down(edge) * side, side) for edge in (north, south))
        count += (right - left + 1) * (bottom - top + 1)
    return count


def _down(latitude: float) -> float:
    """Return how far down the map a latitude is: 0 at its upper edge, 1 at the lower one."""
    angle = math.radians(max(-EDGE, min(EDGE, latitude)))
    return (1 - math.asinh(math.tan(angle)) / math.pi) / 2


def _clamp(place: float, side: int) -> int:
    return max(0, min(side - 1, math.floor(place)))


def _deepest(layer: Layer, first: int) -> int:
    return max([first, *(last for last in range(first, DEEPEST + 1)
                         if tiles(layer, (first, last)) <= MOST)])


def _tiled(layer: Layer) -> None:
    if not layer.tiled:
        raise CatalogError(f"layer {layer.name} is not tiled, so nothing is kept of it; publish "
                           "it with tiled=True")


def _ask(lab: Lab, cat: Catalog, errands: list[str]) -> list[str]:
    """Put errands behind the current version, each with a number that none had before."""
    number = time.time_ns() // 1000
    asked = [f"{errand}={number}" for errand in errands]
    known = {f"{cat.workspace}:{layer.name}" for layer in cat.layers if layer.tiled}

    def stays(word: str) -> bool:
        errand = word.partition("=")[0]
        return errand not in errands and errand.split("/")[1] in known
    with consul.of(lab) as store:
        for _ in range(20):  # others do the same, and Consul takes one at a time
            entry = store.get(keys.CURRENT)
            line = keys.line(keys.version(entry), [*filter(stays, keys.errands(entry)), *asked])
            if store.commit(consul.written(keys.CURRENT, line, entry.index)):
                return asked
    raise CatalogError("Consul is busy with the errands of others; try again")


def _done(lab: Lab, asked: list[str], what: str, timeout: float, running: Running | None,
          look=lambda found: None) -> int:
    """Wait until every server that reports, or runs, has done its errands; return how many."""
    def ask() -> int:
        with consul.of(lab) as store:
            found = keys.reports(store)
        look(found)
        late = [f"{r['node']} {r['server']} {r['id']}" for r in found
                if not set(asked) <= set(r.get("done", "").split())]
        if late:
            raise NotYet(f"not yet at {', '.join(late)}")
        names = silent(found, running()) if running else []
        if names:
            raise NotYet(", ".join(f"{node} {name} runs, and does not report"
                                   for node, name in names))
        return len(found)
    try:
        return until(ask, what=what, timeout=timeout, every=0.1)
    except WaitTimeout as error:
        raise CatalogError(f"{error}; see: gislab catalog, then try again") from None


def _drawn(report: dict, errand: str, total: int) -> int:
    """Return how many tiles a server says it has drawn of an errand."""
    if errand in report.get("done", "").split():
        return total
    word, _, numbers = report.get("doing", "").partition(" ")
    return min(total, int(numbers.partition(" ")[0] or 0)) if word == errand else 0
