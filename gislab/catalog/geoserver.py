"""A catalog as a complete GeoServer data directory, so that no REST call is needed.

GeoServer reads it at its start, and again when told to (docs.geoserver.org, "Structure of the
data directory"). Each server has a directory of its own: two that write to one overwrite each
other. `@...@` is filled in by the container: addresses and passwords are not in here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from xml.sax.saxutils import escape

from ..settings import Lab
from .layers import Catalog, Layer, Rule, Style
from .sld import version

# Every wait for the database is bounded, else a Pi without power would hold requests for
# minutes. The last parameter swallows the "?..." that GeoServer's driver appends.
BOUNDED = "?connectTimeout=2&socketTimeout=4&tcpKeepAlive=true&ApplicationName=geoserver"
CONNECTION = {
    "dbtype": "postgis", "host": "@VIP@", "port": "@PORT_REPLICAS@",
    "database": "@DATABASE@" + BOUNDED, "user": "reader", "passwd": "plain:@READER_PASSWORD@",
    "min connections": "1", "max connections": "6", "Connection timeout": "2",
    "validate connections": "true",  # spares the first failures after a failover
    "Test while idle": "true", "Evictor run periodicity": "5", "Max connection idle time": "30",
    "fetch size": "1000", "Loose bbox": "true", "Estimated extends": "true",
    "preparedStatements": "false", "Expose primary keys": "true", "encode functions": "true",
    "Support on the fly geometry simplification": "true",
}
# A layer that clients write to is read from the primary as well: else a server whose replica is
# behind would show the state before.
PRIMARY = {"port": "@PORT_PRIMARY@", "user": "gis", "passwd": "plain:@GIS_PASSWORD@"}
EDITOR = "ROLE_EDITOR"  # of the user `editor`, whom the container makes from a secret
GRIDS = ("EPSG:900913", "EPSG:4326")  # of tiles; GeoWebCache's name for Web Mercator
# Seconds for which a tile of a writable layer is kept: other servers learn of a transaction from
# `ows.transact`, but not of one that another client sent.
EXPIRE = 10
# Of the tmpfs of 128 MiB in which a container keeps its tiles, counted as its memory; the rest is
# for GeoWebCache's book of them, and for what comes between two of its looks.
QUOTA = """\
<gwcQuotaConfiguration>
  <enabled>{enabled}</enabled>
  <cacheCleanUpFrequency>5</cacheCleanUpFrequency>
  <cacheCleanUpUnits>SECONDS</cacheCleanUpUnits>
  <maxConcurrentCleanUps>1</maxConcurrentCleanUps>
  <globalExpirationPolicyName>LRU</globalExpirationPolicyName>
  <globalQuota><value>96</value><units>MiB</units></globalQuota>
  <quotaStore>HSQL</quotaStore>
</gwcQuotaConfiguration>
"""
REST = """\
/**;GET=ROLE_ADMINISTRATOR
/**;POST,DELETE,PUT=ROLE_ADMINISTRATOR
"""
# Else a column named as something that GML has for every feature, e.g. `name`, becomes that, and
# the schema does not tell of it: clients that go by the schema would not see the column.
GML = "<gml>" + "".join(
    f"<entry><version>{version}</version><gml><srsNameStyle>{style}</srsNameStyle>"
    "<overrideGMLAttributes>true</overrideGMLAttributes></gml></entry>"
    for version, style in (("V_10", "XML"), ("V_11", "URN"), ("V_20", "URN2"))) + "</gml>"
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
SLD = HEAD + """\
<StyledLayerDescriptor version="1.0.0" xmlns="http://www.opengis.net/sld"
    xmlns:ogc="http://www.opengis.net/ogc">
<NamedLayer><Name>{name}</Name><UserStyle><Title>{title}</Title><FeatureTypeStyle>
{rules}</FeatureTypeStyle></UserStyle></NamedLayer>
</StyledLayerDescriptor>
"""


def files(catalog: Catalog, lab: Lab) -> dict[str, str]:
    """Return the data directory: path -> content."""
    space = catalog.workspace
    root = f"workspaces/{space}"
    workspace = _xml("workspace", id=f"{space}-ws", name=space)
    writable = [layer for layer in catalog.layers if layer.writable]
    tiled = [layer for layer in catalog.layers if layer.tiled]
    made = {
        # for the option PROXY_BASE_URL. There is no global.xml: what it must hold differs from
        # release to release, and what GeoServer makes by itself is right
        "proxy-base-url": f"{lab.maps_url}/geoserver\n",
        "wms.xml": _service("wms", "WMS", catalog),
        # BASIC: nothing is written, whoever asks
        "wfs.xml": _service("wfs", "WFS", catalog,
                            serviceLevel="TRANSACTIONAL" if writable else "BASIC"),
        "wmts.xml": _service("wmts", "WMTS", catalog, enabled=bool(tiled)),
        "wcs.xml": _service("wcs", "WCS", catalog, enabled=False),  # there is no coverage
        "geowebcache-diskquota.xml": HEAD + QUOTA.format(enabled=str(bool(tiled)).lower()),
        "gwc-gs.xml": HEAD + "<GeoServerGWCConfig><version>1.1.0</version>"
        "<directWMSIntegrationEnabled>false</directWMSIntegrationEnabled>"
        "<WMSCEnabled>false</WMSCEnabled><TMSEnabled>false</TMSEnabled>"
        "<cacheLayersByDefault>false</cacheLayersByDefault></GeoServerGWCConfig>\n",
        # what is served from tiles, and what they were drawn by: the container empties others
        "tiles": "".join(f"{space}:{layer.name} {_mark(layer, catalog)}\n"
                         for layer in tiled),
        "logging.xml": _xml("logging", level="PRODUCTION_LOGGING",
                            location="logs/geoserver.log", stdOutLogging="false"),
        "security/rest.properties": REST,
        "security/layers.properties": "*.*.r=*\n*.*.w=ADMIN\n" + "".join(
            f"{space}.{layer.name}.w={EDITOR},ADMIN\n" for layer in writable),
        # without a writable layer WFS itself refuses, and says so in its own words
        "security/services.properties":
            f"wfs.Transaction={EDITOR},ADMIN\n" if writable else "# nothing is written\n",
        "workspaces/default.xml": workspace,
        f"{root}/workspace.xml": workspace,
        f"{root}/namespace.xml": _xml("namespace", id=f"{space}-ns", prefix=space,
                                      uri=f"http://{space}"),
    }
    for style in catalog.styles:
        made[f"{root}/styles/{style.name}.sld"] = style.sld or sld(style)
        spoken = version(style.sld) if style.sld else "1.0.0"
        made[f"{root}/styles/{style.name}.xml"] = _xml(
            "style", id=f"{style.name}-style", name=style.name,
            _workspace=f"<workspace><id>{space}-ws</id></workspace>",
            format="sld",
            _version=f"<languageVersion><version>{spoken}</version></languageVersion>",
            filename=f"{style.name}.sld")
    for layer in {_store_name(layer): layer for layer in catalog.layers}.values():
        made[f"{root}/{_store_name(layer)}/datastore.xml"] = _store(space, layer)
    for layer in catalog.layers:
        folder = f"{root}/{_store_name(layer)}/{layer.name}"
        made[f"{folder}/featuretype.xml"] = _feature_type(space, layer)
        made[f"{folder}/layer.xml"] = _xml(
            "layer", name=layer.name, id=f"{layer.name}-layer", type="VECTOR",
            _style=f"<defaultStyle><id>{layer.style}-style</id></defaultStyle>",
            _resource=f'<resource class="featureType"><id>{layer.name}-ft</id></resource>',
            _more="<attribution><logoWidth>0</logoWidth><logoHeight>0</logoHeight>"
                  "</attribution>")
        if layer.tiled:
            made[f"gwc-layers/{layer.name}-layer.xml"] = _tiled(space, layer)
    return made


def sld(style: Style) -> str:
    """Return a style as SLD 1.0 (OGC 02-070)."""
    return SLD.format(name=style.name, title=escape(style.title or style.name),
                      rules="".join(_rule(rule, style.kind) for rule in style.rules))


def _rule(rule: Rule, kind: str) -> str:
    tests = [f"<ogc:{test}><ogc:PropertyName>{rule.column}</ogc:PropertyName>"
             f"<ogc:Literal>{value:.15g}</ogc:Literal></ogc:{test}>"
             for test, value in (("PropertyIsGreaterThanOrEqualTo", rule.at_least),
                                 ("PropertyIsLessThan", rule.below)) if value is not None]
    both = "".join(tests) if len(tests) < 2 else f"<ogc:And>{''.join(tests)}</ogc:And>"
    parts = [f"<Title>{escape(rule.title)}</Title>"]
    if both:
        parts.append(f"<ogc:Filter>{both}</ogc:Filter>")
    for tag, value in (("Min", rule.min_scale), ("Max", rule.max_scale)):
        if value is not None:
            parts.append(f"<{tag}ScaleDenominator>{value:.15g}</{tag}ScaleDenominator>")
    parts.append(_symbolizer(rule, kind))
    if rule.label:
        parts.append(_label(rule))
    return f"<Rule>{''.join(parts)}</Rule>\n"


def _symbolizer(rule: Rule, kind: str) -> str:
    fill = f"<Fill>{_css('fill', rule.fill)}{_css('fill-opacity', rule.opacity)}</Fill>"
    stroke = (f"<Stroke>{_css('stroke', rule.stroke)}{_css('stroke-width', rule.width)}"
              f"{_css('stroke-opacity', rule.opacity)}</Stroke>" if rule.width else "")
    if kind == "point":
        return (f"<PointSymbolizer><Graphic><Mark><WellKnownName>circle</WellKnownName>{fill}"
                f"{stroke}</Mark><Size>{rule.size:g}</Size></Graphic></PointSymbolizer>")
    if kind == "line":
        return f"<LineSymbolizer>{stroke}</LineSymbolizer>"
    return f"<PolygonSymbolizer>{fill}{stroke}</PolygonSymbolizer>"


def _label(rule: Rule) -> str:
    return (f"<TextSymbolizer><Label><ogc:PropertyName>{rule.label}</ogc:PropertyName></Label>"
            f"<Font>{_css('font-family', 'DejaVu Sans')}{_css('font-size', rule.label_size)}"
            "</Font><LabelPlacement><PointPlacement><AnchorPoint><AnchorPointX>0.5</AnchorPointX>"
            "<AnchorPointY>0</AnchorPointY></AnchorPoint><Displacement><DisplacementX>0"
            f"</DisplacementX><DisplacementY>{rule.size / 2 + 1:g}</DisplacementY></Displacement>"
            "</PointPlacement></LabelPlacement><Halo><Radius>1</Radius><Fill>"
            f"{_css('fill', '#ffffff')}</Fill></Halo><Fill>{_css('fill', rule.label_colour)}"
            "</Fill><VendorOption name=\"autoWrap\">90</VendorOption></TextSymbolizer>")


def _css(name: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, float | int) else value
    return f'<CssParameter name="{name}">{text}</CssParameter>'


def _service(tag: str, name: str, catalog: Catalog, *, enabled: bool = True,
             **more: object) -> str:
    extra = {"wms": {"_srs": "<srs><string>4326</string><string>3857</string></srs>",
                     "maxRequestMemory": 65536, "maxRenderingTime": 30},
             "wfs": {"maxFeatures": 1000000, "featureBounding": "false",
                     # without it no insertion can be read; nothing is asked there
                     "schemaBaseURL": "http://schemas.opengis.net", "_gml": GML}}.get(tag, {})
    return _xml(tag, id=f"{tag}-service", enabled=str(enabled).lower(), name=name,
                title=escape(catalog.title), abstrct=escape(catalog.abstract),
                citeCompliant="false", **extra, **more)


def _store_name(layer: Layer) -> str:
    """Return the store of a layer: its schema; no schema that we take has a dash in its name."""
    return layer.schema + ("-primary" if layer.writable else "")


def _store(space: str, layer: Layer) -> str:
    entries = {**CONNECTION, "schema": layer.schema, "namespace": f"http://{space}"}
    if layer.writable:
        entries |= PRIMARY
    name = _store_name(layer)
    inside = "".join(f'<entry key="{key}">{escape(value)}</entry>'
                     for key, value in sorted(entries.items()))
    return _xml("dataStore", id=f"{name}-store", name=name, type="PostGIS", enabled="true",
                _workspace=f"<workspace><id>{space}-ws</id></workspace>",
                _parameters=f"<connectionParameters>{inside}</connectionParameters>")


def _feature_type(space: str, layer: Layer) -> str:
    return _xml(
        "featureType", id=f"{layer.name}-ft", name=layer.name, nativeName=layer.relation,
        _namespace=f"<namespace><id>{space}-ns</id></namespace>", title=escape(layer.title),
        abstract=escape(layer.abstract), srs=layer.srs,
        # given, so that capabilities ask the database nothing
        _boxes=_box("nativeBoundingBox", layer.native_extent, layer.srs)
               + _box("latLonBoundingBox", layer.extent, "EPSG:4326"),
        projectionPolicy="FORCE_DECLARED", enabled="true",
        _store=f'<store class="dataStore"><id>{_store_name(layer)}-store</id></store>',
        maxFeatures=0, numDecimals=7, overridingServiceSRS="false", skipNumberMatched="true")


def _box(tag: str, box: tuple[float, float, float, float], srs: str) -> str:
    west, south, east, north = (f"{edge:.12g}" for edge in box)
    return (f"<{tag}><minx>{west}</minx><maxx>{east}</maxx><miny>{south}</miny>"
            f"<maxy>{north}</maxy><crs>{srs}</crs></{tag}>")


def _tiled(space: str, layer: Layer) -> str:
    """Return what GeoWebCache is to know of a layer; its id is the layer's own."""
    grids = "".join(f"<gridSubset><gridSetName>{grid}</gridSetName></gridSubset>"
                    for grid in GRIDS)
    return _xml("GeoServerTileLayer", enabled="true", id=f"{layer.name}-layer",
                name=f"{space}:{layer.name}",
                _formats="<mimeFormats><string>image/png</string></mimeFormats>",
                _grids=f"<gridSubsets>{grids}</gridSubsets>",
                # 16 tiles are drawn at once: a name is then written once, not in each
                _meta="<metaWidthHeight><int>4</int><int>4</int></metaWidthHeight>",
                expireCache=EXPIRE if layer.writable else 0, expireClients=0, gutter=0)


def _mark(layer: Layer, catalog: Catalog) -> str:
    """Return what changes whenever tiles that were drawn before are not right any more."""
    drawn_by = [dataclasses.asdict(layer), dataclasses.asdict(catalog.style(layer.style))]
    return hashlib.sha256(json.dumps(drawn_by).encode()).hexdigest()[:16]


def _xml(tag: str, **parts: object) -> str:
    """Return an element; a part whose name begins with _ is XML already."""
    inside = "".join(f"  {text}\n" if key.startswith("_") else f"  <{key}>{text}</{key}>\n"
                     for key, text in parts.items())
    return f"{HEAD}<{tag}>\n{inside}</{tag}>\n"
