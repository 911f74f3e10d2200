"""A map to touch is one piece of HTML: everything is in it, and names stay names."""

from __future__ import annotations

import geopandas
import numpy

from gislab import export, webmap

CITIES = geopandas.GeoDataFrame(
    {"name": ["Bern", '<script>alert("x")</script>', "far"], "population": [1e5, 4e5, 1]},
    geometry=geopandas.points_from_xy([7.4, 8.5, 100], [46.9, 47.4, 0]), crs="EPSG:4326")
SEA = numpy.zeros((10, 20, 3))


def made(**how) -> str:
    return str(webmap.WebMap(SEA, CITIES, bbox=(0, 40, 20, 50), **how))


def test_it_needs_no_network():
    assert export.external(made()) == []
    assert "data:image/png;base64," in made()


def test_points_lie_where_they_are_and_those_outside_are_left_out():
    """SVG counts downwards, degrees upwards."""
    text = made(size="population")
    assert text.count("<circle") == 2 and 'cx="7.400" cy="-46.900"' in text
    assert 'viewBox="0 -50 20 10"' in text


def test_a_name_is_no_script():
    assert text_between(made(), "<g", "</g>").count("<script") == 0
    assert "&lt;script&gt;" in made()


def test_points_in_another_system_are_turned_into_degrees():
    moved = webmap.WebMap(SEA, CITIES.to_crs("EPSG:3857"), bbox=(0, 40, 20, 50))
    assert 'cx="7.400" cy="-46.900"' in str(moved)


def test_two_maps_of_one_page_do_not_disturb_each_other():
    ids = {text_between(made(), 'figure id="', '"') for _ in range(2)}
    assert len(ids) == 2


def text_between(text: str, begin: str, end: str) -> str:
    return text.split(begin, 1)[1].split(end, 1)[0]
