"""A catalog as a MapServer mapfile (mapserver.org/mapfile).

The mapfile says `service=gis` for the database: address and password come from the container,
and so does `@HERE@`, the folder in which a version is unpacked.
"""

from __future__ import annotations

from ..settings import Lab
from .layers import Catalog, Layer, Rule, Style

TYPES = {"polygon": "POLYGON", "line": "LINE", "point": "POINT"}
SRS = "CRS:84 EPSG:4326 EPSG:3857"
# WFS has no name for CRS:84: MapServer would call it EPSG:4326, and clients exchange x and y
WFS_SRS = "EPSG:4326 EPSG:3857"

HEAD = """\
MAP
  NAME {name}
  EXTENT -180 -90 180 90
  SIZE 800 400
  MAXSIZE 4096
  UNITS DD
  # a pixel of 0.28 mm, as WMS 1.3 has it (OGC 06-042, 7.2.4.6.9): scales then agree everywhere
  RESOLUTION 90.71
  DEFRESOLUTION 90.71
  IMAGECOLOR "#dcebf2"
  FONTSET "/etc/gislab/fonts.txt"
  PROJECTION "init=epsg:4326" END
  CONFIG "MS_ERRORFILE" "stderr"
  OUTPUTFORMAT
    NAME "png"
    DRIVER "AGG/PNG"
    MIMETYPE "image/png"
    IMAGEMODE RGBA
    EXTENSION "png"
    # bytes cost less than a small processor's time
    FORMATOPTION "COMPRESSION=3"
  END
  OUTPUTFORMAT
    NAME "geojson"
    DRIVER "OGR/GEOJSON"
    MIMETYPE "application/json"
    FORMATOPTION "STORAGE=stream"
    FORMATOPTION "FORM=SIMPLE"
    FORMATOPTION "LCO:COORDINATE_PRECISION=7"
  END
  SYMBOL
    NAME "dot"
    TYPE ELLIPSE
    POINTS 1 1 END
    FILLED TRUE
  END
  WEB
    METADATA
      "ows_title" {title}
      "ows_abstract" {abstract}
      "ows_onlineresource" {url}
      "oga_onlineresource" {api}
      "ows_srs" "{srs}"
      "wfs_srs" "{wfs_srs}"
      "ows_enable_request" "*"
      "wms_rootlayer_name" ""
      "wms_feature_info_mime_type" "text/plain"
      "wfs_getfeature_formatlist" "geojson"
      "wfs_namespace_prefix" "{workspace}"
      "wfs_namespace_uri" "http://{workspace}"
    END
  END
"""

LAYER = """\
  LAYER
    NAME "{name}"
    TYPE {type}
    STATUS OFF
    CONNECTIONTYPE POSTGIS
    CONNECTION "service=gis"
    DATA '{geometry} from "{schema}"."{relation}" using unique {key} using srid={srid}'
    EXTENT {extent}
    PROJECTION "init=epsg:{srid}" END
    TEMPLATE "unused"
    METADATA
      "ows_title" {title}
      "ows_abstract" {abstract}
      "ows_extent" "{extent}"
      "ows_srs" "{srs}"
      "wfs_srs" "{wfs_srs}"
      "gml_include_items" "all"
      "gml_types" "auto"
      "gml_featureid" "{key}"
    END
{classes}  END
"""


def files(catalog: Catalog, lab: Lab) -> dict[str, str]:
    """Return the files of a version: the mapfile, and styles that are SLDs."""
    head = HEAD.format(name=catalog.workspace, workspace=catalog.workspace, srs=SRS,
                       wfs_srs=WFS_SRS,
                       title=_quote(catalog.title), abstract=_quote(catalog.abstract),
                       url=_quote(f"{lab.maps_url}/ows?"),
                       api=_quote(f"{lab.maps_url}/ows/catalog/ogcapi"))
    layers = "".join(_layer(layer, catalog.style(layer.style)) for layer in catalog.layers)
    return {"gis.map": head + layers + "END\n",
            **{f"styles/{style.name}.sld": style.sld for style in catalog.styles if style.sld}}


def _layer(layer: Layer, style: Style) -> str:
    classes = "".join(_class(rule, style.kind) for rule in style.rules)
    if style.sld:
        classes = f'    STYLEITEM "sld://@HERE@/styles/{style.name}.sld"\n'
    return LAYER.format(
        name=layer.name, type=TYPES[style.kind], geometry=layer.geometry, schema=layer.schema,
        relation=layer.relation, key=layer.key, srid=layer.srs.removeprefix("EPSG:"), srs=SRS,
        wfs_srs=WFS_SRS,
        extent=" ".join(f"{edge:.12g}" for edge in layer.native_extent),
        title=_quote(layer.title), abstract=_quote(layer.abstract), classes=classes)


def _class(rule: Rule, kind: str) -> str:
    lines = ["CLASS", f"  NAME {_quote(rule.title)}"]
    tests = [f"[{rule.column}] {sign} {value:.15g}"
             for sign, value in ((">=", rule.at_least), ("<", rule.below)) if value is not None]
    if tests:
        lines.append(f"  EXPRESSION ({' AND '.join(tests)})")
    if rule.min_scale is not None:
        lines.append(f"  MINSCALEDENOM {rule.min_scale:.15g}")
    if rule.max_scale is not None:
        lines.append(f"  MAXSCALEDENOM {rule.max_scale:.15g}")
    lines += [f"  {line}" for line in _symbols(rule, kind)]
    if rule.label:
        lines += [
            "  LABEL", f'    TEXT "[{rule.label}]"', '    FONT "sans"', "    TYPE TRUETYPE",
            f"    SIZE {rule.label_size * 0.75:g}",  # points here, pixels in the catalog
            f'    COLOR "{rule.label_colour}"', '    OUTLINECOLOR "#ffffff"',
            "    OUTLINEWIDTH 2", "    POSITION UC", "    PARTIALS FALSE",
            f"    OFFSET 0 {rule.size / 2 + 1:g}", "  END"]
    return "".join(f"    {line}\n" for line in [*lines, "END"])


def _symbols(rule: Rule, kind: str) -> list[str]:
    opacity = f"OPACITY {rule.opacity * 100:.0f}"
    border = [f'OUTLINECOLOR "{rule.stroke}"', f"WIDTH {rule.width:g}"] if rule.width else []
    if kind == "point":
        return _style('SYMBOL "dot"', f"SIZE {rule.size:g}", f'COLOR "{rule.fill}"', *border,
                      opacity)
    if kind == "line":
        return _style(f'COLOR "{rule.stroke}"', f"WIDTH {rule.width:g}", opacity)
    filled = _style(f'COLOR "{rule.fill}"', opacity)
    return filled + _style(*border) if border else filled


def _style(*words: str) -> list[str]:
    return ["STYLE", *(f"  {word}" for word in words), "END"]


def _quote(text: str) -> str:
    """Return `text` as a string of the mapfile; a line break would end it early."""
    return '"' + " ".join(text.split()).replace("\\", "/").replace('"', "'") + '"'
