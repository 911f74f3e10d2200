"""A catalog becomes a data directory that GeoServer takes without a REST call."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gislab import catalog, settings
from gislab.catalog import Layer, Rule, Style, geoserver, layers

LAB = settings.make({"map_server": "geoserver"})
SLD = {"s": "http://www.opengis.net/sld", "o": "http://www.opengis.net/ogc"}
FILES = geoserver.files(catalog.default(), LAB)


def entries(path: str) -> dict[str, str]:
    return {e.get("key"): e.text for e in ElementTree.fromstring(FILES[path]).iter("entry")}


@pytest.mark.parametrize("path", sorted(p for p in FILES if p.endswith((".xml", ".sld"))))
def test_every_file_is_xml(path):
    """GeoServer would drop what it cannot parse, and say so only in its log."""
    ElementTree.fromstring(FILES[path].encode())


def test_every_reference_leads_somewhere():
    """Each id that a file refers to is the id of another file."""
    trees = [ElementTree.fromstring(text.encode()) for path, text in FILES.items()
             if path.startswith("workspaces") and path.endswith(".xml")]
    known = {tree.findtext("id") for tree in trees}
    asked = {e.text for tree in trees for part in tree for e in part.iter("id") if e is not part}
    assert asked and asked <= known


def test_each_layer_has_its_files():
    """A feature type and a layer, in the folder of the schema's store."""
    for layer in catalog.default().layers:
        for file in ("featuretype.xml", "layer.xml"):
            assert f"workspaces/gis/{layer.schema}/{layer.name}/{file}" in FILES


def test_the_database_is_read_as_reader_and_every_wait_is_bounded():
    """At the VIP's read-only port, as `reader`, never waiting for minutes."""
    made = entries("workspaces/gis/public/datastore.xml")
    assert made["user"] == "reader"
    assert made["port"] == "@PORT_REPLICAS@"
    assert made["passwd"] == "plain:@READER_PASSWORD@"
    for word in ("connectTimeout=2", "socketTimeout=4", "tcpKeepAlive=true"):
        assert word in made["database"]
    assert made["database"].endswith("ApplicationName=geoserver")


def test_each_schema_has_a_store():
    """lab.alive is in another schema than the data."""
    assert entries("workspaces/gis/lab/datastore.xml")["schema"] == "lab"
    assert entries("workspaces/gis/public/datastore.xml")["schema"] == "public"


def test_rest_is_for_the_administrator_from_the_first_start():
    """Without this file every REST call is refused until a restart (403)."""
    assert FILES["security/rest.properties"].splitlines() == [
        "/**;GET=ROLE_ADMINISTRATOR", "/**;POST,DELETE,PUT=ROLE_ADMINISTRATOR"]


def test_nothing_can_be_written():
    """WFS answers questions and takes no transactions."""
    assert ElementTree.fromstring(FILES["wfs.xml"]).findtext("serviceLevel") == "BASIC"


def test_the_address_is_the_vip():
    """Capabilities name the VIP, not a container."""
    assert FILES["proxy-base-url"] == "http://172.30.16.100/geoserver\n"


def test_a_rule_becomes_an_sld_rule():
    """Bounds, scales, colours and sizes arrive in SLD's words."""
    rule = Rule("big & bold", fill="#112233", column="population", at_least=1e6, below=5e6,
                max_scale=2.5e7, size=7, label="name")
    made = ElementTree.fromstring(geoserver.sld(Style("new", "point", (rule,))).encode())
    assert [e.text for e in made.iterfind(".//o:Literal", SLD)] == ["1000000", "5000000"]
    assert made.findtext(".//s:MaxScaleDenominator", namespaces=SLD) == "25000000"
    assert made.findtext(".//s:Size", namespaces=SLD) == "7"
    assert made.findtext(".//s:Rule/s:Title", namespaces=SLD) == "big & bold"
    assert made.find(".//s:TextSymbolizer", SLD) is not None


@pytest.mark.parametrize("kind", layers.KINDS)
def test_each_kind_has_its_symbolizer(kind):
    """Points, lines and areas are drawn as such."""
    made = ElementTree.fromstring(geoserver.sld(Style("new", kind, (Rule("all"),))).encode())
    assert made.find(f".//s:{kind.title()}Symbolizer", SLD) is not None


def test_a_hostile_title_stays_a_title():
    """Whatever stands in a title is text, not XML."""
    title = "<a> & \"b\" ]]> 東京"
    cat = catalog.default().with_layer(Layer("new", "new", title, "dots"))
    text = geoserver.files(cat, LAB)["workspaces/gis/public/new/featuretype.xml"]
    assert ElementTree.fromstring(text.encode()).findtext("title") == title


def test_both_servers_know_the_same_layers():
    """A notebook runs unchanged on either map server."""
    from gislab.catalog import mapserver
    cat = replace(catalog.default(), title="x")
    mapfile = mapserver.files(cat, LAB)["gis.map"]
    for layer in cat.layers:
        assert f'NAME "{layer.name}"' in mapfile
        assert f"workspaces/gis/{layer.schema}/{layer.name}/layer.xml" in FILES
