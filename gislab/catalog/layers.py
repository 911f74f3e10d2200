"""What can be published: layers and their styles, the same for MapServer and GeoServer.

A catalog is plain data; what is wrong with it by itself is told here, without asking anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from . import extents, sld

WORLD = (-180.0, -90.0, 180.0, 90.0)
ALIVE = "alive"  # the layer that health questions ask for; the database always has it
KINDS = ("polygon", "line", "point")


class CatalogError(ValueError):
    """A catalog cannot be published as it is; each line names a part and the remedy."""


@dataclass(frozen=True)
class Rule:
    """How features look; of all features, or of those with at_least <= column < below.

    Sizes and widths are pixels. `min_scale` and `max_scale` are scale denominators: the rule
    draws between 1:min_scale and 1:max_scale. `label` is a column.
    """

    title: str
    fill: str = "#f3efe4"
    stroke: str = "#a79f8d"
    width: float = 0.7
    opacity: float = 1.0
    size: float = 6.0
    column: str = ""
    at_least: float | None = None
    below: float | None = None
    min_scale: float | None = None
    max_scale: float | None = None
    label: str = ""
    label_size: float = 9.0
    label_colour: str = "#3d3a33"


@dataclass(frozen=True)
class Style:
    """Rules of ours, or the text of an SLD 1.0 or 1.1 as QGIS and others write it."""

    name: str
    kind: str  # "polygon", "line" or "point"
    rules: tuple[Rule, ...] = ()
    title: str = ""
    sld: str = ""

    @property
    def columns(self) -> set[str]:
        """The columns that a table must have to be drawn like this."""
        if self.sld:
            return sld.columns(self.sld)
        return {name for rule in self.rules for name in (rule.column, rule.label) if name}


@dataclass(frozen=True)
class Layer:
    """One table, published under a name; `extent` is west, south, east, north in degrees."""

    name: str
    table: str  # "countries" or "lab.alive"
    title: str
    style: str
    abstract: str = ""
    geometry: str = "geom"
    srs: str = "EPSG:4326"
    extent: tuple[float, float, float, float] = WORLD
    key: str = "id"  # a column that tells features apart
    writable: bool = False  # whoever has the editor's password may change features (WFS-T)
    tiled: bool = False  # pictures are kept as tiles (WMTS)

    @property
    def schema(self) -> str:
        return self.table.rpartition(".")[0] or "public"

    @property
    def relation(self) -> str:
        return self.table.rpartition(".")[2]

    @property
    def native_extent(self) -> tuple[float, float, float, float]:
        """The extent in units of `srs`: least x, least y, most x, most y."""
        return extents.native(self.extent, self.srs)


@dataclass(frozen=True)
class Catalog:
    """What is published, and how it looks; a value, so a change is a new one."""

    layers: tuple[Layer, ...]
    styles: tuple[Style, ...]
    title: str = "gislab"
    abstract: str = "Maps of a lab of Raspberry Pis"
    workspace: str = "gis"

    def layer(self, name: str) -> Layer:
        return _named(self.layers, name, "layer")

    def style(self, name: str) -> Style:
        return _named(self.styles, name, "style")

    def with_layer(self, layer: Layer) -> Catalog:
        """Return a catalog with `layer` added, or put in the place of its namesake."""
        others = tuple(known for known in self.layers if known.name != layer.name)
        return replace(self, layers=(*others, layer))

    def with_style(self, style: Style) -> Catalog:
        """Return a catalog with `style` added, or put in the place of its namesake."""
        others = tuple(known for known in self.styles if known.name != style.name)
        return replace(self, styles=(*others, style))


def default() -> Catalog:
    """Return what every lab publishes: `alive` and the lab's own data."""
    land = Style("land", "polygon", (Rule("land"),), "Land, thin borders")
    places = Style("cities", "point", tuple(
        Rule(title, fill="#c8553d", stroke="#ffffff", width=0.6, opacity=0.9, size=size,
             column="population", at_least=low, below=high, max_scale=scale, label=label,
             label_size=label_size)
        for title, low, high, size, scale, label, label_size in (
            ("over 5 million", 5e6, None, 9, None, "name", 10),
            ("1 to 5 million", 1e6, 5e6, 6, None, "", 9),
            ("200,000 to 1 million", 2e5, 1e6, 4, 5e7, "", 9),
            ("under 200,000", None, 2e5, 2.8, 1e7, "", 9))), "Cities by population")
    dots = Style("dots", "point", (
        Rule("point", fill="#2f6f8f", stroke="#2f6f8f", width=0, size=3.4, opacity=0.55),),
        "Small dots")
    return Catalog(
        layers=(
            Layer(ALIVE, "lab.alive", "Alive", "dots",
                  "One point; whoever gets it knows that the whole way works"),
            Layer("countries", "countries", "Countries", "land",
                  "Natural Earth 1:110m, public domain"),
            Layer("countries_50m", "countries_50m", "Countries, finer", "land",
                  "Natural Earth 1:50m, public domain"),
            Layer("places", "places", "Populated places", "cities",
                  "GeoNames (geonames.org), CC BY 4.0"),
            Layer("points", "points", "Points", "dots", "Drawn from a seed"),
        ),
        styles=(land, places, dots))


def validate(catalog: Catalog, server: str = "") -> None:
    """Raise CatalogError if it cannot be published; a line for everything that is wrong.

    Parameters
    ----------
    server : "mapserver" or "geoserver": what that one cannot do is wrong as well.
    """
    fail([*problems(catalog), *lacking(catalog, server)])


def fail(wrong: list[str]) -> None:
    """Raise CatalogError with these lines, if there are any."""
    if wrong:
        raise CatalogError("\n".join(dict.fromkeys(wrong)))


def problems(catalog: Catalog) -> Iterator[str]:
    """Say what is wrong with a catalog by itself, whoever serves it."""
    yield from _word(catalog.workspace, "workspace")
    for kind, things in (("layer", catalog.layers), ("style", catalog.styles)):
        names = [thing.name for thing in things]
        for name in dict.fromkeys(names):
            yield from _word(name, f"{kind} name")
            if names.count(name) > 1:
                yield f"{kind} {name!r} is there twice; rename one"
    if ALIVE not in [layer.name for layer in catalog.layers]:
        yield ("no layer 'alive': health questions ask for it; begin with catalog.default() "
               "and add layers")
    for style in catalog.styles:
        yield from _style_problems(style)
    for layer in catalog.layers:
        yield from _layer_problems(catalog, layer)


def lacking(catalog: Catalog, server: str) -> Iterator[str]:
    """Say what a catalog asks for that this map server cannot do."""
    for layer in catalog.layers if server == "mapserver" else ():
        for wanted, what in ((layer.writable, "writable=True asks for WFS-T"),
                             (layer.tiled, "tiled=True asks for WMTS")):
            if wanted:
                yield (f"layer {layer.name}: {what}, which MapServer does not have; leave it "
                       "out")


def _named(things, name: str, kind: str):
    for thing in things:
        if thing.name == name:
            return thing
    raise CatalogError(f"no {kind} {name!r}; there are " + ", ".join(t.name for t in things))


def _layer_problems(catalog: Catalog, layer: Layer) -> Iterator[str]:
    where = f"layer {layer.name}"
    if layer.style not in [style.name for style in catalog.styles]:
        yield (f"{where}: no style {layer.style!r}; there are "
               + ", ".join(style.name for style in catalog.styles))
    if not re.fullmatch(r"([A-Za-z_]\w*\.)?[A-Za-z_]\w*", layer.table, re.ASCII):
        yield f"{where}: table {layer.table!r} is no table name; say 'places' or 'lab.alive'"
    for column in (layer.geometry, layer.key):
        yield from _column(column, where)
    if not re.fullmatch(r"EPSG:\d{4,6}", layer.srs):
        yield f"{where}: srs {layer.srs!r}; say e.g. 'EPSG:4326'"
    west, south, east, north = layer.extent
    if not (west < east and south < north):
        yield f"{where}: extent {layer.extent}; say (west, south, east, north)"
    elif re.fullmatch(r"EPSG:\d{4,6}", layer.srs):
        try:
            extents.native(layer.extent, layer.srs)
        except ValueError as error:
            yield f"{where}: {error}"
    if layer.writable and layer.name == ALIVE:
        yield (f"{where}: health questions ask for it, so whoever deleted its point would stop "
               "all maps; leave writable out")


def _style_problems(style: Style) -> Iterator[str]:
    where = f"style {style.name}"
    if style.kind not in KINDS:
        yield f"{where}: kind {style.kind!r}; say one of {', '.join(KINDS)}"
    if style.sld and style.rules:
        yield f"{where}: both rules and an SLD; say one of them"
    elif style.sld:
        yield from (f"{where}: {what}" for what in sld.problems(style.sld))
    elif not style.rules:
        yield f"{where}: no rule, so nothing would be drawn; add a Rule, or an SLD"
    for rule in style.rules:
        for colour in (rule.fill, rule.stroke, rule.label_colour):
            if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
                yield f"{where}: colour {colour!r}; say e.g. '#f3efe4'"
        if not (0 <= rule.opacity <= 1 and rule.width >= 0 and rule.size > 0):
            yield (f"{where}: opacity is 0 to 1, width and size are pixels; got "
                   f"{rule.opacity}, {rule.width}, {rule.size}")
        if rule.column or rule.at_least is not None or rule.below is not None:
            yield from _column(rule.column, where)
        if rule.label:
            yield from _column(rule.label, where)


def _column(name: str, where: str) -> Iterator[str]:
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        yield f"{where}: column {name!r}; letters, digits and _ only"


def _word(name: str, what: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name, re.ASCII):
        yield f"{what} {name!r}: small letters, digits and _ only, e.g. 'countries_50m'"
