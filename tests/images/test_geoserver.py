"""The image of GeoServer keeps what it promises; needs a WAR (GISLAB_GEOSERVER_WAR).

Of another release by GISLAB_GEOSERVER_VERSION=3.0.1, which is the one that runs in Tomcat.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import threading
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import geopandas
import httpx
import pytest
import shapely
from docker.errors import BuildError

from gislab import catalog, images, ows, settings, transaction, wars
from gislab.catalog import bundle
from gislab.wait import NotYet, until

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


def first(serving, url):
    """Return the container of the server at `url`."""
    server, = [c for c in serving.containers if f"http://{serving.address(c)}:8080" == url]
    return server


@pytest.fixture(scope="module")
def second(serving, url):
    """Another one; it takes the catalog that is current when it starts."""
    return serving.map_server("geoserver", "second", publish=False)


def test_without_a_war_the_build_names_the_remedy(the_engine, tmp_path):
    """One clear line, not a stack of Docker's."""
    context = shutil.copytree(images.FOLDER / "geoserver", tmp_path / "geoserver")
    with pytest.raises(BuildError) as caught:
        the_engine.images.build(path=str(context), rm=True, forcerm=True, buildargs={
            "BASE": images.base(settings.read().architecture)})
    said = "".join(str(line.get("stream", "")) for line in caught.value.build_log)
    assert "set GISLAB_GEOSERVER_WAR" in said


@pytest.mark.parametrize("release, servlets", [("2.28.5", "jetty"), ("3.0.1", "tomcat")])
def test_a_webapp_whose_files_are_its_owners_alone_can_be_read(the_engine, tmp_path, monkeypatch,
                                                               release, servlets):
    """As -bin.zip holds it, and as Python's zipfile packs it again; and it gets its engine."""
    archive = tmp_path / "geoserver-bin.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in ("web.xml", f"lib/gs-main-{release}.jar"):
            out.writestr(f"webapps/geoserver/WEB-INF/{name}", b"")
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", str(archive))
    context = shutil.copytree(images.FOLDER / "geoserver", tmp_path / "geoserver")
    wars.place(context)
    made, _ = the_engine.images.build(path=str(context), target="webapp", forcerm=True, buildargs={
        "BASE": images.base(settings.read().architecture)})
    try:
        script = "cat /opt/geoserver/engine; find /opt/geoserver ! -perm -o=r"
        said = the_engine.containers.run(made.id, ["sh", "-c", script], remove=True).decode()
    finally:
        the_engine.images.remove(made.id, force=True)
    assert f"ENGINE='{servlets}'" in said and "/opt/geoserver/webapp" not in said


def test_names_the_variable_that_is_missing(war, names_what_is_missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("geoserver", missing="VIP")


def test_runs_in_the_servlet_engine_that_its_release_needs(serving, url):
    """Jetty for GeoServer 2, Tomcat for 3; and it is the release that was asked for."""
    said = first(serving, url).logs().decode()
    assert re.search(r"GeoServer 2\.\S+ in jetty|GeoServer 3\.\S+ in tomcat", said)
    asked = os.environ.get("GISLAB_GEOSERVER_VERSION", "")
    assert os.environ.get("GISLAB_GEOSERVER_WAR") or f"GeoServer {asked}" in said


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


@pytest.mark.parametrize("path", ["/ows", "/geoserver/ows", "/geoserver/wcs"])
def test_coverages_are_not_offered(url, path):
    """GeoServer has WCS on by itself, and nobody publishes any here."""
    answer = httpx.get(f"{url}{path}", timeout=20, params={
        "service": "WCS", "version": "2.0.1", "request": "GetCapabilities"})
    assert "Capabilities" not in answer.text.partition("xception")[0]
    assert "disabled" in answer.text or answer.status_code == 404


def test_goes_without_losing_a_request(serving):
    """SIGTERM: first /health says no, maps are served on for a while, then it ends with 0."""
    helper.drains(serving, serving.map_server("geoserver", "going"))


def test_a_database_that_is_silent_when_it_begins_is_asked_again(serving, url):
    """GeoServer disables a store that does not answer while it loads; here only for so long."""
    def holds():
        said = late.logs().decode()
        if "holds version" not in said:
            raise NotYet(said[-300:])
    serving.database.pause()
    try:
        late = serving.map_server("geoserver", "late", publish=False)
        until(holds, what="the catalog", timeout=400, every=0.5)
        assert helper.health(f"http://{serving.address(late)}:8080") == 503
    finally:
        serving.database.unpause()
    serving.healthy(late, timeout=30)
    helper.drains(serving, late)
    serving.healthy(first(serving, url), timeout=30)


def test_a_new_catalog_is_reloaded_by_one_server_after_another(serving, url, second):
    """A reload disturbs what is asked meanwhile: so a server says no first, and never both."""
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


# --- transactions and tiles: both servers serve `countries`, which clients may write to ----------

def blue(cat: catalog.Catalog, colour: str = "#0000ff") -> catalog.Catalog:
    return cat.with_style(catalog.Style("land", "polygon", (catalog.Rule("x", fill=colour),)))


@pytest.fixture(scope="module")
def whole():
    """A catalog whose tables are all there."""
    made = catalog.default()
    countries = replace(made.layer("countries"), writable=True, tiled=True)
    return blue(replace(made, layers=(made.layer("alive"), countries)))


@pytest.fixture(scope="module")
def writing(serving, url, second, whole):
    """A lab for each server, whose VIP is a HAProxy before that server alone."""
    serving.healthy(second)
    catalog.publish(serving.lab, whole, say=print, timeout=500)
    labs = [serving.behind(alias) for alias in ("map-server", "second")]
    for lab in labs:
        helper.through(lab)
    return labs


def names(lab) -> set[str]:
    return set(ows.get_features(lab, "countries")["name"])


def east() -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame({"name": ["East"]}, crs=4326,
                                  geometry=[shapely.box(100, 10, 120, 30)])


def middle(lab) -> list[int]:
    """Return the colour where the box is, of the tile that shows the world, 0 to 255."""
    return [round(float(part) * 255) for part in ows.get_tile(lab, "countries", 0, 0, 0)
            [128, 128][:3]]


def test_what_the_editor_writes_is_seen_on_every_server_at_once(writing):
    """Insert, update and delete, each by another server than the one that is asked."""
    here, there = writing
    made = ows.transact(here, "countries", insert=east())
    assert made.inserted == len(made.keys) == 1
    key, = made.keys
    assert names(there) == names(here) == {"Box", "East"}
    found = ows.get_features(there, "countries", bbox=(99, 9, 121, 31))
    assert found["name"].tolist() == ["East"]
    assert found.geometry[0].equals(shapely.box(100, 10, 120, 30))  # x is x, and y is y
    assert ows.transact(there, "countries", update={key: {"name": "Orient"}}).updated == 1
    assert names(here) == {"Box", "Orient"}
    assert ows.transact(here, "countries", delete=[key]).deleted == 1
    assert names(there) == {"Box"}


def test_no_tile_is_stale_after_a_transaction(writing):
    """The server that did not take it has forgotten its tiles as well."""
    here, there = writing
    north = geopandas.GeoDataFrame({"name": ["North"]}, crs=4326,
                                   geometry=[shapely.box(-20, 60, 20, 70)])
    before = [ows.get_tile(lab, "countries", 1, 1, 0) for lab in writing]
    made = ows.transact(here, "countries", insert=north)
    try:
        shown = [ows.get_tile(lab, "countries", 1, 1, 0) for lab in writing]
        assert [(old == new).all() for old, new in zip(before, shown, strict=True)] == [
            False, False]
    finally:
        ows.transact(there, "countries", delete=made.keys)
    after = [ows.get_tile(lab, "countries", 1, 1, 0) for lab in writing]
    assert [(old == new).all() for old, new in zip(before, after, strict=True)] == [True, True]


@pytest.mark.parametrize("who", [None, ("editor", "geoserver"), ("editor", "editor"),
                                 ("admin", "geoserver")])
def test_nobody_but_the_editor_writes(writing, whole, who):
    body = transaction.body(whole.layer("countries"), "gis", delete=[1])
    answer = httpx.post(ows.url(writing[0]), content=body, auth=who, timeout=20,
                        headers={"Content-Type": "text/xml"})
    assert answer.status_code in (401, 403) or "Exception" in answer.text
    assert names(writing[0]) == {"Box"}


def test_the_editor_writes_to_nothing_else(serving, writing, whole):
    """`alive` is what health questions ask for: only writable layers may be changed."""
    body = transaction.body(whole.layer("alive"), "gis", delete=[1])
    answer = httpx.post(ows.url(writing[0]), content=body, timeout=20,
                        auth=("editor", serving.secret["editor_password"]),
                        headers={"Content-Type": "text/xml"})
    assert transaction.answer(answer.content) is None
    assert len(ows.get_features(writing[0], "alive")) == 1


def test_the_editor_administers_nothing(serving, url):
    answer = httpx.get(f"{url}/geoserver/rest/workspaces.json",
                       auth=("editor", serving.secret["editor_password"]))
    assert answer.status_code in (401, 403)


def test_what_the_database_refuses_is_told_and_changes_nothing(serving, writing):
    """All of a transaction or nothing."""
    with serving.connect() as connection:
        connection.execute("alter table countries add check (name <> 'Atlantis')")
    two = geopandas.GeoDataFrame({"name": ["New", "Atlantis"]}, crs=4326,
                                 geometry=[shapely.box(0, 0, 1, 1)] * 2)
    with pytest.raises(ows.OwsError, match="layer countries is as before"):
        ows.transact(writing[0], "countries", insert=two)
    assert names(writing[0]) == {"Box"}


SLOW = """create function slow() returns trigger language plpgsql as
    $$ begin perform pg_sleep(20); return null; end $$;
create constraint trigger slow after insert on countries deferrable initially deferred
    for each row execute function slow()"""
END = """select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where usename = 'gis' and query = 'COMMIT' and state = 'active'"""


def test_a_commit_that_nobody_confirmed_is_told_as_such(serving, writing):
    """The database ends the session within it; here nothing came of it, which nobody can know."""
    def end():
        if not connection.execute(END).fetchall():
            raise NotYet("no commit waits")
    with serving.connect() as connection:
        connection.execute(SLOW)
        ending = threading.Thread(
            target=lambda: until(end, what="a commit", timeout=20, every=0.05))
        ending.start()
        try:
            with pytest.raises(ows.OwsError, match="it may have happened"):
                ows.transact(writing[0], "countries", insert=east())
        finally:
            ending.join()
            connection.execute("drop trigger slow on countries; drop function slow")
    assert names(writing[0]) == {"Box"}


def test_sessions_that_the_database_has_ended_are_not_used_again(serving, writing):
    """As after a change of the primary: the next transaction is taken."""
    with serving.connect() as connection:
        ended = connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                                   " where usename = 'gis'").fetchall()
    made = ows.transact(writing[0], "countries", insert=east())
    assert ended and names(writing[1]) == {"Box", "East"}
    ows.transact(writing[0], "countries", delete=made.keys)


# of types that a text could be mistaken for; in the register, y comes first in the second system
TABLES = """set role gis;
create table plots (id int generated by default as identity primary key, name text, number int,
    made date, share float8, used boolean, more jsonb, geom geometry(MultiPolygon, 25832));
create table paths (id int generated by default as identity primary key, name text,
    geom geometry(LineString, 31467))"""


def test_what_is_written_is_in_the_table_as_it_was_sent(serving, writing, whole):
    """Every shape at its place, whatever the order of the axes, and values in their types."""
    with serving.connect() as connection:
        connection.execute(TABLES)
    more = whole.with_style(catalog.Style("ways", "line", (
        catalog.Rule("way", stroke="#c00000", width=3),)))
    for name, style, srs in (("plots", "land", "EPSG:25832"), ("paths", "ways", "EPSG:31467")):
        more = more.with_layer(catalog.Layer(name, name, name, style, srs=srs, writable=True,
                                             tiled=True, extent=(5.0, 46.0, 13.0, 55.0)))
    catalog.publish(serving.lab, more, say=print, timeout=500)
    here, there = writing
    shapes = {"plots": shapely.MultiPolygon([shapely.box(9, 50, 9.1, 50.1),
                                             shapely.box(9.2, 50, 9.3, 50.1)]),
              "paths": shapely.LineString([(9, 50), (9.5, 50.5)])}
    row = ("Ω & <x>", 7, datetime.date(2020, 2, 3), 1.5, True, {"a": [1]})
    columns = ("name", "number", "made", "share", "used", "more")
    frame = geopandas.GeoDataFrame([row], columns=columns, geometry=[shapes["plots"]], crs=4326)
    assert ows.transact(here, "plots", insert=frame).inserted == 1
    assert ows.transact(here, "paths", insert=frame[["name", "geometry"]].set_geometry(
        [shapes["paths"]], crs=4326)).inserted == 1
    with serving.connect() as connection:
        assert connection.execute(f"select {', '.join(columns)} from plots").fetchall() == [row]
        for name, shape in shapes.items():
            (text, system), = connection.execute(
                "select ST_AsBinary(ST_Transform(geom, 4326)), ST_SRID(geom) from "
                + name).fetchall()
            # a datum shift is known to a metre only, and not to both in the same words
            assert shapely.from_wkb(text).hausdorff_distance(shape) < 5e-5
            assert system == int(more.layer(name).srs.removeprefix("EPSG:"))
            found, = ows.get_features(there, name).geometry
            assert found.hausdorff_distance(shape) < 5e-5
    assert ows.get_tile(there, "paths", 0, 0, 0).shape[:2] == (256, 256)
    catalog.publish(serving.lab, whole, say=print, timeout=500)
    for lab in writing:
        with pytest.raises(ows.OwsError, match="paths is not known"):
            ows.get_tile(lab, "paths", 0, 0, 0)


def test_a_wrong_password_is_told(writing):
    with pytest.raises(ows.OwsError, match="lets the user editor not write"):
        ows.transact(writing[0], "countries", delete=[1], password="wrong")


def test_wmts_names_its_layers_and_its_address(serving, url, writing):
    """As the client came to it; tiles are those of tiled layers only."""
    text = httpx.get(f"{url}/wmts", params={"service": "WMTS", "request": "GetCapabilities"},
                     headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "maps:444"},
                     timeout=20).text
    assert "https://maps:444/geoserver/" in text
    tree = ElementTree.fromstring(text.encode())
    layers = [e.text for e in tree.iterfind(
        ".//{http://www.opengis.net/wmts/1.0}Layer/{http://www.opengis.net/ows/1.1}Identifier")]
    assert [name.rpartition(":")[2] for name in layers] == ["countries"]


def test_a_new_style_empties_tiles_on_every_server(serving, writing, whole):
    assert [middle(lab) for lab in writing] == [[0, 0, 255]] * 2
    catalog.publish(serving.lab, blue(whole, "#00ff00"), say=print, timeout=500)
    assert [middle(lab) for lab in writing] == [[0, 255, 0]] * 2
    catalog.publish(serving.lab, whole, say=print, timeout=500)
    assert [middle(lab) for lab in writing] == [[0, 0, 255]] * 2


def test_data_that_changed_in_the_database_is_shown_after_a_refresh(serving, writing, whole):
    """Without writing clients, tiles are kept until somebody says so."""
    kept = whole.with_layer(replace(whole.layer("countries"), writable=False))
    catalog.publish(serving.lab, kept, say=print, timeout=500)
    assert [middle(lab) for lab in writing] == [[0, 0, 255]] * 2
    with serving.connect() as connection:
        connection.execute("update countries set geom = ST_Translate(geom, 60, 0)")
        try:
            assert [middle(lab) for lab in writing] == [[0, 0, 255]] * 2  # the old tiles
            catalog.refresh(serving.lab, "countries", say=print)
            assert [0, 0, 255] not in [middle(lab) for lab in writing]
        finally:
            connection.execute("update countries set geom = ST_Translate(geom, -60, 0)")
    catalog.refresh(serving.lab, say=print)
    assert [middle(lab) for lab in writing] == [[0, 0, 255]] * 2
    catalog.publish(serving.lab, whole, say=print, timeout=500)


def test_seeded_tiles_lie_in_every_servers_cache(serving, second, writing):
    """With progress; a tile that was drawn ahead needs no database."""
    told = []
    count = catalog.seed(serving.lab, "countries", (0, 3), say=print, timeout=300,
                         told=lambda done, total: told.append((done, total)))
    assert count == 85 and told[-1] == (170, 170)
    found = second.exec_run(["find", "/var/cache/gislab", "-name", "*.png"])[1].decode()
    assert len(found.split()) >= 85


def test_the_cache_is_bounded(second):
    """By the tmpfs in any case, and by GeoWebCache's own quota below that."""
    code, said = second.exec_run(["cat", "/var/cache/gislab/geowebcache-diskquota.xml"])
    tree = ElementTree.fromstring(said.decode())
    assert code == 0 and (tree.findtext("enabled"), tree.findtext("globalQuota/value")) == (
        "true", "96")
    size = second.exec_run(["df", "--output=size", "-k", "/var/cache/gislab"])[1].split()[-1]
    assert int(size) <= 128 * 1024


def test_capabilities_name_the_address_that_the_client_asked(serving, url):
    """By TLS as well; who asks past HAProxy hears of the VIP."""
    def asked(**headers):
        return httpx.get(f"{url}/ows", headers=headers, timeout=20, params={
            "service": "WMS", "version": "1.3.0", "request": "GetCapabilities"}).text
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "192.0.2.7:444"}
    assert "https://192.0.2.7:444/geoserver/" in asked(**forwarded)
    assert f"{serving.lab.maps_url}/geoserver/" in asked()


def test_the_console_answers_only_where_the_lab_says_so(serving, url):
    closed = httpx.get(f"{url}/geoserver/web/", follow_redirects=True, timeout=20)
    assert closed.status_code != 200 or "j_spring_security_check" not in closed.text
    open_one = serving.map_server("geoserver", "console", publish=False,
                                  environment={"GEOSERVER_CONSOLE": "on"})
    address = serving.healthy(open_one)
    with httpx.Client(base_url=address, follow_redirects=True, timeout=60) as visitor:
        assert "GeoServer" in visitor.get("/geoserver/web/").text
        page = visitor.post("/geoserver/j_spring_security_check", data={
            "username": "admin", "password": serving.secret["geoserver_password"]})
        assert page.status_code == 200 and "j_spring_security_logout" in page.text
