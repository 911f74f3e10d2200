"""A bundle is the whole catalog in one file: the same bytes each time, and no secret in it."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from gislab import catalog, settings
from gislab.catalog import CatalogError, Layer, Rule, Style, bundle

LAB = settings.make({"map_server": "mapserver"})


def members(made: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


def test_equal_catalogs_give_equal_bytes():
    """Published twice, a catalog has one hash: the second time changes nothing."""
    assert bundle.render(catalog.default(), LAB) == bundle.render(catalog.default(), LAB)


def test_a_changed_catalog_has_another_hash():
    """Whoever publishes a new layer sees another hash at every server."""
    more = catalog.default().with_layer(Layer("wells", "wells", "Wells", "dots"))
    assert len({bundle.digest(bundle.render(c, LAB)) for c in (catalog.default(), more)}) == 2


def test_no_secret_is_in_a_bundle(tmp_path, monkeypatch):
    """Every map server may read it, and Consul keeps it."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    lab = settings.make({"map_server": "mapserver"})
    text = b"".join(members(bundle.render(catalog.default(), lab)).values())
    assert not [name for name in settings.SECRETS if lab.secret(name).encode() in text]


def test_either_map_server_finds_its_files():
    """A lab may change its map server and publish nothing anew."""
    names = set(members(bundle.render(catalog.default(), LAB)))
    assert {"mapserver/gis.map", "geoserver/workspaces/gis/workspace.xml"} <= names


def test_the_catalog_can_be_read_back():
    """What is published now can be changed and published again."""
    cat = catalog.default().with_style(Style("new", "line", (Rule("x", max_scale=5e4),))) \
        .with_layer(Layer("new", "lab.new", "Ω 東京", "new", extent=(1, 2, 3, 4.5)))
    assert bundle.read(bundle.render(cat, LAB)) == cat


def test_parts_are_small_and_make_the_whole_again():
    """Consul takes no value above 512 KiB."""
    made = random.Random(0).randbytes(1_200_000)
    parts = bundle.split(made, 500_000)
    assert [len(part) <= 500_000 for part in parts] == [True] * 3
    assert bundle.join(parts) == made and bundle.split(made, 500_000) == parts


def test_a_catalog_that_is_too_large_is_refused():
    with pytest.raises(CatalogError, match="publish fewer layers"):
        bundle.split(random.Random(0).randbytes(bundle.LARGEST + 1000), 500_000)


def test_a_thousand_layers_are_published():
    many = catalog.default()
    for i in range(1000):
        many = many.with_layer(Layer(f"layer_{i}", "points", "Points", "dots"))
    assert len(bundle.split(bundle.render(many, LAB), 500_000)) == 1
