"""Maps and features are asked for at the VIP, and a refusal is told in the server's words."""

from __future__ import annotations

import dataclasses
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matplotlib.image
import numpy
import pytest
from owslib.util import ServiceException

from gislab import ows, settings

LAB = settings.make({"map_server": "mapserver"})
REPORT = """<?xml version="1.0"?><ows:ExceptionReport xmlns:ows="x"><ows:Exception>
<ows:ExceptionText>no such layer: nope</ows:ExceptionText></ows:Exception></ows:ExceptionReport>"""


class Service:
    """Stands for OWSLib's clients: keeps what was asked, answers what it was given."""

    def __init__(self, answer):
        self.answer, self.asked = answer, None

    def __call__(self, lab, **options):
        return self

    def getmap(self, **question):
        return self._answer(question)

    getfeature = getmap

    def _answer(self, question):
        self.asked = question
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)


@pytest.fixture
def service(monkeypatch):
    def stand_in(answer):
        made = Service(answer)
        monkeypatch.setattr(ows, "wms", made)
        monkeypatch.setattr(ows, "wfs", made)
        return made
    return stand_in


def png(width, height) -> bytes:
    out = io.BytesIO()
    matplotlib.image.imsave(out, numpy.full((height, width, 3), 0.5), format="png")
    return out.getvalue()


def test_the_address_is_the_vip_and_the_port_that_is_set():
    """One address for either map server."""
    assert ows.url(LAB) == "http://172.30.16.100/ows"
    other = settings.make({"ports": {"maps": 8088}, "map_server": "geoserver"})
    assert ows.url(other) == "http://172.30.16.100:8088/ows"


def test_a_map_comes_as_an_array(service):
    """What comes back goes straight into imshow."""
    made = service(png(40, 20))
    array = ows.get_map(LAB, ["countries", "places"], size=(40, 20))
    assert array.shape[:2] == (20, 40)
    assert made.asked["layers"] == ["countries", "places"]
    assert made.asked["bbox"] == (-180, -90, 180, 90)


def test_one_layer_may_be_a_word(service):
    """get_map(lab, "places") does not ask for p, l, a, c, e, s."""
    made = service(png(4, 4))
    ows.get_map(LAB, "places", sea=None)
    assert made.asked["layers"] == ["places"]
    assert made.asked["transparent"] is True


def test_features_come_as_a_geodataframe(service):
    """With their attributes, in EPSG:4326."""
    service(json.dumps({"features": [
        {"type": "Feature", "properties": {"name": "Ω"},
         "geometry": {"type": "Point", "coordinates": [10, 50]}}]}).encode())
    found = ows.get_features(LAB, "places", bbox=(0, 40, 20, 60), limit=5)
    assert found.name.tolist() == ["Ω"]
    assert (found.geometry[0].x, found.crs) == (10, "EPSG:4326")


@pytest.mark.parametrize("crs, place", [
    ("urn:ogc:def:crs:EPSG::25832", [500000, 5538630.70]), ("urn:ogc:def:crs:EPSG::4326", [9, 50]),
    ("urn:ogc:def:crs:OGC:1.3:CRS84", [9, 50]), (None, [9, 50])])
def test_features_are_in_degrees_whatever_system_they_come_in(service, crs, place):
    """Longitude first: GeoServer answers in the layer's own system, and says which it is."""
    service(json.dumps({
        "crs": crs and {"type": "name", "properties": {"name": crs}}, "features": [
            {"type": "Feature", "properties": {},
             "geometry": {"type": "Point", "coordinates": place}}]}).encode())
    found = ows.get_features(LAB, "places")
    assert found.crs == "EPSG:4326"
    assert numpy.allclose([found.geometry[0].x, found.geometry[0].y], [9, 50], atol=1e-6)


def test_no_features_are_an_empty_table(service):
    """An empty answer is an answer."""
    service(b'{"type": "FeatureCollection", "features": []}')
    assert len(ows.get_features(LAB, "places")) == 0


@pytest.mark.parametrize("answer", [ServiceException(REPORT), REPORT.encode()])
def test_a_refusal_is_told_in_the_servers_words(service, answer):
    """Whether it comes as an error or as a page, without its XML."""
    service(answer)
    with pytest.raises(ows.OwsError, match="no such layer: nope") as caught:
        ows.get_features(LAB, "nope")
    assert "<" not in str(caught.value)
    assert "172.30.16.100" in str(caught.value)


@pytest.fixture
def says():
    """A function that lets an address give one answer to everything; it returns a lab of it."""
    servers = []

    def serve(code: int, text: str) -> settings.Lab:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(code)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *words):
                pass
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return dataclasses.replace(LAB, vip="127.0.0.1", ports=settings.Ports(
            maps=server.server_port))
    yield serve
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


QUESTIONS = [lambda lab: ows.get_map(lab, "alive"), lambda lab: ows.get_features(lab, "alive")]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_a_lab_without_a_map_server_is_told_with_what_to_do(says, ask):
    """HAProxy's 503, and an address where nobody listens."""
    busy = says(503, "No server is available")
    for lab, why in ((busy, "503"), (dataclasses.replace(busy, vip="127.0.0.250"), "refused")):
        with pytest.raises(ows.OwsError, match=f"does not answer.*{why}.*gislab status"):
            ask(lab)


@pytest.mark.parametrize("ask", QUESTIONS)
def test_an_error_of_the_server_is_told_in_its_words(says, ask):
    """It has answered, so nobody is sent to look for it."""
    with pytest.raises(ows.OwsError, match="mapserver at .*, 500: no such layer: nope$"):
        ask(says(500, REPORT))
