"""A catalog as the one file that is published: what each kind of map server needs, in a tar.

It holds no secret, and equal catalogs give equal bytes; its hash is what servers report.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile

from ..settings import Lab
from ..shell import archive
from . import geoserver, mapserver
from .layers import Catalog, CatalogError, Layer, Rule, Style, validate

LARGEST = 4_000_000  # bytes, compressed: a catalog is words, and a Pi keeps several of them
SOURCE = "catalog.json"  # the catalog itself, to be read back


def render(catalog: Catalog, lab: Lab) -> bytes:
    """Return the tar that the map servers unpack; CatalogError if it cannot be published."""
    validate(catalog, lab.serves)
    files = {SOURCE: json.dumps(dataclasses.asdict(catalog), indent=1, ensure_ascii=False)}
    for server in (mapserver, geoserver):
        folder = server.__name__.rpartition(".")[2]
        files |= {f"{folder}/{path}": text for path, text in server.files(catalog, lab).items()}
    return archive({name: files[name].encode() for name in sorted(files)})


def read(made: bytes) -> Catalog:
    """Return the catalog that a bundle was made of; what a later gislab added is left out."""
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        table = json.load(tar.extractfile(SOURCE))
    styles = tuple(
        _made(Style, style, rules=tuple(_made(Rule, rule) for rule in style["rules"]))
        for style in table["styles"])
    layers = tuple(_made(Layer, layer, extent=tuple(layer["extent"]))
                   for layer in table["layers"])
    return _made(Catalog, table, layers=layers, styles=styles)


def digest(made: bytes) -> str:
    """Return the hash under which a bundle is kept: SHA-256, 64 digits."""
    return hashlib.sha256(made).hexdigest()


def split(made: bytes, size: int) -> list[bytes]:
    """Return the bundle, compressed, in parts of at most `size` bytes.

    Raises
    ------
    CatalogError : it is larger than LARGEST.
    """
    packed = gzip.compress(made, mtime=0)
    if len(packed) > LARGEST:
        raise CatalogError(f"the catalog makes {len(packed) / 1e6:.1f} MB, and "
                           f"{LARGEST / 1e6:.0f} MB are the most; publish fewer layers, or "
                           "shorter styles")
    return [packed[i:i + size] for i in range(0, len(packed), size)]


def join(parts: list[bytes]) -> bytes:
    """Return the bundle that was split."""
    return gzip.decompress(b"".join(parts))


def _made(kind: type, words: dict, **more):
    known = {field.name for field in dataclasses.fields(kind)}  # a later gislab may have others
    return kind(**{key: value for key, value in words.items() if key in known} | more)
