"""A catalog becomes a mapfile that MapServer draws as it was meant."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gislab import catalog, settings
from gislab.catalog import Layer, Rule, Style, mapserver

LAB = settings.make({"map_server": "mapserver", "ports": {"maps": 8088}})


def mapfile(cat: catalog.Catalog) -> str:
    return mapserver.files(cat, LAB)["gis.map"]


def of(rule: Rule, kind: str = "point") -> str:
    cat = catalog.default()
    return mapfile(replace(cat, styles=(*cat.styles, Style("new", kind, (rule,)))).with_layer(
        Layer("new", "shed.new", "New", "new", geometry="shape", srs="EPSG:25832", key="fid")))


def test_the_address_is_the_vip():
    """Clients follow the address in the capabilities, so it is the VIP with its port."""
    text = mapfile(catalog.default())
    assert '"http://172.30.16.100:8088/ows?"' in text
    assert '"http://172.30.16.100:8088/ows/catalog/ogcapi"' in text


def test_the_database_is_named_by_the_container():
    """No address of a database and no password stand in the file."""
    text = mapfile(catalog.default())
    assert text.count('CONNECTION "service=gis"') == 5
    assert "password" not in text


def test_table_column_key_and_srs_are_the_layers():
    """A layer's own schema, geometry column, key and reference system are used."""
    text = of(Rule("all"))
    assert 'DATA \'shape from "shed"."new" using unique fid using srid=25832\'' in text
    assert 'PROJECTION "init=epsg:25832" END' in text


def test_a_rule_becomes_a_class():
    """Bounds, scales, colours and sizes arrive in MapServer's words."""
    text = of(Rule("big", fill="#112233", column="population", at_least=1e6, below=5e6,
                   min_scale=1000, max_scale=2.5e7, size=7, width=0, opacity=0.5))
    assert "EXPRESSION ([population] >= 1000000 AND [population] < 5000000)" in text
    assert "MAXSCALEDENOM 25000000" in text and "MINSCALEDENOM 1000" in text
    assert 'COLOR "#112233"' in text and "SIZE 7" in text and "OPACITY 50" in text


@pytest.mark.parametrize("kind, word", [("point", "SYMBOL"), ("line", "WIDTH"),
                                        ("polygon", "OUTLINECOLOR")])
def test_each_kind_is_drawn(kind, word):
    """Points have a symbol, lines a width, areas a border."""
    block = of(Rule("all"), kind).split('NAME "new"')[1]
    assert word in block


def test_a_label_is_drawn_from_its_column():
    """A rule with a label writes that column with a halo."""
    assert 'TEXT "[name]"' in of(Rule("all", label="name"))


def test_wfs_offers_no_system_that_it_would_call_by_the_name_of_another():
    """CRS:84 by WMS and OGC API; by WFS it would be sent as EPSG:4326, axes exchanged."""
    text = mapfile(catalog.default())
    assert set(re.findall('"ows_srs" "(.*)"', text)) == {"CRS:84 EPSG:4326 EPSG:3857"}
    assert re.findall('"wfs_srs" "(.*)"', text) == ["EPSG:4326 EPSG:3857"] * 6


@pytest.mark.parametrize("srs, native", [
    ("EPSG:25832", (356671, 5539110, 429831, 5651729)), ("EPSG:4326", (7, 50, 8, 51)),
    ("EPSG:3857", (779236, 6446276, 890556, 6621294))])
def test_a_layers_extent_is_told_in_its_own_system(srs, native):
    """MapServer takes it for units of the layer's PROJECTION, in EXTENT and in ows_extent."""
    text = mapfile(catalog.default().with_layer(
        Layer("new", "new", "New", "dots", srs=srs, extent=(7, 50, 8, 51)))).split('NAME "new"')[1]
    for told in (re.search("EXTENT (.*)", text)[1], re.search('"ows_extent" "(.*)"', text)[1]):
        assert [float(edge) for edge in told.split()] == pytest.approx(native, abs=1)


@pytest.mark.parametrize("hostile", ['a" END LAYER', "two\nlines", "back\\slash", "Ω ü 東京"])
def test_a_title_cannot_leave_its_quotes(hostile):
    """Whatever stands in a title stays a title."""
    cat = catalog.default()
    text = mapfile(cat.with_layer(replace(cat.layer("points"), title=hostile)))
    assert text.count("  LAYER\n") == 5
    assert all(line.count('"') % 2 == 0 for line in text.splitlines())
