"""Maps and features through the VIP: WMS 1.3.0 and WFS 2.0.0, whichever map server answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

import geopandas
import numpy
from matplotlib import image as images
from owslib.util import ServiceException
from owslib.wfs import WebFeatureService
from owslib.wms import WebMapService

from .catalog import WORLD
from .settings import Lab

SEA = "#dcebf2"


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
    OwsError : the server answered something else than a map.
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
    OwsError : the server refused; its words are in the text.
    """
    # OWSLib turns this one around: WFS 2.0 wants latitude first (OGC 09-025, 7.9.2.4.1)
    box = None if bbox is None else (*bbox, "urn:ogc:def:crs:EPSG::4326")
    with _Refusals(lab):
        answer = wfs(lab, timeout=timeout).getfeature(
            typename=[layer], bbox=box, maxfeatures=limit, outputFormat="application/json")
        text = answer.read()
    try:
        features = json.loads(text)["features"]
    except (ValueError, KeyError, TypeError):
        raise OwsError(f"{url(lab)} sent no GeoJSON for layer {layer}: {_words(text)}") from None
    if not features:
        return geopandas.GeoDataFrame(geometry=[], crs="EPSG:4326")
    return geopandas.GeoDataFrame.from_features(features, crs="EPSG:4326")


class _Refusals:
    """Turn what a map server says against a question into an OwsError that names the lab's."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, ServiceException):
            where = f"{self.lab.serves} at {url(self.lab)}"
            raise OwsError(f"{where}: {_words(str(error))}") from error
        return False


def _words(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    said = re.findall(r"<(?:\w+:)?(?:ExceptionText|ServiceException)\b[^>]*>([^<]+)", text)
    return " ".join(" ".join(said or [text]).split())[:300]
