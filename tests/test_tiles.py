"""Errands about tiles stand behind the current version, in one line that a shell can read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from recorded import Store

from gislab import catalog, consul
from gislab.catalog import CatalogError, Layer, keys, tiles

WORLD = Layer("countries", "countries", "Countries", "land", tiled=True)
CAT = catalog.default().with_layer(WORLD)


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr(consul, "of", lambda lab: made)
    monkeypatch.setattr(keys, "current", lambda lab: CAT)
    return made


def report(done="", doing="", node="pi1"):
    return {"node": node, "id": "a", "server": "geoserver", "done": done, "doing": doing}


def test_a_line_without_errands_is_what_it_always_was():
    """Number, hash, parts: agents of older images read it."""
    assert keys.line([7, "abc", 1], []) == b"7 abc 1\n"


def test_what_is_forgotten_is_asked_anew_each_time_and_the_version_stays(store, paper):
    lines = []
    for _ in range(2):
        tiles.refresh(paper, "countries", say=lambda text: None)  # nobody reports
        lines.append(store.line)
    words = lines[1].split()
    assert words[:3] == ["7", "abc", "1"] and words[3].startswith("forget/gis:countries=")
    assert lines[0] != lines[1] and len(words) == 4


def test_by_default_all_tiled_layers_are_forgotten(store, paper, monkeypatch):
    monkeypatch.setattr(keys, "current", lambda lab: CAT.with_layer(
        replace(CAT.layer("places"), tiled=True)))
    tiles.refresh(paper, say=lambda text: None)
    assert sorted(w.partition("=")[0] for w in store.line.split()[3:]) == [
        "forget/gis:countries", "forget/gis:places"]


def test_a_layer_that_is_not_tiled_is_told(store, paper):
    for verb in (tiles.refresh, tiles.seed):
        with pytest.raises(CatalogError, match="layer places is not tiled.*tiled=True"):
            verb(paper, "places")
    assert store.line == "7 abc 1\n"


def test_a_server_that_is_late_is_named(store, paper):
    store.reports = [report(node="pi2")]
    with pytest.raises(CatalogError, match="not yet at pi2 geoserver a"):
        tiles.refresh(paper, "countries", timeout=0.1)


@pytest.mark.parametrize("verb", [tiles.refresh, tiles.seed])
def test_a_server_that_runs_and_does_not_report_is_named(store, paper, verb):
    """It cannot reach Consul: what it has drawn before, it serves on."""
    with pytest.raises(CatalogError, match="pi3 bbb runs, and does not report.*gislab catalog"):
        verb(paper, "countries", running=lambda: [("pi3", "bbb")], timeout=0.1)


def test_another_errand_in_between_is_kept(store, paper):
    """Two that ask at the same moment both get what they asked for."""
    def first():
        store.before = lambda: None
        store.set("7 abc 1 seed/gis:countries/0/3=9\n")
    store.before = first
    tiles.refresh(paper, "countries", say=lambda text: None)
    assert [w.partition("=")[0] for w in store.line.split()[3:]] == [
        "seed/gis:countries/0/3", "forget/gis:countries"]


def test_errands_of_layers_that_are_gone_go(store, paper):
    store.line = "7 abc 1 seed/gis:gone/0/3=9\n"
    tiles.refresh(paper, "countries", say=lambda text: None)
    assert "gone" not in store.line


def test_a_version_keeps_the_errands_and_an_errand_in_between_does_not_stop_it(store):
    before = store.get(keys.CURRENT)

    def first():
        store.before = lambda: None
        store.set("7 abc 1 forget/gis:countries=9\n")
    store.before = first
    assert keys.switch(store, before, [8, "def", 2])
    assert store.line == "8 def 2 forget/gis:countries=9\n"


def test_another_version_in_between_does_stop_it(store):
    before = store.get(keys.CURRENT)

    def first():
        store.before = lambda: None
        store.set("8 other 1\n")
    store.before = first
    assert not keys.switch(store, before, [8, "def", 2]) and store.line == "8 other 1\n"


def test_what_cannot_be_is_not_tried_for_ever(store):
    """A part that has vanished fails the transaction, and the line is as it was."""
    store.commit = lambda *steps: False
    assert not keys.switch(store, store.get(keys.CURRENT), [8, "def", 2])


def test_seeding_tells_how_far_all_servers_are(store, paper):
    """Tiles of all servers together, and at the end how many there are."""
    told, said = [], []

    def look(done, total):
        told.append((done, total))
        errand = store.line.split()[3]
        store.reports = [report(doing=f"{errand} 10 85", node="pi1"),
                         report(done=errand, node="pi2")] if len(told) < 3 else [
            report(done=f"other=1 {errand}", node=n) for n in ("pi1", "pi2")]
    store.reports = [report()]
    assert tiles.seed(paper, "countries", (0, 3), told=look, say=said.append) == 85
    assert told == [(0, 85), (95, 170), (95, 170), (170, 170)]
    assert store.line.split()[3].startswith("seed/gis:countries/0/3=")
    assert said == ["tiles of countries: zooms 0 to 3, 85 at each of 2 map servers"]


def test_seeding_tells_how_long_tiles_of_a_writable_layer_last(store, paper, monkeypatch):
    monkeypatch.setattr(keys, "current", lambda lab: CAT.with_layer(replace(WORLD, writable=True)))
    said = []
    tiles.seed(paper, "countries", (0, 3), told=lambda *how: None, say=said.append)
    assert said[1:] == ["countries is writable: who asks 10 s later gets a tile drawn anew"]


@pytest.mark.parametrize("zooms, words", [
    ((3, 1), "say .first, last. between 0 and 20"), ((-1, 2), "between 0"), ((0, 21), "and 20, e"),
    ((0, 9), r"349,525 tiles, and 6,000 fit a server; say fewer, e.g. \(0, 6\)")])
def test_zooms_that_are_wrong_or_too_many_are_told(store, paper, zooms, words):
    with pytest.raises(CatalogError, match=words):
        tiles.seed(paper, "countries", zooms)
    assert store.line == "7 abc 1\n"


def test_tiles_are_counted_as_web_maps_do():
    """The world is one tile, then four; a small layer is one at each zoom."""
    assert [tiles.tiles(WORLD, (zoom, zoom)) for zoom in (0, 1, 2)] == [1, 4, 16]
    bonn = replace(WORLD, extent=(7.0, 50.6, 7.2, 50.8))
    assert tiles.tiles(bonn, (0, 5)) == 6
    assert tiles.tiles(bonn, (10, 10)) == len(
        {(column(x, 10), row(y, 10)) for x in (7.0, 7.2) for y in (50.6, 50.8)}) > 1


def column(longitude, zoom):
    return int((longitude + 180) / 360 * 2 ** zoom)


def row(latitude, zoom):
    """As the OpenStreetMap wiki has it ("Slippy map tilenames")."""
    angle = math.radians(latitude)
    return int((1 - math.log(math.tan(angle) + 1 / math.cos(angle)) / math.pi) / 2 * 2 ** zoom)
