"""The bench of outages in its short form, on the standing lab."""

import json

import pytest
from bench import bench_database, series

from gislab import outage, run

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(600, func_only=True)]


def test_the_bench_in_short_loses_nothing_comes_back_and_writes_its_report(
        whole, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_database, "FOLDER", tmp_path / "bench")
    monkeypatch.setattr(bench_database, "REPORT", tmp_path / "bench.md")
    monkeypatch.setattr(bench_database.settings, "read", lambda: whole)
    bench_database.main(["--quick"])
    table = bench_database.results()
    assert set(table["fault"]) == set(bench_database.TRIALS) and set(table["setup"]) == {"ours"}
    assert table["recovered"].all() and (table["lost"] == 0).all(), table.to_string()
    assert (table["acknowledged"] > 20).all() and (tmp_path / "bench.svg").exists()
    assert all(outage.writes(run.load(series.path(tmp_path / "bench" / "ours", name, 1))).safe
               for name in bench_database.TRIALS)
    ways = json.loads((tmp_path / "bench" / "clients.json").read_text())
    assert len(ways) == 12 and all(way["per second"] > 0 for way in ways), ways
