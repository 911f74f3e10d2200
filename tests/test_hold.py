"""A GeoServer takes a new version: what it replaces, and what it brings back; none is started."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest

from gislab import catalog, images, settings
from gislab.catalog import Layer, Rule, Style, geoserver

LAB = settings.make({"map_server": "geoserver"})
BEFORE = catalog.default().with_layer(
    Layer("wells", "wells", "Wells", "dots", tiled=True, writable=True)).with_layer(
    replace(catalog.default().layer("countries"), tiled=True)).with_layer(
    replace(catalog.default().layer("places"), tiled=True))
AFTER = replace(BEFORE, layers=tuple(
    layer for layer in BEFORE.layers if layer.name != "wells")).with_style(
    Style("land", "polygon", (Rule("other"),)))


class Server:
    """hold.sh as it is, in a folder of its own, with stand-ins for what asks GeoServer."""

    def __init__(self, here):
        self.here, self.data = here, here / "run" / "data"
        folder = here / "bin"
        folder.mkdir()
        text = (images.FOLDER / "geoserver" / "hold.sh").read_text()
        names = ", ".join(f'{{"name":"{layer.name}"}}' for layer in BEFORE.layers)
        for name, script in (
                ("hold.sh", text.replace("/run/gislab", f"{here}/run").replace(
                    "/var/cache/gislab", f"{here}/cache")),
                ("admin.sh", f"#!/bin/bash\n[[ \"$*\" != *reload* ]] || [[ ! -e {here}/broken ]]"
                             f" || exit 22\necho '{names}'\n"),
                # health: what the entrypoint would write when it is back, which is waited for
                ("errand.sh", f"#!/bin/bash\ntouch {here}/run/www/health\n"
                              f"[[ ! -e {here}/deaf ]] || exit 1\n"
                              f"echo $1 >> {here}/forgotten\n"),
                ("warm.sh", f"#!/bin/bash\ntouch {here}/run/www/health\n")):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        for secret in ("reader", "gis"):
            (here / secret).write_text(f"the-{secret}-word")
        for name in ("cache", "run/www", "run/catalog"):
            (here / name).mkdir(parents=True)

    def hold(self, cat: catalog.Catalog, name: str) -> subprocess.CompletedProcess:
        folder = self.here / "run" / "catalog" / name
        for path, text in geoserver.files(cat, LAB).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return subprocess.run(["bash", self.here / "bin" / "hold.sh", folder], text=True,
                              capture_output=True, timeout=60, env={
            **os.environ, "PATH": f"{self.here}/bin:{os.environ['PATH']}", "VIP": "192.0.2.9",
            "READER_PASSWORD_FILE": str(self.here / "reader"),
            "GIS_PASSWORD_FILE": str(self.here / "gis"), "DATABASE": "gis"})

    @property
    def forgotten(self) -> list[str]:
        path = self.here / "forgotten"
        return path.read_text().split() if path.exists() else []

    def files(self) -> dict[str, str]:
        return {str(p.relative_to(self.data)): p.read_text() for p in self.data.rglob("*")
                if p.is_file()}


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    done = made.hold(BEFORE, "one")
    assert done.returncode == 0, done.stderr
    return made


def test_each_store_gets_its_own_address_and_password(server):
    """Nothing is left to be filled in, and only the writable store has the owner's."""
    stores = {p.parent.name: p.read_text() for p in server.data.rglob("datastore.xml")}
    assert not [name for name, text in stores.items() if "@" in text]
    assert "the-gis-word" in stores["public-primary"] and ">5433<" in stores["public-primary"]
    for name in ("public", "lab"):
        assert "the-reader-word" in stores[name] and ">5434<" in stores[name]
        assert "the-gis-word" not in stores[name]


def test_a_new_version_takes_the_place_of_the_old_one_and_only_changed_tiles_are_forgotten(server):
    """A changed style and a layer that goes; what is drawn as before is kept."""
    done = server.hold(AFTER, "two")
    assert done.returncode == 0, done.stderr
    assert sorted(server.forgotten) == ["forget/gis:countries", "forget/gis:wells"]
    assert sorted(p.name for p in (server.data / "gwc-layers").iterdir()) == [
        "countries-layer.xml", "places-layer.xml"]
    assert "wells" not in (server.data / "security/layers.properties").read_text()
    assert "BASIC" in (server.data / "wfs.xml").read_text()
    assert "<enabled>false" in (server.data / "wcs.xml").read_text()
    assert (server.here / "cache/geowebcache-diskquota.xml").exists()


def test_the_same_style_again_forgets_nothing(server):
    assert server.hold(replace(BEFORE, title="Other"), "two").returncode == 0
    assert server.forgotten == []


def test_a_version_that_geoserver_refuses_leaves_everything_as_it_was(server):
    """Its layers, who may write to them, and which of them are tiled."""
    before = server.files()
    (server.here / "broken").touch()
    done = server.hold(AFTER, "two")
    assert done.returncode == 1 and "GeoServer refuses to reload" in done.stderr
    after = server.files()
    assert {path: text for path, text in after.items() if path in before} == before


def test_a_server_that_cannot_forget_its_tiles_keeps_the_old_version(server):
    """Nobody shall see the new style beside tiles of the old one."""
    before = server.files()
    (server.here / "deaf").touch()
    done = server.hold(AFTER, "two")
    assert done.returncode == 1 and "does not forget its tiles" in done.stderr
    assert server.files() == before
