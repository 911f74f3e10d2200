"""The image of GeoServer keeps what it promises; needs a WAR (GISLAB_GEOSERVER_WAR)."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import httpx
import pytest
from docker.errors import BuildError

from gislab import catalog, images, settings, wars
from gislab.catalog import bundle

from . import serving as helper

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def war(request):
    if wars.at_hand() is None:
        reason = "no GeoServer at hand: set GISLAB_GEOSERVER_WAR=/path/to/geoserver.war"
        if request.config.getoption("--need-geoserver"):
            pytest.fail(reason)
        pytest.skip(reason)
    return wars.at_hand()


@pytest.fixture(scope="module")
def serving(war, the_engine, image, tmp_path_factory):
    made = helper.Serving(the_engine, image, tmp_path_factory.mktemp("secrets"),
                          kind="geoserver")
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(serving):
    return serving.healthy(serving.map_server("geoserver"))


def test_without_a_war_the_build_names_the_remedy(the_engine, tmp_path):
    """One clear line, not a stack of Docker's."""
    context = shutil.copytree(images.FOLDER / "geoserver", tmp_path / "geoserver")
    with pytest.raises(BuildError) as caught:
        the_engine.images.build(path=str(context), rm=True, buildargs={
            "BASE": images.base(settings.read().architecture)})
    said = "".join(str(line.get("stream", "")) for line in caught.value.build_log)
    assert "set GISLAB_GEOSERVER_WAR" in said


def test_names_the_variable_that_is_missing(war, names_what_is_missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("geoserver", missing="VIP")


def test_is_not_root(war, run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("geoserver", "bash", "-c", "id -un") == (0, "www-data\n")


def test_holds_no_secret(war, holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("geoserver") == []


def test_answers_with_its_catalog(serving, url):
    """GET /catalog is the hash of the version that it serves."""
    made = bundle.render(catalog.default(), serving.lab)
    assert httpx.get(f"{url}/catalog").text == bundle.digest(made)[:12]


def test_draws_what_is_in_the_database(url):
    """At the same address as MapServer, /ows: a PNG, and GeoJSON, without a REST call."""
    assert helper.is_png(helper.picture(url, "countries"))
    assert helper.features(url, "countries").json()["features"][0]["properties"]["name"] == "Box"
    assert helper.picture(url, "alive").headers["X-Served-By"] == "pi7"


def test_a_missing_table_leaves_the_others_alone(url):
    """Before the data is loaded, `alive` and the capabilities are served."""
    assert not helper.is_png(helper.picture(url, "places"))
    assert helper.is_png(helper.picture(url, "alive"))
    answer = httpx.get(f"{url}/ows", params={
        "service": "WMS", "version": "1.3.0", "request": "GetCapabilities"}, timeout=20)
    assert "<Name>alive</Name>" in answer.text


@pytest.mark.parametrize("path", ["/geoserver/rest/workspaces.json", "/geoserver/rest/reload"])
@pytest.mark.parametrize("who", [("admin", "geoserver"), ("root", "geoserver"), None])
def test_default_passwords_are_refused(url, path, who):
    """From the first answer on, nobody comes in with what every GeoServer has at first."""
    assert httpx.get(url + path, auth=who).status_code == 401


def test_the_labs_password_is_accepted(serving, url):
    """The administrator's password is the lab's own, from the secret."""
    answer = httpx.get(f"{url}/geoserver/rest/workspaces.json",
                       auth=("admin", serving.secret["geoserver_password"]))
    assert [w["name"] for w in answer.json()["workspaces"]["workspace"]] == ["gis"]


def test_a_transaction_is_refused(url):
    """Nothing unauthenticated writes."""
    body = ('<wfs:Transaction service="WFS" version="2.0.0" xmlns:gis="http://gis" '
            'xmlns:wfs="http://www.opengis.net/wfs/2.0"><wfs:Delete typeName="gis:countries"/>'
            "</wfs:Transaction>")
    assert "Exception" in httpx.post(f"{url}/ows", content=body, headers={
        "Content-Type": "text/xml"}, timeout=20).text
    assert len(helper.features(url, "countries").json()["features"]) == 1


def test_goes_without_losing_a_request(serving):
    """SIGTERM: first /health says no, maps are served on for a while, then it ends with 0."""
    helper.drains(serving, serving.map_server("geoserver", "going"))


def test_a_new_catalog_is_reloaded_by_one_server_after_another(serving, url):
    """A reload disturbs what is asked meanwhile: so a server says no first, and never both."""
    second = serving.map_server("geoserver", "second", publish=False)
    other = serving.healthy(second)
    whole = catalog.default()
    cat = replace(whole, layers=(whole.layer("alive"), whole.layer("countries")))
    blue = cat.with_style(catalog.Style("land", "polygon", (catalog.Rule("x", fill="#0000ff"),)))
    done, seen = threading.Event(), []

    def ask():
        while not done.is_set():
            seen.append((helper.health(url) == 200, helper.health(other) == 200))
            done.wait(0.05)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        number = catalog.publish(serving.lab, blue, say=print, timeout=500)
    finally:
        done.set()
        asking.join()
    assert (False, False) not in seen and {(True, False), (False, True)} <= set(seen)
    for server in (url, other):
        assert helper.health(server) == 200
        assert helper.pixel(helper.picture(server, "countries")) == [0, 0, 255]
        text = httpx.get(f"{server}/ows", params={
            "service": "WMS", "version": "1.3.0", "request": "GetCapabilities"}, timeout=20).text
        assert "<Name>places</Name>" not in text
    assert len(second.exec_run(["ls", "/run/gislab/catalog"])[1].split()) == 1  # it is memory
    table = catalog.status(serving.lab)
    assert table["version"].tolist() == [number] * 2
    assert table["state"].tolist() == ["current"] * 2


def test_another_workspace_is_refused(serving, url):
    """The address /ows leads to the one that the server began with."""
    with pytest.raises(catalog.CatalogError, match="its workspace is not gis"):
        catalog.publish(serving.lab, replace(catalog.current(serving.lab), workspace="other"),
                        say=print)
    assert helper.is_png(helper.picture(url, "alive"))
