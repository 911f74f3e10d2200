"""The image of MapServer keeps what it promises."""

from __future__ import annotations

import httpx
import pytest

from gislab import catalog
from gislab.catalog import bundle
from gislab.wait import NotYet, until

from . import serving as helper

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(serving):
    return serving.map_server("mapserver")


@pytest.fixture
def url(serving, server):
    return serving.healthy(server)


def test_prints_its_version(run):
    """MapServer 8.4 is there, for this architecture."""
    assert "8.4" in run("mapserver", "mapserv", "-v")[1]


def test_another_command_runs(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("mapserver", "bash", "-c", "id -un") == (0, "www-data\n")


def test_names_the_variable_that_is_missing(names_what_is_missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("mapserver", missing="VIP")


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("mapserver") == []


def test_answers_with_its_catalog(serving, url):
    """GET /catalog is the hash of the version that it serves."""
    made = bundle.render(catalog.default(), serving.lab)
    assert httpx.get(f"{url}/catalog").text == bundle.digest(made)[:12]


def test_draws_what_is_in_the_database(url):
    """A map is a whole PNG; a feature comes as GeoJSON, longitude first."""
    assert helper.is_png(helper.picture(url, "countries"))
    assert helper.features(url, "countries").json()["features"][0]["properties"]["name"] == "Box"
    assert helper.picture(url, "alive").headers["X-Served-By"] == "pi7"


def test_a_missing_table_leaves_the_others_alone(url):
    """Before the data is loaded, `alive` and the capabilities are served."""
    assert not helper.is_png(helper.picture(url, "places"))
    assert helper.is_png(helper.picture(url, "alive"))
    answer = httpx.get(f"{url}/ows", params={"service": "WMS", "request": "GetCapabilities"})
    assert "<Name>places</Name>" in answer.text


@pytest.mark.parametrize("mapfile", ["/etc/passwd", "/tmp/other.map", "gis"])
def test_a_request_cannot_name_a_mapfile(url, mapfile):
    """The catalog decides what is served, not the client."""
    answer = httpx.get(f"{url}/ows", params={
        "map": mapfile, "service": "WMS", "request": "GetCapabilities"})
    assert "<Name>alive</Name>" not in answer.text


def test_nothing_else_is_served(url):
    """Neither the configuration nor any folder can be read."""
    for path in ("/", "/gis.map", "/../pg_service.conf", "/%2e%2e/pg_service.conf", "/www/"):
        assert httpx.get(url + path).status_code in (400, 403, 404)


def test_health_follows_the_database(serving, url):
    """Without the database /health turns 503 within seconds, and 200 again by itself."""
    serving.database.pause()
    try:
        until(lambda: _is(url, 503), what="503", timeout=20)
    finally:
        serving.database.unpause()
    until(lambda: _is(url, 200), what="200", timeout=20)


def test_goes_without_losing_a_request(serving):
    """SIGTERM: first /health says 503, maps are served on for a while, then it ends with 0."""
    helper.drains(serving, serving.map_server("mapserver", "going"))


def test_needs_no_disk(url):
    """As in the stack nothing can be written but in memory, and a large map is drawn even so."""
    large = helper.WMS | {"layers": "countries", "width": "2000", "height": "1000"}
    assert helper.is_png(httpx.get(f"{url}/ows", params=large, timeout=20))


def _is(url: str, code: int) -> None:
    found = helper.health(url)
    if found != code:
        raise NotYet(f"{found}")
