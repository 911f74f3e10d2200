"""A catalog says what is published, and everything that is wrong with it at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gislab import catalog
from gislab.catalog import CatalogError, Layer, Rule, Style


def test_default_publishes_the_layers_of_the_lab():
    """All of the lab's tables, and the layer that health questions ask for."""
    assert [layer.name for layer in catalog.default().layers] == [
        "alive", "countries", "countries_50m", "places", "points"]


def test_with_layer_replaces_its_namesake():
    """A layer published again takes the place of the old one; the catalog given stays."""
    old = catalog.default()
    new = old.with_layer(replace(old.layer("points"), title="Other points"))
    assert len(new.layers) == len(old.layers)
    assert new.layer("points").title == "Other points"
    assert old.layer("points").title == "Points"


def test_an_unknown_layer_is_named_with_those_there_are():
    """A typing error in a name shows the names to choose from."""
    with pytest.raises(CatalogError, match="no layer 'city'.*places"):
        catalog.default().layer("city")


def with_style(**changes):
    base = catalog.default()
    return replace(base, styles=(*base.styles, Style(**{"name": "new", "kind": "point",
                                                        "rules": (Rule("all"),)} | changes)))


LAYER = {"name": "new", "table": "new", "title": "New", "style": "dots"}
BAD = {
    "layer name": (lambda: Layer(**LAYER | {"name": "New Layer"}), "'New Layer'.*small letters"),
    "table": (lambda: Layer(**LAYER | {"table": "a; drop table b"}), "no table name"),
    "three parts": (lambda: Layer(**LAYER | {"table": "a.b.c"}), "no table name"),
    "style": (lambda: Layer(**LAYER | {"style": "glitter"}), "no style 'glitter'; there are land"),
    "geometry": (lambda: Layer(**LAYER | {"geometry": 'g"'}), "column"),
    "key": (lambda: Layer(**LAYER | {"key": ""}), "column"),
    "srs": (lambda: Layer(**LAYER | {"srs": "4326"}), "say e.g. 'EPSG:4326'"),
    "extent": (lambda: Layer(**LAYER | {"extent": (9, 0, -9, 1)}), "west, south, east, north"),
    "no srs": (lambda: Layer(**LAYER | {"srs": "EPSG:99999"}), "'EPSG:99999': there is no such"),
    "globe": (lambda: Layer(**LAYER | {"srs": "EPSG:4978"}), "no system of a map, but WGS 84"),
    "metres": (lambda: Layer(**LAYER | {"srs": "EPSG:25832", "extent": (280e3, 52e5, 9e5, 61e5)}),
               "nothing of it is where EPSG:25832 is valid"),
    "elsewhere": (lambda: Layer(**LAYER | {"srs": "EPSG:25832", "extent": (100, 0, 120, 20)}),
                  r"extent is degrees|nothing of it is where EPSG:25832 is valid \(6, 36.53"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_layer_is_refused_with_the_remedy(case):
    """What would break a map server is found before anything is deployed."""
    make, words = BAD[case]
    with pytest.raises(CatalogError, match=words):
        catalog.validate(catalog.default().with_layer(make()))


@pytest.mark.parametrize("srs, extent, native", [
    ("EPSG:4326", (7, 50, 8, 51), (7, 50, 8, 51)),
    # by gdaltransform: lowest at the lower right corner, highest at the upper left one
    ("EPSG:25832", (7, 50, 8, 51), (356671, 5539110, 429831, 5651729)),
    ("EPSG:3857", (7, 50, 8, 51), (779236, 6446276, 890556, 6621294)),
    # of the whole world, what the system is valid for
    ("EPSG:4326", catalog.WORLD, catalog.WORLD),
    ("EPSG:3857", catalog.WORLD, (-20037508, -20048966, 20037508, 20048966)),
    ("EPSG:25832", catalog.WORLD, (231402, 4042736, 769494, 9330126)),
    # valid from 98.69 east across the date line to 68 west; its middle is 150 east
    ("EPSG:3832", catalog.WORLD, (-5711803, -8362699, 15807368, 10023392)),
    ("EPSG:3832", (-179, -10, -170, 10), (3450904, -1111475, 4452780, 1111475)),
])
def test_an_extent_in_degrees_becomes_one_in_the_layers_own_system(srs, extent, native):
    """What a map server is told of a layer in metres is metres."""
    layer = Layer(**LAYER | {"srs": srs, "extent": extent})
    catalog.validate(catalog.default().with_layer(layer))
    assert layer.native_extent == pytest.approx(native, abs=1)


@pytest.mark.parametrize("changes, words", [
    ({"kind": "cloud"}, "polygon, line, point"),
    ({"rules": ()}, "nothing would be drawn"),
    ({"rules": (Rule("x", fill="red"),)}, "colour 'red'"),
    ({"rules": (Rule("x", opacity=2),)}, "opacity is 0 to 1"),
    ({"rules": (Rule("x", size=0),)}, "pixels"),
    ({"rules": (Rule("x", at_least=5),)}, "column ''"),
    ({"rules": (Rule("x", column="a b", below=5),)}, "column 'a b'"),
    ({"rules": (Rule("x", label="[name]"),)}, "column"),
    ({"name": "dots"}, "style 'dots' is there twice"),
])
def test_a_bad_style_is_refused_with_the_remedy(changes, words):
    """Colours, sizes and columns are checked before they reach a mapfile or an SLD."""
    with pytest.raises(CatalogError, match=words):
        catalog.validate(with_style(**changes))


def test_a_catalog_without_alive_is_refused():
    """No health question could be answered, so nothing would ever be served."""
    base = catalog.default()
    with pytest.raises(CatalogError, match="catalog.default"):
        catalog.validate(replace(base, layers=base.layers[1:]))


def test_everything_that_is_wrong_is_told_at_once():
    """One line for each, so that one correction is enough."""
    bad = catalog.default().with_layer(Layer("a", "a", "A", "glitter")).with_layer(
        Layer("b", "b", "B", "dots", srs="WGS84")).with_style(Style("s", "point"))
    with pytest.raises(CatalogError) as caught:
        catalog.validate(bad)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["style s", "layer a", "layer b"]


@pytest.mark.parametrize("key, what", [("writable", "WFS-T"), ("tiled", "WMTS")])
def test_what_the_lab_cannot_do_is_said_before_publishing(key, what, paper, monkeypatch):
    """Not found out later, by a client; neither the database nor Consul is asked before."""
    words = "which MapServer does not have; leave it out"
    lab = replace(paper, map_server="mapserver")
    monkeypatch.setattr(catalog.tables.database, "connect", pytest.fail)
    monkeypatch.setattr(catalog.consul, "of", pytest.fail)
    asked = catalog.default().with_layer(Layer(**LAYER | {key: True}))
    for verb in (lambda: catalog.publish(lab, asked), lambda: catalog.put(lab, asked),
                 lambda: catalog.validate(asked, lab)):
        with pytest.raises(CatalogError) as caught:
            verb()
        assert str(caught.value) == f"layer new: {key}=True asks for {what}, {words}"
    catalog.validate(asked)  # by itself, whoever is to serve it
    catalog.layers.validate(asked, "geoserver")


def test_the_layer_of_the_health_questions_is_never_writable():
    """Whoever deleted its point would stop all maps."""
    alive = catalog.default().layer("alive")
    with pytest.raises(CatalogError, match="layer alive: .*leave writable out"):
        catalog.validate(catalog.default().with_layer(replace(alive, writable=True)))


def test_a_style_needs_rules_or_an_sld_and_not_both():
    for style, words in ((Style("s", "point"), "nothing would be drawn"),
                         (Style("s", "point", (Rule("x"),), sld="<a/>"), "say one of them"),
                         (Style("s", "point", sld="<a/>"), "style s: the SLD begins with <a>")):
        with pytest.raises(CatalogError, match=words):
            catalog.validate(catalog.default().with_style(style))
