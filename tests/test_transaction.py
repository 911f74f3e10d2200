"""What a client changes goes to the VIP once, as WFS-T, and what came of it is told plainly."""

from __future__ import annotations

import http.server
import threading
from dataclasses import replace
from xml.etree import ElementTree

import geopandas
import numpy
import pandas as pd
import pytest
import shapely

from gislab import catalog, ows, settings, transaction
from gislab.catalog import Layer

WELLS = Layer("wells", "wells", "Wells", "dots", srs="EPSG:25832", writable=True)
CAT = catalog.default().with_layer(WELLS).with_layer(replace(WELLS, name="old", writable=False))
NS = {"wfs": transaction.WFS, "fes": transaction.FES, "gml": transaction.GML,
      "gis": "http://gis"}
TAKEN = f"""<wfs:TransactionResponse version="2.0.0" xmlns:wfs="{transaction.WFS}"
 xmlns:fes="{transaction.FES}"><wfs:TransactionSummary><wfs:totalInserted>2</wfs:totalInserted>
<wfs:totalUpdated>1</wfs:totalUpdated><wfs:totalDeleted>3</wfs:totalDeleted>
</wfs:TransactionSummary><wfs:InsertResults><wfs:Feature><fes:ResourceId rid="wells.7"/>
</wfs:Feature><wfs:Feature><fes:ResourceId rid="wells.8"/></wfs:Feature></wfs:InsertResults>
</wfs:TransactionResponse>"""
REFUSED = """<ows:ExceptionReport xmlns:ows="http://www.opengis.net/ows/1.1"><ows:Exception>
<ows:ExceptionText>duplicate key value</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"""


def made(**how) -> ElementTree.Element:
    return ElementTree.fromstring(transaction.body(WELLS, "gis", **how))


def points(*values, crs=25832, **columns):
    return geopandas.GeoDataFrame(columns, geometry=[shapely.Point(*v) for v in values], crs=crs)


def test_an_insert_holds_every_value_and_the_shape_in_the_layers_crs():
    """x before y, in the form of a CRS in which GeoServer reads it so."""
    tree = made(insert=points((3e5, 5e6), name=["<Ω>"], depth=[1.5]))
    feature = tree.find("wfs:Insert/gis:wells", NS)
    assert feature.findtext("gis:name", namespaces=NS) == "<Ω>"
    assert feature.findtext("gis:depth", namespaces=NS) == "1.5"
    point = feature.find("gis:geom/gml:Point", NS)
    assert point.get("srsName") == "http://www.opengis.net/gml/srs/epsg.xml#25832"
    assert point.findtext("gml:pos", namespaces=NS) == "300000.0 5000000.0"


def test_features_in_another_crs_are_turned_into_the_layers():
    east, north = made(insert=points((9, 48), crs=4326)).findtext(
        ".//gml:pos", namespaces=NS).split()
    assert float(east) == pytest.approx(500000, abs=1) and 5.3e6 < float(north) < 5.4e6


def test_features_without_a_crs_are_not_guessed_about():
    with pytest.raises(ValueError, match="no CRS"):
        made(insert=points((1, 2), crs=None))


def test_keys_are_the_tables_own():
    """GeoServer does not take those that a client makes up, and does not say so."""
    with pytest.raises(ValueError, match="new features get their id from the table"):
        made(insert=points((1, 2), id=[1]))


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NaT, pd.NA])
def test_what_is_missing_is_left_to_the_table(missing):
    tree = made(insert=points((1, 2), name=pd.Series([missing], dtype=object)))
    assert tree.find(".//gis:name", NS) is None


@pytest.mark.parametrize("value, text", [
    (True, "true"), (numpy.bool_(False), "false"), (numpy.int64(7), "7"),
    (pd.Timestamp("2026-11-23T06:00"), "2026-11-23T06:00:00"), ({"a": 1}, '{"a": 1}')])
def test_values_are_written_as_a_schema_has_them(value, text):
    assert made(update={7: {"name": value}}).findtext(".//wfs:Value", namespaces=NS) == text


def test_an_update_names_its_feature_and_its_columns_and_can_empty_one():
    tree = made(update={7: {"name": "Bonn", "depth": None}})
    assert [e.text for e in tree.iterfind(".//wfs:ValueReference", NS)] == ["name", "depth"]
    assert [e.text for e in tree.iterfind(".//wfs:Value", NS)] == ["Bonn"]
    assert [e.get("rid") for e in tree.iterfind(".//fes:ResourceId", NS)] == ["wells.7"]


def test_a_delete_names_every_feature_and_no_other():
    tree = made(delete=[1, 'x" or 1'])
    assert [e.get("rid") for e in tree.iterfind("wfs:Delete/fes:Filter/fes:ResourceId", NS)] == [
        "wells.1", 'wells.x" or 1']


@pytest.mark.parametrize("how, words", [
    ({}, "nothing to change"), ({"delete": []}, "nothing to change"),
    ({"update": {7: {}}}, "changes no column"),
    ({"update": {7: {"a b": 1}}}, "letters, digits and _ only"),
    ({"update": {7: {"geom": shapely.Point()}}}, "empty shape"),
    ({"update": {7: {"geom": shapely.GeometryCollection([shapely.Point(1, 2)])}}},
     "GeometryCollection cannot be sent")])
def test_what_cannot_be_sent_is_said_before(how, words):
    with pytest.raises(ValueError, match=words):
        made(**how)


@pytest.mark.parametrize("text", [
    "POINT Z (1 2 3)", "LINESTRING (0 0, 1 1)", "MULTIPOINT (0 0, 1 1)",
    "POLYGON ((0 0, 9 0, 9 9, 0 0), (1 1, 2 1, 2 2, 1 1))",
    "MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))",
    "MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0)), ((20 0, 29 0, 29 9, 20 0)))"])
def test_every_shape_is_read_back_by_gdal_as_it_was(text, tmp_path):
    """GDAL knows GML better than we do: what it reads is what was meant."""
    shape = shapely.from_wkt(text)
    name = "http://www.opengis.net/gml/srs/epsg.xml#4326"
    (tmp_path / "one.gml").write_text(
        f'<c:C xmlns:c="http://c" xmlns:gml="{transaction.GML}"><gml:featureMember><c:F '
        f'gml:id="F.1"><c:g>{transaction.gml(shape, "4326")}</c:g></c:F></gml:featureMember>'
        "</c:C>")
    assert name in (tmp_path / "one.gml").read_text()
    read = geopandas.read_file(tmp_path / "one.gml", engine="pyogrio")
    assert read.geometry[0].equals(shape) and read.geometry[0].has_z == shape.has_z


def test_the_answer_is_read():
    assert transaction.answer(TAKEN.encode()) == transaction.Changed(2, 1, 3, ("7", "8"))
    assert transaction.answer(REFUSED.encode()) is transaction.answer(b"<html>") is None


class Door(http.server.BaseHTTPRequestHandler):
    """Stands at the VIP: keeps what came, and answers what it was told to."""

    def do_POST(self):  # noqa: N802  the name is http.server's
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.path, self.headers, text))
        if self.server.status is None:
            self.connection.close()
            return
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.says)

    def log_message(self, *_):
        pass


@pytest.fixture
def door():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.came, server.status, server.says = [], 200, TAKEN.encode()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def lab(paper, door, monkeypatch):
    monkeypatch.setattr(catalog, "current", lambda lab: CAT)
    return replace(paper, vip="127.0.0.1", map_server="geoserver",
                   ports=settings.Ports(maps=door.server_address[1]))


def test_a_transaction_is_posted_once_as_the_editor(lab, door):
    assert ows.transact(lab, "wells", delete=[1]).deleted == 3
    (path, headers, text), = door.came
    assert path == "/ows" and b"wells.1" in text
    assert headers["Authorization"] == ows.httpx.BasicAuth(
        "editor", lab.secret("editor_password"))._auth_header


@pytest.mark.parametrize("status, says, words", [
    (400, REFUSED.encode(), "layer wells is as before: duplicate key value"),
    (200, REFUSED.encode(), "layer wells is as before: duplicate key value"),
    (401, b"<html>", "lets the user editor not write .401."),
    (503, b"<html>", "no map server was there to take it, layer wells is as before"),
    (504, b"<html>", "HAProxy says 504.: it may have happened. Look at the features before"),
    (400, REFUSED.replace("duplicate key value", "An I/O error occurred while sending").encode(),
     "An I/O error.*it may have happened. Look at the features before"),
    (None, b"", "no clear answer came .*: it may have happened. Look at the features before")])
def test_what_came_of_it_is_told(lab, door, status, says, words):
    """As before, or perhaps not: never in doubt about which; and never sent a second time."""
    door.status, door.says = status, says
    with pytest.raises(ows.OwsError, match=words):
        ows.transact(lab, "wells", delete=[1])
    assert len(door.came) == 1


def test_when_nobody_is_there_nothing_was_sent(lab, door):
    door.shutdown()
    door.server_close()
    with pytest.raises(ows.OwsError, match="does not answer .*, nothing was sent"):
        ows.transact(lab, "wells", delete=[1])


def test_what_the_catalog_does_not_allow_is_not_sent(lab, door):
    with pytest.raises(ows.OwsError, match="layer old is not writable; publish it with writable"):
        ows.transact(lab, "old", delete=[1])
    with pytest.raises(ows.OwsError, match="mapserver takes no transactions; say map_server"):
        ows.transact(replace(lab, map_server="mapserver"), "wells", delete=[1])
    with pytest.raises(ows.OwsError, match="nothing was sent: nothing to change"):
        ows.transact(lab, "wells")
    assert door.came == []


def test_tiles_of_a_changed_layer_are_forgotten_everywhere(lab, door, monkeypatch):
    """A transaction empties the cache of the server that took it, and of no other."""
    monkeypatch.setattr(catalog, "current",
                        lambda lab: CAT.with_layer(replace(WELLS, tiled=True)))
    asked = []
    monkeypatch.setattr(catalog, "refresh",
                        lambda lab, *names, running, say: asked.append((names, running)))
    ows.transact(lab, "wells", delete=[1], running=list)
    assert asked == [(("wells",), list)]

    def late(lab, *names, running, say):
        raise catalog.CatalogError("pi2 is late")
    monkeypatch.setattr(catalog, "refresh", late)
    with pytest.raises(ows.OwsError, match="was changed .*tiles may be old: pi2 is late. Next: "
                       "gislab refresh wells"):
        ows.transact(lab, "wells", delete=[1])
