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


def test_wfs_has_what_the_schemas_of_its_features_are_made_with():
    """Without the address no insertion is read; and no column hides behind one of GML's."""
    wfs = ElementTree.fromstring(FILES["wfs.xml"])
    assert wfs.findtext("schemaBaseURL") == "http://schemas.opengis.net"
    told = {entry.findtext("version"): entry.findtext("gml/overrideGMLAttributes")
            for entry in wfs.iterfind("gml/entry")}
    assert told == {"V_10": "true", "V_11": "true", "V_20": "true"}


def test_what_nobody_publishes_is_off():
    """GeoServer offers WCS by itself; and tiles where no layer is tiled."""
    enabled = {tag: ElementTree.fromstring(FILES[f"{tag}.xml"]).findtext("enabled")
               for tag in ("wms", "wfs", "wcs", "wmts")}
    assert enabled == {"wms": "true", "wfs": "true", "wcs": "false", "wmts": "false"}


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


@pytest.mark.parametrize("srs, native", [
    ("EPSG:25832", (356671, 429831, 5539110, 5651729)), ("EPSG:4326", (7, 8, 50, 51)),
    ("EPSG:3857", (779236, 890556, 6446276, 6621294))])
def test_a_layers_box_is_told_in_its_own_system_and_in_degrees(srs, native):
    cat = catalog.default().with_layer(
        Layer("new", "new", "New", "dots", srs=srs, extent=(7, 50, 8, 51)))
    tree = ElementTree.fromstring(
        geoserver.files(cat, LAB)["workspaces/gis/public/new/featuretype.xml"])
    for tag, system, box in (("nativeBoundingBox", srs, native),
                             ("latLonBoundingBox", "EPSG:4326", (7, 8, 50, 51))):
        assert tree.findtext(f"{tag}/crs") == system
        assert [float(tree.findtext(f"{tag}/{edge}")) for edge in (
            "minx", "maxx", "miny", "maxy")] == pytest.approx(box, abs=1)


def test_both_servers_know_the_same_layers():
    """A notebook runs unchanged on either map server."""
    from gislab.catalog import mapserver
    cat = replace(catalog.default(), title="x")
    mapfile = mapserver.files(cat, LAB)["gis.map"]
    for layer in cat.layers:
        assert f'NAME "{layer.name}"' in mapfile
        assert f"workspaces/gis/{layer.schema}/{layer.name}/layer.xml" in FILES


OPEN = catalog.default().with_layer(Layer("wells", "wells", "Wells", "dots", writable=True,
                                          tiled=True))


def test_a_writable_layer_is_read_and_written_at_the_primary():
    """As the owner of the tables, and never behind; the others read from replicas as before."""
    made = geoserver.files(OPEN, LAB)
    text = made["workspaces/gis/public-primary/datastore.xml"]
    entry = {e.get("key"): e.text for e in ElementTree.fromstring(text).iter("entry")}
    assert (entry["port"], entry["user"]) == ("@PORT_PRIMARY@", "gis")
    assert entry["passwd"] == "plain:@GIS_PASSWORD@" and entry["schema"] == "public"
    assert "socketTimeout=4" in entry["database"]
    store = ElementTree.fromstring(
        made["workspaces/gis/public-primary/wells/featuretype.xml"]).findtext("store/id")
    assert store == ElementTree.fromstring(text).findtext("id") == "public-primary-store"
    assert made["workspaces/gis/public/datastore.xml"] == FILES[
        "workspaces/gis/public/datastore.xml"]


def test_only_the_editor_may_write_and_only_to_what_is_writable():
    """Everybody reads; writing is refused by default, at the service and at each layer."""
    made = geoserver.files(OPEN, LAB)
    assert ElementTree.fromstring(made["wfs.xml"]).findtext("serviceLevel") == "TRANSACTIONAL"
    assert made["security/layers.properties"].splitlines() == [
        "*.*.r=*", "*.*.w=ADMIN", "gis.wells.w=ROLE_EDITOR,ADMIN"]
    assert made["security/services.properties"] == "wfs.Transaction=ROLE_EDITOR,ADMIN\n"
    assert FILES["security/layers.properties"].splitlines() == ["*.*.r=*", "*.*.w=ADMIN"]
    assert "EDITOR" not in FILES["security/services.properties"]


def test_tiles_are_kept_of_tiled_layers_only():
    """With their names as GeoWebCache has them, and the id of the layer itself."""
    made = geoserver.files(OPEN, LAB)
    assert [path for path in made if path.startswith("gwc-layers/")] == [
        "gwc-layers/wells-layer.xml"]
    tree = ElementTree.fromstring(made["gwc-layers/wells-layer.xml"])
    layer = ElementTree.fromstring(made["workspaces/gis/public-primary/wells/layer.xml"])
    assert (tree.tag, tree.findtext("name")) == ("GeoServerTileLayer", "gis:wells")
    assert tree.findtext("id") == layer.findtext("id")
    assert catalog.tiles.GRID in [e.text for e in tree.iter("gridSetName")]
    assert not [path for path in FILES if path.startswith("gwc-layers/")]
    assert FILES["tiles"] == ""


def test_the_cache_is_bounded_and_off_where_nothing_is_tiled():
    """Below the 128 MiB of the stack's tmpfs; GeoWebCache's book costs memory and a start."""
    for made, enabled in ((geoserver.files(OPEN, LAB), "true"), (FILES, "false")):
        tree = ElementTree.fromstring(made["geowebcache-diskquota.xml"])
        assert tree.findtext("enabled") == enabled
        assert (tree.findtext("globalQuota/value"), tree.findtext("globalQuota/units")) == (
            "96", "MiB")
        assert ElementTree.fromstring(made["wmts.xml"]).findtext("enabled") == enabled


def test_tiles_of_a_layer_that_clients_write_to_are_kept_for_seconds():
    """Servers hear of our own transactions, but not of those of another program."""
    def kept(layer):
        made = geoserver.files(catalog.default().with_layer(layer), LAB)
        return ElementTree.fromstring(made[f"gwc-layers/{layer.name}-layer.xml"]).findtext(
            "expireCache")
    assert kept(OPEN.layer("wells")) == "10"
    assert kept(replace(OPEN.layer("wells"), writable=False)) == "0"


@pytest.mark.parametrize("change, empties", [
    (lambda cat: cat.with_style(Style("dots", "point", (Rule("x", fill="#ff0000"),))), True),
    (lambda cat: cat.with_layer(replace(cat.layer("wells"), table="other")), True),
    (lambda cat: cat.with_style(Style("land", "polygon", (Rule("x", fill="#ff0000"),))), False),
    (lambda cat: replace(cat, title="Other"), False),
    (lambda cat: cat.with_layer(replace(cat.layer("places"), title="Other")), False)])
def test_a_version_empties_the_tiles_that_are_drawn_otherwise_and_no_others(change, empties):
    """The container forgets a layer whose line in `tiles` is another one."""
    before, after = (geoserver.files(cat, LAB)["tiles"] for cat in (OPEN, change(OPEN)))
    assert before.startswith("gis:wells ") and (before != after) is empties


def test_catalogs_with_writable_and_tiled_layers_are_the_same_after_a_round_trip():
    from gislab.catalog import bundle
    assert bundle.read(bundle.render(OPEN, LAB)) == OPEN


@pytest.mark.parametrize("path", [p for p in geoserver.files(OPEN, LAB)
                                  if p.endswith(".xml") and p not in FILES])
def test_what_is_only_there_for_such_layers_is_xml(path):
    ElementTree.fromstring(geoserver.files(OPEN, LAB)[path].encode())
