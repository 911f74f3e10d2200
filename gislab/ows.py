"""Maps and features through the VIP: WMS 1.3.0 and WFS 2.0.0, whichever map server answers.

GeoServer also gives tiles (WMTS 1.0.0) and takes changes (WFS-T 2.0).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence

import geopandas
import httpx
import numpy
import requests
from matplotlib import image as images
from owslib.util import ServiceException
from owslib.wfs import WebFeatureService
from owslib.wms import WebMapService

from . import catalog, transaction
from .catalog import WORLD, Running
from .settings import Lab
from .transaction import Changed

SEA = "#dcebf2"
# What GeoServer says when it lost the database in the middle: perhaps after the commit.
LOST = re.compile(r"commit|connection|I/O error|timed? ?out|terminat|transaction failed", re.I)


class OwsError(RuntimeError):
    """The map server refused; the text holds what it said."""


def url(lab: Lab) -> str:
    """Return the address that WMS and WFS questions are sent to."""
    return f"{lab.maps_url}/ows"


def wms(lab: Lab, *, timeout: float = 30) -> WebMapService:
    """Return OWSLib's client of the Web Map Service, its capabilities read."""
    return WebMapService(url(lab), version="1.3.0", timeout=timeout)


def wfs(lab: Lab, *, timeout: float = 30) -> WebFeatureService:
    """Return OWSLib's client of the Web Feature Service, its capabilities read."""
    return WebFeatureService(url(lab), version="2.0.0", timeout=timeout)


def get_map(lab: Lab, layers: str | Sequence[str], *, bbox=WORLD, size=(800, 400),
            crs: str = "CRS:84", sea: str | None = SEA, timeout: float = 30) -> numpy.ndarray:
    """Return a map as an array for `matplotlib.imshow` (rows, columns, RGB or RGBA; 0 to 1).

    Parameters
    ----------
    layers : one name or several, the lowest first.
    bbox : west, south, east, north in units of `crs`.
    size : width, height in pixels.
    crs : `CRS:84` is longitude, latitude in degrees; `EPSG:3857` metres of Web Mercator.
    sea : colour behind the layers; None leaves it transparent.
    timeout : float, seconds.

    Raises
    ------
    OwsError : the server answered something else than a map, or does not answer.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    with _Refusals(lab):
        answer = wms(lab, timeout=timeout).getmap(
            layers=names, styles=[""] * len(names), srs=crs, bbox=tuple(bbox), size=tuple(size),
            format="image/png", transparent=sea is None, bgcolor=sea or "#ffffff",
            timeout=timeout)
    return images.imread(io.BytesIO(answer.read()), format="png")


def get_features(lab: Lab, layer: str, *, bbox=None, limit: int | None = None,
                 timeout: float = 30) -> geopandas.GeoDataFrame:
    """Return features of a layer as a GeoDataFrame in EPSG:4326, read as GeoJSON.

    Parameters
    ----------
    layer : its name in the catalog.
    bbox : west, south, east, north in degrees; None asks for all.
    limit : int, at most so many features.
    timeout : float, seconds.

    Raises
    ------
    OwsError : the server refused, its words are in the text; or it does not answer.
    """
    # OWSLib turns this one around: WFS 2.0 wants latitude first (OGC 09-025, 7.9.2.4.1)
    box = None if bbox is None else (*bbox, "urn:ogc:def:crs:EPSG::4326")
    with _Refusals(lab):
        answer = wfs(lab, timeout=timeout).getfeature(
            typename=[layer], bbox=box, maxfeatures=limit, outputFormat="application/json")
        text = answer.read()
    try:
        found = json.loads(text)
        features = found["features"]
    except (ValueError, KeyError, TypeError):
        raise OwsError(f"{url(lab)} sent no GeoJSON for layer {layer}: {_words(text)}") from None
    if not features:
        return geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326")
    # GeoServer answers in the layer's own system, x first, and names it; no name is RFC 7946's
    crs = ((found.get("crs") or {}).get("properties") or {}).get("name", "EPSG:4326")
    return geopandas.GeoDataFrame.from_features(features, crs=crs).to_crs("EPSG:4326")


def get_tile(lab: Lab, layer: str, zoom: int, column: int, row: int, *,
             timeout: float = 30) -> numpy.ndarray:
    """Return a tile of Web Mercator as an array: 256 rows, 256 columns, RGB or RGBA, 0 to 1.

    Parameters
    ----------
    layer : its name in the catalog; it must be tiled.
    zoom, column, row : as web maps number them; 0, 0, 0 is the world.
    timeout : float, seconds.

    Raises
    ------
    OwsError : the server answered something else than a tile, or does not answer.
    """
    question = {"service": "WMTS", "version": "1.0.0", "request": "GetTile", "layer": layer,
                "style": "", "format": "image/png", "tilematrixset": "EPSG:900913",
                "tilematrix": f"EPSG:900913:{zoom}", "tilecol": column, "tilerow": row}
    where = f"{lab.maps_url}/wmts"
    try:
        answer = httpx.get(where, params=question, timeout=timeout)
    except httpx.TransportError as error:
        raise OwsError(f"{where} does not answer ({error}); see: gislab status") from None
    if answer.headers.get("content-type") != "image/png":
        raise OwsError(f"{lab.serves} at {where}, {answer.status_code}: {_words(answer.content)}")
    return images.imread(io.BytesIO(answer.content), format="png")


def transact(lab: Lab, layer: str, *, insert: geopandas.GeoDataFrame | None = None,
             update: Mapping[object, Mapping[str, object]] | None = None,
             delete: Sequence[object] = (), password: str | None = None,
             running: Running | None = None, timeout: float = 30) -> Changed:
    """Change features of a writable layer, all of it or nothing; return what was changed.

    When this returns, every map server that can reach Consul shows the new state, in maps,
    features and tiles; one that cannot forgets its tiles when it can.

    Parameters
    ----------
    layer : its name in the catalog; it must be writable.
    insert : new features, in any CRS; without keys, which come back in `keys`. Columns that are
        left out will be empty.
    update : key -> the columns to change and their values, e.g. {7: {"name": "Bonn"}}; a shape
        is in the layer's own system.
    delete : keys of features.
    password : of the user `editor`; by default the lab's own.
    running : see `catalog.publish`; with it, a server that cannot reach Consul is an error.
    timeout : float, seconds.

    Raises
    ------
    OwsError : it was refused, and nothing was changed; or no answer came, and then the text says
        whether it may have happened. It is never sent twice: neither by this nor by HAProxy.
    CatalogError, ConsulError : the catalog cannot be read, or has no such layer.
    """
    if lab.serves != "geoserver":
        raise OwsError(f"{lab.serves} takes no transactions; say map_server = \"geoserver\" in "
                       "lab.toml, then gislab up")
    cat = catalog.current(lab)
    chosen = cat.layer(layer)
    if not chosen.writable:
        raise OwsError(f"layer {layer} is not writable; publish it with writable=True")
    try:
        asked = transaction.body(chosen, cat.workspace, insert=insert, update=update,
                                 delete=delete)
    except ValueError as error:
        raise OwsError(f"layer {layer}, nothing was sent: {error}") from None
    try:
        answer = httpx.post(url(lab), content=asked.encode(), timeout=timeout, headers={
            "Content-Type": "text/xml"}, auth=("editor", password or lab.secret(
                "editor_password")))
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise OwsError(f"{url(lab)} does not answer ({error}), nothing was sent; see: gislab "
                       "status") from None
    except httpx.TransportError as error:
        raise _unknown(lab, layer, str(error) or type(error).__name__) from None
    changed = transaction.answer(answer.content)
    if changed is None:
        raise _refused(lab, layer, answer)
    if chosen.tiled:
        try:
            catalog.refresh(lab, layer, running=running, say=lambda text: None)
        except (catalog.CatalogError, RuntimeError) as error:
            raise OwsError(f"layer {layer} was changed ({changed}), but tiles may be old: "
                           f"{error}. Next: gislab refresh {layer}") from None
    return changed


def _unknown(lab: Lab, layer: str, said: str) -> OwsError:
    return OwsError(f"layer {layer}: the transaction was sent to {url(lab)}, and no clear answer "
                    f"came ({said}): it may have happened. Look at the features before sending it "
                    "again")


def _refused(lab: Lab, layer: str, answer: httpx.Response) -> OwsError:
    if answer.status_code in (401, 403):
        return OwsError(f"{lab.serves} at {url(lab)} lets the user editor not write ("
                        f"{answer.status_code}): the password is another one, or layer {layer} "
                        "is not writable there yet; see: gislab catalog")
    if answer.status_code == 503:
        return OwsError(f"no map server was there to take it, layer {layer} is as before; see: "
                        "gislab status")
    if answer.status_code in (502, 504):  # HAProxy's own words: it has lost the server
        return _unknown(lab, layer, f"HAProxy says {answer.status_code}")
    said = _words(answer.content)
    if LOST.search(said):
        return _unknown(lab, layer, said)
    return OwsError(f"{lab.serves} at {url(lab)} refuses, layer {layer} is as before: {said}")


class _Refusals:
    """Turn what a map server says against a question into an OwsError that names the lab's."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        where = f"{self.lab.serves} at {url(self.lab)}"
        if isinstance(error, ServiceException):
            raise OwsError(f"{where}: {_words(str(error))}") from error
        if isinstance(error, requests.RequestException):
            answer = error.response
            if answer is not None and answer.status_code not in (502, 503, 504):  # HAProxy's
                raise OwsError(f"{where}, {answer.status_code}: {_words(answer.text)}") from None
            raise OwsError(f"{url(self.lab)} does not answer ({error}); see: gislab "
                           "status") from None
        return False


def _words(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    said = re.findall(r"<(?:\w+:)?(?:ExceptionText|ServiceException)\b[^>]*>([^<]+)", text)
    return " ".join(" ".join(said or [text]).split())[:300]
