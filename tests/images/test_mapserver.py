"""The image of MapServer keeps what it promises."""

from __future__ import annotations

import collections
import concurrent.futures
from dataclasses import replace

import geopandas
import httpx
import pyogrio
import pytest
from owslib.ogcapi.features import Features

from gislab import catalog, ows, settings
from gislab.catalog import bundle
from gislab.wait import NotYet, until

from . import serving as helper

pytestmark = pytest.mark.live
WMS = helper.WMS | {"layers": "countries"}
WFS = helper.WFS | {"typeNames": "countries", "typeName": "countries"}
API = "/ows/catalog/ogcapi"
MANY = """set role gis;
create table places as select number as id, 'place ' || number as name,
    number as population, ST_SetSRID(ST_MakePoint(number % 360 - 180, number % 170 - 85), 4326)
    ::geometry(Point, 4326) as geom from generate_series(1, 150000) number"""


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


def test_gdal_and_owslib_read_the_catalog(serving, monkeypatch):
    """WMS, WFS and OGC API Features, by clients that follow the links: what is loaded."""
    monkeypatch.setenv("GISLAB_HOME", str(serving.lab.home.parent))
    made = serving.map_server("mapserver", "gdal")
    vip = serving.address(made)
    here = replace(serving.lab, vip=vip, ports=replace(serving.lab.ports, maps=8080))
    try:
        catalog.put(here, catalog.default(), say=lambda text: None)
        until(lambda: _holds(here), what="the catalog with its own address", timeout=30)
        for name in (f"OAPIF:http://{vip}:8080{API}", f"WFS:http://{vip}:8080/ows?version=2.0.0"):
            layers = set(pyogrio.list_layers(name)[:, 0])
            assert {one.rpartition(":")[2] for one in layers} == {
                layer.name for layer in catalog.default().layers}
            countries = next(one for one in layers if one.endswith("countries"))
            read = geopandas.read_file(name, layer=countries, engine="pyogrio")
            assert list(read["name"]) == ["Box"]
            assert tuple(read.total_bounds) == (-20, -20, 20, 20)
        api = Features(f"http://{vip}:8080{API}")
        for layer in ("countries", "alive"):
            read = ows.get_features(here, layer)
            assert len(read) == len(api.collection_items(layer)["features"]) == 1
            assert ows.get_map(here, layer).shape[:2] == (400, 800)
    finally:
        serving.publish()
        made.remove(force=True, v=True)
        serving.containers.remove(made)


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


@pytest.mark.parametrize("question", [
    WMS, WMS | {"version": "1.1.1", "srs": "EPSG:4326"}, WMS | {"exceptions": "BLANK"},
    WMS | {"request": "GetFeatureInfo", "query_layers": "countries", "i": "100", "j": "50"},
    WFS, WFS | {"resultType": "hits"}, WFS | {"outputFormat": "text/xml; subtype=gml/3.2.1"},
    WFS | {"version": "1.1.0"}, WFS | {"version": "1.0.0"},
], ids=lambda question: " ".join(list(question.values())[:3]))
def test_a_session_that_breaks_is_told_by_503(serving, url, question):
    """Whatever is asked: HAProxy repeats a 503 at another server; OGC would have 200 or 400."""
    answer = helper.broken(serving, "countries",
                           lambda: httpx.get(f"{url}/ows", params=question, timeout=20))
    assert answer.status_code == 503
    assert httpx.get(f"{url}/ows", params=question, timeout=20).status_code == 200


@pytest.mark.parametrize("path", ["items", "items/1", "items?f=html"])
def test_ogc_api_tells_it_by_503(serving, url, path):
    """There MapServer says 404 of it, as of a feature that is not there."""
    def ask() -> httpx.Response:
        return httpx.get(f"{url}{API}/collections/countries/{path}", timeout=20)

    assert helper.broken(serving, "countries", ask).status_code == 503
    assert ask().status_code == 200
    assert httpx.get(f"{url}{API}/collections/countries/items/77").status_code == 404
    assert httpx.get(f"{url}{API}/collections/nowhere/items").status_code == 404


def test_whenever_a_session_breaks_it_is_told_by_503(serving, url):
    """Ended at any moment, while others ask as well: whatever failed for it is a 503."""
    def ask(client: httpx.Client, number: int) -> tuple[int, int, bool]:
        question = (WMS, WFS, WMS | {"layers": "nowhere"}, WMS | {"layers": "alive"})[number % 4]
        answer = client.get(f"{url}/ows", params=question)
        return number % 4, answer.status_code, b"msPostGIS" in answer.content

    def ended() -> None:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                           " where application_name = 'mapserver'")
        if not all(one.done() for one in answers):
            raise NotYet("being asked")

    with serving.connect() as connection, httpx.Client(timeout=20) as client, \
            concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(ask, client, number) for number in range(400)]
        until(ended, what="400 answers", timeout=60, every=0.01)
    seen = collections.Counter(one.result() for one in answers)
    assert {code for _, code, failed in seen if failed} == {503}, seen
    assert {code for number, code, _ in seen if number == 2} == {200}, seen


def test_no_session_is_told_by_503(serving, url):
    """Where no database is to be had, another server may have one."""
    serving.database.pause()
    try:
        assert helper.picture(url, "countries").status_code == 503
        assert helper.features(url, "countries").status_code == 503
    finally:
        serving.database.unpause()
    until(lambda: _is(url, 200), what="200", timeout=20)


@pytest.mark.parametrize(("question", "code", "words"), [
    (WMS | {"layers": "nowhere"}, 200, "LayerNotDefined"),
    (WMS | {"bbox": "1,2"}, 200, "BBOX"),
    (WMS | {"layers": "places"}, 200, "Error executing query"),  # its table is not there
    (WFS | {"typeNames": "places"}, 400, "Error executing SQL"),
    (WFS | {"typeNames": "nowhere"}, 400, "InvalidParameterValue"),
], ids=["layer", "bbox", "table", "table of features", "type"])
def test_a_wrong_question_is_answered_as_ogc_has_it(serving, url, question, code, words):
    """Nor is it taken for the database's fault when a session just broke."""
    def ask() -> httpx.Response:
        return httpx.get(f"{url}/ows", params=question, timeout=20)

    def asked() -> tuple[int, bool]:
        answer = ask()
        return answer.status_code, words in answer.text

    assert asked() == (code, True)
    broke = helper.broken(serving, "countries", lambda: helper.picture(url, "countries"))
    assert (broke.status_code, *asked()) == (503, code, True)


def test_what_it_says_is_in_the_containers_log(url, server):
    """Why a query failed is not for clients; whoever runs the lab reads it, once."""
    before = server.logs().decode(errors="replace").count('"public.places" does not exist')
    helper.picture(url, "places")
    assert helper.features(url, "alive").status_code == 200
    said = server.logs().decode(errors="replace").count('"public.places" does not exist')
    assert said == before + 1


def test_many_features_are_passed_on_as_they_come(serving, url, server):
    """The server in front of MapServer never holds a large answer, neither on a disk."""
    web = server.exec_run(["bash", "-c", "for p in /proc/[0-9]*; do read -r name < $p/comm; "
                           "[ $name != lighttpd ] || echo $p; done"])[1].decode().strip()

    def held() -> int:
        said = server.exec_run(["grep", "VmHWM", f"{web}/status"])[1].decode()
        return int(said.split()[1]) * 1024 + written()

    def written() -> int:
        said = server.exec_run(["df", "--block-size=1", "--output=used", "/run/gislab"])[1]
        return int(said.split()[1])

    before = held()
    with serving.connect() as connection:
        connection.execute(MANY)
        try:
            with httpx.stream("GET", f"{url}/ows", params=WFS | {"typeNames": "places"},
                              timeout=60) as answer:
                pieces = answer.iter_bytes(65536)
                assert next(pieces).startswith(b"{")
                early = held()
                size = sum(len(piece) for piece in pieces)
        finally:
            connection.execute("drop table places")
    assert size > 20e6
    assert max(early, held()) - before < 4e6


@pytest.mark.parametrize("path", [API, f"/{API}", API.replace("/catalog", ";x/catalog"),
                                  API.replace("/catalog", "%2fcatalog")])
@pytest.mark.parametrize("key", ["1 or 1=1", "(select 1)", "1::int", "77) or (1=1", "x/../1+0",
                                 "77%c2%a0or%c2%a01=1"])
def test_a_request_writes_no_sql(url, path, key):
    """The key in an address of OGC API is a key, and nothing else."""
    answer = httpx.get(f"{url}{path}/collections/countries/items/{key}")
    assert (answer.status_code, "Box" in answer.text) == (403, False)


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


def _holds(lab: settings.Lab) -> None:
    wanted = bundle.digest(bundle.render(catalog.default(), lab))[:12]
    if helper.health(lab.maps_url) != 200 or httpx.get(f"{lab.maps_url}/catalog").text != wanted:
        raise NotYet("another one")


def _is(url: str, code: int) -> None:
    found = helper.health(url)
    if found != code:
        raise NotYet(f"{found}")
