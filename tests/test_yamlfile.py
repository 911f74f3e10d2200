"""A catalog written down as YAML is the same as one made in Python."""

from __future__ import annotations

import pytest

from gislab import catalog
from gislab.catalog import CatalogError, Layer, Rule, Style

WELLS = """
with: default
title: Wells
layers:
  wells: {table: lab.wells, title: Wells, style: blue, srs: "EPSG:25832", extent: [5, 47, 15, 55]}
styles:
  blue:
    kind: point
    rules:
      - {title: deep, fill: "#2f6f8f", column: depth, at_least: 100}
"""


@pytest.fixture
def read(tmp_path):
    def go(text: str) -> catalog.Catalog:
        (tmp_path / "wells.yml").write_text(text)
        return catalog.read(tmp_path / "wells.yml")
    return go


def test_it_is_what_python_would_have_made(read):
    from dataclasses import replace
    assert read(WELLS) == replace(catalog.default(), title="Wells").with_style(
        Style("blue", "point", (Rule("deep", fill="#2f6f8f", column="depth", at_least=100),))
    ).with_layer(Layer("wells", "lab.wells", "Wells", "blue", srs="EPSG:25832",
                       extent=(5, 47, 15, 55)))


def test_without_the_labs_own_layers_only_alive_is_there(read):
    """Health questions ask for it."""
    cat = read(WELLS.replace("with: default", ""))
    assert [layer.name for layer in cat.layers] == ["alive", "wells"]
    catalog.validate(cat)


def test_an_sld_is_a_file_beside_it_or_the_text(read, tmp_path):
    (tmp_path / "blue.sld").write_text("<a/>")
    beside = "styles: {blue: {kind: point, sld: blue.sld}}"
    inline = "styles: {blue: {kind: point, sld: '<a/>'}}"
    assert read(beside).style("blue").sld == read(inline).style("blue").sld == "<a/>"


@pytest.mark.parametrize("text, words", [
    ("layers: [", "is no YAML: .*line 1"),
    ("- a", "is no table of names and values"),
    ("layers: {a: {table: a, title: A, style: s, colour: red}}", "no key layers.a.colour; there"),
    ("layers: {a: {table: a, title: A}}", "layers.a has no style"),
    ("layers: {a: {table: 5, title: A, style: s}}", r"layers.a.table = 5; say a text"),
    ("layers: {a: {table: a, title: A, style: s, tiled: maybe}}", "say true or false"),
    ("layers: {a: {table: a, title: A, style: s, extent: [1, 2]}}", "west, south, east, north"),
    ("styles: {s: {kind: point, rules: [{title: x, size: big}]}}",
     r"styles.s.rules\[0\].size = 'big'; say a number"),
    ("styles: {s: {kind: point, rules: 5}}", "styles.s.rules is no list"),
    ("styles: {s: {kind: point, sld: gone.sld}}", "styles.s.sld = 'gone.sld': cannot be read"),
    ("with: everything", "say default, or leave it out"),
    ("tables: {}", "no key tables; there are"),
])
def test_a_mistake_is_told_with_its_place(read, text, words):
    with pytest.raises(CatalogError, match=words):
        read(text)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CatalogError, match="cannot be read"):
        catalog.read(tmp_path / "gone.yml")
