"""A catalog written down as YAML, for those who would rather not write Python.

    with: default                    # the lab's own layers and styles, too; else only `alive`
    layers:
      wells: {table: wells, title: Wells, style: blue, srs: EPSG:25832}
    styles:
      blue: {kind: point, rules: [{title: all, fill: "#2f6f8f", size: 5}]}
      red: {kind: point, sld: red.sld}          # a file beside this one, or the SLD itself

The keys are those of layers.Layer, layers.Style and layers.Rule.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import yaml

from .layers import ALIVE, Catalog, CatalogError, Layer, Rule, Style, default


def read(path: str | Path) -> Catalog:
    """Return the catalog that a YAML file declares; it is not validated yet.

    Parameters
    ----------
    path : of the file; an `sld` that it names is looked for beside it.

    Raises
    ------
    CatalogError : the file, a key or a value is wrong; says which, and what would be right.
    """
    path = Path(path)
    try:
        table = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CatalogError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise CatalogError(f"{path}: is no YAML: {said}") from None
    return Reader(path).catalog(_table(table, str(path)))


# what is asked for, by the beginning of a field's type
SAY = {"str": "a text, in quotes", "flo": "a number", "boo": "true or false"}


class Reader:
    """Goes through one file; keeps its name for what is to be said about it.

    Every method raises CatalogError where a key or a value is wrong.
    """

    def __init__(self, path: Path):
        self.path = path

    def catalog(self, table: dict) -> Catalog:
        """Return the catalog of the file's outermost table."""
        given = dict(table)
        begun = given.pop("with", None)
        if begun not in (None, "default"):
            raise CatalogError(f"{self.path}: with: {begun!r}; say default, or leave it out")
        styles = [self.style(name, words) for name, words in
                  _table(given.pop("styles", {}), f"{self.path}: styles").items()]
        layers = [self.layer(name, words) for name, words in
                  _table(given.pop("layers", {}), f"{self.path}: layers").items()]
        known = {f.name for f in dataclasses.fields(Catalog)} - {"layers", "styles"}
        self._known(given, known | {"layers", "styles", "with"}, "")
        base = default()
        made = dataclasses.replace(base, **{key: str(value) for key, value in given.items()})
        if begun is None:  # `alive` is what health questions ask for
            alive = base.layer(ALIVE)
            made = dataclasses.replace(made, layers=(alive,), styles=(base.style(alive.style),))
        for style in styles:
            made = made.with_style(style)
        for layer in layers:
            made = made.with_layer(layer)
        return made

    def layer(self, name: str, words: dict) -> Layer:
        """Return one layer; its extent is a list of four numbers."""
        given = self._fields(Layer, name, words, f"layers.{name}")
        if "extent" in given:
            try:
                given["extent"] = tuple(float(edge) for edge in given["extent"])
                west, south, east, north = given["extent"]
            except (TypeError, ValueError):
                raise CatalogError(f"{self.path}: layers.{name}.extent = {words['extent']!r}; "
                                   "say [west, south, east, north]") from None
        return self._made(Layer, given, f"layers.{name}")

    def style(self, name: str, words: dict) -> Style:
        """Return one style; `sld` names a file beside this one, or is the SLD itself."""
        given = self._fields(Style, name, words, f"styles.{name}")
        rules = given.get("rules", [])
        if not isinstance(rules, list):
            raise CatalogError(f"{self.path}: styles.{name}.rules is no list")
        given["rules"] = tuple(
            self._made(Rule, self._fields(Rule, None, rule, f"styles.{name}.rules[{i}]"),
                       f"styles.{name}.rules[{i}]") for i, rule in enumerate(rules))
        text = str(given.get("sld", ""))
        if text and not text.lstrip().startswith("<"):
            try:
                given["sld"] = (self.path.parent / text).read_text()
            except OSError as error:
                raise CatalogError(f"{self.path}: styles.{name}.sld = {text!r}: cannot be read "
                                   f"({error.strerror})") from None
        return self._made(Style, given, f"styles.{name}")

    def _fields(self, kind: type, name: str | None, words: dict, where: str) -> dict:
        given = dict(_table(words, f"{self.path}: {where}"))
        known = {f.name for f in dataclasses.fields(kind)} - ({"name"} if name else set())
        self._known(given, known, where + ".")
        return given | ({"name": str(name)} if name else {})

    def _made(self, kind: type, given: dict, where: str):
        for field in dataclasses.fields(kind):
            if field.default is dataclasses.MISSING and field.name not in given:
                raise CatalogError(f"{self.path}: {where} has no {field.name}")
            if field.name in given and not _fits(given[field.name], str(field.type)):
                raise CatalogError(f"{self.path}: {where}.{field.name} = "
                                   f"{given[field.name]!r}; say {SAY[str(field.type)[:3]]}")
        return kind(**given)

    def _known(self, table: dict, keys: set[str], prefix: str) -> None:
        for key in table:
            if key not in keys:
                raise CatalogError(f"{self.path}: no key {prefix}{key}; there are "
                                   + ", ".join(sorted(keys)))


def _table(value: object, where: str) -> dict:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise CatalogError(f"{where} is no table of names and values; see "
                           "gislab/catalog/yamlfile.py")
    return value


def _fits(value: object, kind: str) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind.startswith("float"):
        return (value is None and "None" in kind) or (
            isinstance(value, int | float) and not isinstance(value, bool))
    return kind != "str" or isinstance(value, str)
