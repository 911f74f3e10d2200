"""Styles as others write them: SLD 1.0 (OGC 02-070) and 1.1 (OGC 05-078r4 with SE, 05-077r4).

Map servers pass over in silence what they do not understand, and draw nothing; so a style is
read here first. The names of the elements are those of both versions' schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

SLD = "http://www.opengis.net/sld"
SE = "http://www.opengis.net/se"
FILTER = ("http://www.opengis.net/ogc", "http://www.opengis.net/fes/2.0")
SYMBOLIZERS = ("PointSymbolizer", "LineSymbolizer", "PolygonSymbolizer", "TextSymbolizer")
KNOWN = set(re.findall(r"\w+", """
    StyledLayerDescriptor NamedLayer UserStyle IsDefault FeatureTypeStyle FeatureTypeName
    SemanticTypeIdentifier Rule Name Title Abstract Description LegendGraphic ElseFilter
    MinScaleDenominator MaxScaleDenominator Geometry Stroke Fill GraphicFill GraphicStroke
    InitialGap Gap CssParameter SvgParameter Graphic Mark WellKnownName Size Opacity Rotation
    AnchorPoint AnchorPointX AnchorPointY Displacement DisplacementX DisplacementY Label Font
    LabelPlacement PointPlacement LinePlacement PerpendicularOffset IsRepeated IsAligned
    GeneralizeLine Halo Radius VendorOption Priority BaseSymbolizer Transformation
    """)) | set(SYMBOLIZERS)


def problems(text: str) -> Iterator[str]:
    """Say what would keep a map server from drawing by this SLD; each is one line."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        yield "the SLD has a DOCTYPE; remove it"
        return
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        yield f"the SLD is no XML: {error}; correct that line"
        return
    if root.tag != f"{{{SLD}}}StyledLayerDescriptor":
        yield (f"the SLD begins with <{_name(root.tag)}>; it must be a StyledLayerDescriptor of "
               f"{SLD}")
        return
    if root.get("version") not in ("1.0.0", "1.1.0"):
        yield f"the SLD's version is {root.get('version')!r}; say 1.0.0 or 1.1.0"
    names = [element.tag for element in root.iter()]
    for tag in dict.fromkeys(names):
        space, name = tag[1:].partition("}")[::2] if tag.startswith("{") else ("", tag)
        if name in ("ExternalGraphic", "UserLayer", "RasterSymbolizer"):
            yield f"the SLD uses {name}, which these map servers are not given; leave it out"
        elif space not in (SLD, SE, *FILTER) or (space in (SLD, SE) and name not in KNOWN):
            yield f"the SLD has an unknown element <{name}>; see OGC 02-070 for those there are"
    if names.count(f"{{{SLD}}}NamedLayer") != 1:
        yield f"the SLD has {names.count(f'{{{SLD}}}NamedLayer')} NamedLayers; it needs one"
    if not any(_name(tag) in SYMBOLIZERS for tag in names):
        yield "the SLD has no rule with a symbolizer, so nothing would be drawn"
    for element in root.iter():
        if element.get("name") in ("fill", "stroke") and not len(element) and not re.fullmatch(
                r"#[0-9a-fA-F]{6}", (element.text or "").strip()):
            yield f"the SLD has the colour {(element.text or '').strip()!r}; say e.g. '#f3efe4'"


def columns(text: str) -> set[str]:
    """Return the columns that the filters and labels of an SLD speak of."""
    try:
        root = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError:
        return set()
    found = {(e.text or "").strip().rpartition(":")[2].rpartition("/")[2] for e in root.iter()
             if _name(e.tag) in ("PropertyName", "ValueReference")}
    return found - {""}


def version(text: str) -> str:
    """Return the version that an SLD says it is of: 1.0.0 or 1.1.0."""
    return ElementTree.fromstring(text.encode()).get("version", "1.0.0")


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
