"""The lab's data is what its notice says, valid, and the same on every machine."""

import geopandas
import numpy
import pytest
import shapely

from gislab import datasets


@pytest.mark.parametrize("scale, count", [("110m", 177), ("50m", 241)])
def test_countries_are_valid_multipolygons_of_the_whole_world(scale, count):
    world = datasets.countries(scale)
    assert len(world) == count and world.crs == "EPSG:4326"
    assert world.columns.tolist() == ["iso_n3", "name", "geometry"]
    assert world.is_valid.all() and not world.is_empty.any()
    assert set(world.geom_type) == {"MultiPolygon"} and world["name"].notna().all()
    numpy.testing.assert_allclose(world.total_bounds, [-180, -90, 180, 84], atol=1)


@pytest.mark.parametrize("scale", datasets.SCALES)
def test_no_country_is_a_band_around_the_world(scale):
    """Russia, Fiji and Antarctica are cut at the edges of the map; areas in million km2."""
    areas = datasets.countries(scale).to_crs("EPSG:6933").set_index("name").area / 1e12
    assert areas["Russia"] == pytest.approx(17.0, rel=0.02)
    assert areas["Antarctica"] == pytest.approx(12.3, rel=0.05)
    assert areas["Fiji"] == pytest.approx(0.0187, rel=0.05)
    assert areas.sum() == pytest.approx(148, rel=0.02)


def test_another_scale_is_refused_with_those_that_there_are():
    with pytest.raises(datasets.UnknownScale, match="110m, 50m"):
        datasets.countries("10m")


def test_places_are_as_large_as_asked_and_told_apart():
    places = datasets.places()
    assert len(places) > 30_000 and places["population"].min() >= 15_000
    assert places["id"].is_unique and places["id"].is_monotonic_increasing
    assert places.columns.tolist() == ["id", "name", "country", "population", "geometry"]
    large = datasets.places(min_population=10_000_000)
    assert 5 < len(large) < 60 and "São Paulo" in set(large["name"])
    assert len(datasets.places(min_population=5_000)) > len(places)


def test_points_are_the_same_for_the_same_seed_and_even_over_the_sphere():
    points = datasets.points(20_000, seed=7)
    assert points.equals(datasets.points(20_000, seed=7))
    assert not points.equals(datasets.points(20_000, seed=8))
    north_of_30 = (points.geometry.y > 30).mean()  # a quarter of a sphere's surface
    assert north_of_30 == pytest.approx(0.25, abs=0.015)
    assert len(datasets.points(0)) == 0


def test_a_ring_around_the_pole_and_one_across_the_line_of_180_degrees_are_cut():
    cap = shapely.Polygon([(0, -80), (90, -80), (180, -80), (-90, -80)])
    across = shapely.Polygon([(170, 0), (-170, 0), (-170, 10), (170, 10)])
    assert datasets._flat(cap).area == pytest.approx(3600)
    flat = datasets._flat(across)
    assert flat.area == pytest.approx(200) and len(flat.geoms) == 2
    assert shapely.contains_xy(flat, [175, -175, 0], [5, 5, 5]).tolist() == [True, True, False]


def test_the_geopackage_is_small_and_its_notice_stands_beside_it():
    assert datasets.COUNTRIES.stat().st_size < 4_000_000
    notice = datasets.COUNTRIES.with_name("NOTICE.md").read_text()
    assert all(word in notice for word in ("Natural Earth", "ISC", "GeoNames", "CC BY 4.0"))
    assert isinstance(datasets.points(1), geopandas.GeoDataFrame)
