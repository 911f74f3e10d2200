"""A catalog is compared with the tables of a real database before anything is published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gislab import catalog, consul
from gislab.catalog import CatalogError, Layer, Rule, Style, tables
from images import serving as helper

pytestmark = pytest.mark.live
WELLS = """set role gis;
create table wells (id int primary key, depth real, geom geometry(Point, 25832));
create table loose (id int primary key, geom geometry);
insert into loose values (1, ST_SetSRID(ST_MakePoint(9, 48), 3857));
create table hidden (id int primary key, geom geometry(Point, 4326));
revoke select on hidden from reader;
create view seen as select id, geom from wells;
create table guarded (id int primary key, geom geometry(Point, 25832));
revoke insert, update on guarded from gis;"""
WELL = Layer("wells", "wells", "Wells", "dots", srs="EPSG:25832")


@pytest.fixture(scope="module")
def serving(the_engine, image, tmp_path_factory):
    made = helper.Serving(the_engine, image, tmp_path_factory.mktemp("tables"))
    with made.connect() as connection:
        connection.execute(WELLS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def small():
    whole = catalog.default()
    return replace(whole, layers=(whole.layer("alive"), whole.layer("countries")))


@pytest.mark.parametrize("layer", [WELL, replace(WELL, table="public.wells"),
                                   replace(WELL, table="seen"), replace(WELL, writable=True),
                                   replace(WELL, table="loose", srs="EPSG:3857")])
def test_what_fits_is_let_through(serving, small, layer):
    assert tables.problems(small.with_layer(layer), serving.lab) == []


@pytest.mark.parametrize("layer, words", [
    (replace(WELL, table="gone"), "layer wells: there is no table public.gone; load it first"),
    (replace(WELL, table="lab.wells"), "there is no table lab.wells"),
    (replace(WELL, geometry="shape"), "has no geometry column shape; there are geom"),
    (replace(WELL, geometry="depth"), "depth of wells is no geometry, but real"),
    (replace(WELL, key="fid"), "wells has no column fid; there are id, depth, geom"),
    (replace(WELL, srs="EPSG:4326"), "wells is in EPSG:25832, the catalog says EPSG:4326; say "
                                     "srs='EPSG:25832'"),
    (replace(WELL, table="loose"), "loose is in EPSG:3857"),
    (replace(WELL, style="land"), "wells holds Point, and style land draws polygons"),
    (replace(WELL, style="cities"), "wells has no column population"),
    (replace(WELL, table="seen", writable=True), "the primary key of seen is missing"),
    (replace(WELL, key="depth", writable=True), "the primary key of wells is id, and clients name "
                                                "what they change by depth"),
    (replace(WELL, table="guarded", writable=True), "grant insert, update, delete on guarded to "
                                                    "gis"),
    (replace(WELL, table="hidden", srs="EPSG:4326"), "grant select on hidden to reader"),
])
def test_what_does_not_fit_is_named(serving, small, layer, words):
    """One line, with what is there instead."""
    said = tables.problems(small.with_layer(layer), serving.lab)
    assert any(words in line for line in said), said


def test_a_column_that_only_an_sld_speaks_of_is_looked_for(serving, small):
    from test_sld import ONE
    deep = small.with_style(Style("deep", "point", sld=ONE))
    assert tables.problems(deep.with_layer(replace(WELL, style="deep")), serving.lab) == []
    said = tables.problems(deep.with_layer(
        replace(WELL, style="deep", table="loose", srs="EPSG:3857")), serving.lab)
    assert said == ["layer wells: loose has no column depth; there are id, geom"]


def test_nothing_is_touched_when_something_does_not_fit(serving, small):
    """Neither a version nor a part is written, and everything that is wrong is told."""
    bad = small.with_layer(replace(WELL, srs="EPSG:4326")).with_layer(
        Layer("gone", "gone", "Gone", "dots"))
    catalog.allow(serving.lab, say=lambda text: None)
    with consul.of(serving.lab) as store:
        before = store.list("gislab/")
        with pytest.raises(CatalogError) as caught:
            catalog.publish(serving.lab, bad, say=pytest.fail)
        assert len(str(caught.value).splitlines()) == 2
        assert store.list("gislab/") == before


def test_a_database_that_does_not_answer_is_told(serving, small):
    elsewhere = replace(serving.lab, vip=serving.lab.machines[1].address)
    elsewhere.__dict__["home"] = serving.lab.home  # the same passwords
    with pytest.raises(CatalogError, match="the database does not answer, so nothing was"):
        catalog.publish(elsewhere, small)


def test_only_the_last_versions_are_kept_and_each_can_be_brought_back(serving, small):
    """Consul's memory is small, and nobody goes back further."""
    for number in range(catalog.KEEP + 3):
        cat = small.with_style(Style("land", "polygon", (Rule(f"rule {number}"),)))
        last = catalog.publish(serving.lab, cat, say=lambda text: None)
    kept = catalog.versions(serving.lab)["version"].tolist()
    assert kept == list(range(last - catalog.KEEP + 1, last + 1))
    with consul.of(serving.lab) as store:
        assert len(store.keys(catalog.PARTS)) == catalog.KEEP
    assert catalog.rollback(serving.lab, kept[0], say=lambda text: None) == kept[0]
    assert catalog.current(serving.lab).style("land").rules[0].title == "rule 3"
    with pytest.raises(CatalogError, match=f"no version 1; there are {kept[0]}, "):
        catalog.rollback(serving.lab, 1)


def test_a_catalog_published_twice_is_one_version(serving, small):
    number = catalog.publish(serving.lab, small, say=lambda text: None)
    said = []
    assert catalog.publish(serving.lab, small, say=said.append) == number
    assert said[0] == f"version {number}: is current already, nothing was changed"


def test_of_two_that_publish_at_the_same_moment_one_is_told(serving, small, monkeypatch):
    """Nobody's version is overwritten in silence."""
    commit = consul.Consul.commit

    def late(store, *steps):
        with monkeypatch.context() as patch:
            patch.setattr(consul.Consul, "commit", commit)
            catalog.put(serving.lab, replace(small, title="the other"), say=lambda text: None)
        return commit(store, *steps)
    monkeypatch.setattr(consul.Consul, "commit", late)
    with pytest.raises(CatalogError, match="somebody else published at the same moment"):
        catalog.put(serving.lab, replace(small, title="mine"), say=lambda text: None)
    assert catalog.current(serving.lab).title == "the other"
