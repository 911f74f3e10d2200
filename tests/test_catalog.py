"""A catalog says what is published, refuses what cannot be, and renders to the same bytes."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest

from gislab import catalog, settings
from gislab.catalog import CatalogError, Layer, Rule, Style


def lab(server: str) -> settings.Lab:
    return settings.make({"map_server": server})


def members(bundle: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


@pytest.mark.parametrize("server", ["mapserver", "geoserver"])
def test_equal_catalogs_give_equal_bytes(server):
    """Rendered twice, a catalog has one hash: a second deploy changes nothing."""
    bundles = {catalog.render(catalog.default(), lab(server)) for _ in range(2)}
    assert len(bundles) == 1
    assert len(catalog.version(bundles.pop())) == 12


def test_a_changed_catalog_has_another_version():
    """Whoever publishes a new layer sees another hash at /catalog."""
    more = catalog.default().with_layer(Layer("wells", "wells", "Wells", "dots"))
    versions = {catalog.version(catalog.render(c, lab("mapserver")))
                for c in (catalog.default(), more)}
    assert len(versions) == 2


@pytest.mark.parametrize("server", ["mapserver", "geoserver"])
def test_no_password_is_in_a_bundle(server, tmp_path, monkeypatch):
    """A Swarm config can be read by whoever may inspect it: the bundle holds no secret."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    made = lab(server)
    text = b"".join(members(catalog.render(catalog.default(), made)).values())
    for name in settings.SECRETS:
        assert made.secret(name).encode() not in text


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
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_layer_is_refused_with_the_remedy(case):
    """What would break a map server is found before anything is deployed."""
    make, words = BAD[case]
    with pytest.raises(CatalogError, match=words):
        catalog.validate(catalog.default().with_layer(make()))


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


def test_a_catalog_too_large_for_a_swarm_config_is_refused():
    """Swarm would say so in the middle of a deploy; here it comes first."""
    many = catalog.default()
    many = replace(many, layers=many.layers + tuple(
        Layer(f"layer_{i}", "points", "Points", "dots") for i in range(900)))
    with pytest.raises(CatalogError, match="publish fewer"):
        catalog.render(many, lab("mapserver"))
