"""What other programs read of the published layers is what was loaded: GDAL and OWSLib.

They follow the addresses in the capabilities, through HAProxy, with each kind of map server. The
tables lie in three reference systems, none of them around 0, 0: an exchanged axis is seen.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import geopandas
import httpx
import numpy
import pyogrio
import pytest
import shapely
from owslib.ogcapi.features import Features

from gislab import catalog, loading, ows, wars
from gislab.catalog import Layer, bundle

from . import serving as helper

pytestmark = pytest.mark.live
EXTENT = (6.0, 47.0, 12.0, 55.0)
LAYERS = {"wells": "EPSG:25832", "roads": "EPSG:3857", "farms": "EPSG:4326"}


def loaded(name: str) -> geopandas.GeoDataFrame:
    """Return what is loaded as a table: forty rows in the south of Germany."""
    draw = numpy.random.default_rng(len(name))
    x, y = draw.uniform(7, 11, 40), draw.uniform(48, 50, 40)
    shapes = {"wells": shapely.points(x, y), "farms": shapely.box(x, y, x + 0.1, y + 0.05),
              "roads": shapely.linestrings(numpy.dstack([[x, x + 0.2], [y, y + 0.1]])
                                           .swapaxes(0, 1))}[name]
    return geopandas.GeoDataFrame({"id": range(1, 41), "name": [f"Ω {name} {i} & <x>"
                                                                for i in range(40)]},
                                  geometry=shapes, crs=4326).to_crs(LAYERS[name])


def published() -> catalog.Catalog:
    made = catalog.default()
    made = replace(made, layers=(made.layer("alive"),)).with_style(
        catalog.Style("ways", "line", (catalog.Rule("road", stroke="#c00000", width=3),)))
    styles = {"wells": "dots", "roads": "ways", "farms": "land"}
    for name, srs in LAYERS.items():
        made = made.with_layer(Layer(name, name, name.title(), styles[name], srs=srs,
                                     extent=EXTENT))
    return made


@pytest.fixture(scope="module", params=["mapserver", "geoserver"])
def here(request, the_engine, image, tmp_path_factory):
    """A lab whose VIP is a HAProxy before one map server of this kind."""
    if request.param == "geoserver" and wars.at_hand() is None:
        reason = "no GeoServer at hand: set GISLAB_GEOSERVER_WAR=/path/to/geoserver.war"
        if request.config.getoption("--need-geoserver"):
            pytest.fail(reason)
        pytest.skip(reason)
    serving = helper.Serving(the_engine, image, tmp_path_factory.mktemp("secrets"),
                             kind=request.param)
    try:
        for name in LAYERS:
            loading.load(serving.lab, loaded(name), name, progress=False, say=lambda text: None)
        lab = serving.behind("tasks.mapserver")
        catalog.allow(serving.lab, say=lambda text: None)
        catalog.put(lab, published(), say=lambda text: None)
        url = serving.healthy(serving.map_server(request.param, "tasks.mapserver",
                                                 publish=False))
        assert httpx.get(f"{url}/catalog").text == bundle.digest(
            bundle.render(published(), lab))[:12]
        helper.through(lab)
        yield lab
    finally:
        serving.close()


def services(lab) -> list[str]:
    """Return GDAL's names of the services by which features are read.

    Not WFS 1.1: MapServer writes EPSG:4326 there, latitude first, and GDAL reads longitude first.
    """
    ogc_api = [f"OAPIF:{ows.url(lab)}/catalog/ogcapi"] if lab.serves == "mapserver" else []
    return [f"WFS:{ows.url(lab)}?version=2.0.0", *ogc_api]


def read(service: str, name: str, **options) -> geopandas.GeoDataFrame:
    full, = [one for one in pyogrio.list_layers(service)[:, 0] if one.rpartition(":")[2] == name]
    return geopandas.read_file(service, layer=full, engine="pyogrio", **options)


def same(found: geopandas.GeoDataFrame, name: str) -> None:
    """Assert that all rows came, with their names, each at its place."""
    wanted = loaded(name).to_crs(4326).set_index("name").sort_index()
    assert found.crs is not None
    found = found.to_crs(4326).set_index("name").sort_index()
    assert list(found.index) == list(wanted.index)
    assert numpy.allclose(found.bounds, wanted.bounds, atol=2e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_gdal_and_owslib_read_every_row_where_it_was_loaded(here, name):
    for service in services(here):
        listed = {full.rpartition(":")[2] for full in pyogrio.list_layers(service)[:, 0]}
        assert listed == {"alive", *LAYERS}, service
        same(read(service, name), name)
    same(ows.get_features(here, name), name)


@pytest.mark.parametrize("name", LAYERS)
def test_gdal_and_owslib_read_what_lies_in_a_box(here, name):
    """The server chooses, whatever the order of the axes is in the question."""
    box = shapely.box(8, 48.5, 10, 49.5)
    wanted = loaded(name).to_crs(4326)
    wanted = set(wanted[wanted.intersects(box)]["name"])
    assert 0 < len(wanted) < 40
    for found in (ows.get_features(here, name, bbox=box.bounds),
                  *(read(service, name, bbox=geopandas.GeoSeries([box], crs=4326))
                    for service in services(here))):
        # a box is a larger one in another system, and a row may touch that alone
        assert wanted <= set(found["name"]) and len(found) <= len(wanted) + 3


@pytest.mark.parametrize("name", LAYERS)
def test_capabilities_tell_where_a_layer_is(here, name):
    """In degrees, whatever its own system is: as the catalog says, and around all of its rows."""
    rows = tuple(loaded(name).to_crs(4326).total_bounds)
    boxes = [ows.wms(here)[name].boundingBoxWGS84]
    boxes += [service.boundingBoxWGS84 for full, service in ows.wfs(here).contents.items()
              if full.rpartition(":")[2] == name]
    if here.serves == "mapserver":
        boxes.append(Features(f"{ows.url(here)}/catalog/ogcapi").collection(name)[
            "extent"]["spatial"]["bbox"][0])
    assert len(boxes) > 1
    for box in boxes:
        assert box[0] <= rows[0] and box[1] <= rows[1] and box[2] >= rows[2] and box[3] >= rows[3]
        # that of a box in metres, with its bent sides, is somewhat larger
        assert numpy.allclose(box, EXTENT, atol=0.8), box


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("crs, bbox", [
    ("CRS:84", (6.9, 47.9, 11.3, 50.2)), ("EPSG:3857", (768000, 6080000, 1258000, 6480000))])
def test_a_map_shows_the_rows_where_they_are_and_nothing_elsewhere(here, name, crs, bbox):
    sea = numpy.array([0xdc, 0xeb, 0xf2]) / 255

    def drawn(box) -> int:
        shown = ows.get_map(here, name, bbox=box, crs=crs, size=(220, 115))[..., :3]
        return int((abs(shown - sea).max(axis=2) > 0.02).sum())
    width = bbox[2] - bbox[0]
    assert drawn(bbox) > 200
    assert drawn((bbox[0] + 2 * width, bbox[1], bbox[2] + 2 * width, bbox[3])) == 0


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdalinfo_lists_the_layers_of_the_wms(here):
    done = subprocess.run(["gdalinfo", f"WMS:{ows.url(here)}?version=1.3.0"], text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in LAYERS:
        assert f"LAYERS={name}" in done.stdout or f":{name}&" in done.stdout
