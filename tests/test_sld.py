"""A style written by others is read before a map server gets it: it would only draw nothing."""

from __future__ import annotations

import pytest

from gislab.catalog import Rule, Style, default, geoserver, sld

ONE = """<?xml version="1.0" encoding="UTF-8"?>
<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld"
    xmlns:ogc="http://www.opengis.net/ogc"><NamedLayer><Name>wells</Name><UserStyle>
<FeatureTypeStyle><Rule><ogc:Filter><ogc:PropertyIsGreaterThan><ogc:PropertyName>depth
</ogc:PropertyName><ogc:Literal>5</ogc:Literal></ogc:PropertyIsGreaterThan></ogc:Filter>
<PointSymbolizer><Graphic><Mark><WellKnownName>circle</WellKnownName><Fill>
<CssParameter name="fill">#ff0000</CssParameter></Fill></Mark><Size>6</Size></Graphic>
</PointSymbolizer></Rule></FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"""
# as QGIS 3 exports a layer
ELEVEN = """<?xml version="1.0" encoding="UTF-8"?>
<StyledLayerDescriptor xmlns="http://www.opengis.net/sld" version="1.1.0"
    xmlns:ogc="http://www.opengis.net/ogc" xmlns:se="http://www.opengis.net/se">
<NamedLayer><se:Name>wells</se:Name><UserStyle><se:Name>wells</se:Name><se:FeatureTypeStyle>
<se:Rule><se:Name>Single symbol</se:Name><se:PolygonSymbolizer><se:Fill>
<se:SvgParameter name="fill">#1f78b4</se:SvgParameter></se:Fill><se:Stroke>
<se:SvgParameter name="stroke-width">1</se:SvgParameter></se:Stroke></se:PolygonSymbolizer>
</se:Rule></se:FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"""


@pytest.mark.parametrize("text", [ONE, ELEVEN], ids=["1.0", "1.1"])
def test_both_versions_are_taken(text):
    assert list(sld.problems(text)) == []


@pytest.mark.parametrize("style", default().styles, ids=lambda style: style.name)
def test_what_we_write_ourselves_is_taken(style):
    assert list(sld.problems(geoserver.sld(style))) == []


@pytest.mark.parametrize("before, after, words", [
    ("</Rule>", "", "is no XML: mismatched tag: line 8"),
    ("StyledLayerDescriptor", "Styles", "begins with <Styles>"),
    ('version="1.0.0"', 'version="2.0.0"', "version is '2.0.0'; say 1.0.0 or 1.1.0"),
    ("PointSymbolizer", "PointSymboliser", "unknown element <PointSymboliser>"),
    ("Graphic>", "ExternalGraphic>", "uses ExternalGraphic"),
    ("#ff0000", "red", "colour 'red'"),
    ("<StyledLayer", "<!DOCTYPE a [<!ENTITY b 'c'>]><StyledLayer", "DOCTYPE"),
    ("http://www.opengis.net/sld", "http://example.org", "begins with"),
])
def test_a_style_that_does_not_parse_is_told_with_its_mistake(before, after, words):
    """A map server would say nothing, and draw nothing."""
    said = list(sld.problems(ONE.replace(before, after)))
    assert any(words in line for line in said), said


def test_a_style_that_draws_nothing_is_told():
    start, end = ONE.index("<PointSymbolizer"), ONE.index("</PointSymbolizer>")
    assert ["nothing would be drawn" in line for line in sld.problems(
        ONE[:start] + ONE[end + len("</PointSymbolizer>"):])] == [True]


def test_the_columns_of_filters_and_labels_are_found():
    """They are looked for in the table before anything is published."""
    assert sld.columns(ONE) == {"depth"} and sld.columns(ELEVEN) == set()
    labelled = geoserver.sld(Style("s", "point", (Rule("x", label="name"),)))
    assert sld.columns(labelled) == {"name"}
    assert Style("s", "point", sld=ONE).columns == {"depth"}
