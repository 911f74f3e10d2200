"""The comparison of loaders gives every row of its table; how quick they were is no test's."""

import pytest
from bench import bench_loading, peers

pytestmark = pytest.mark.live


def test_the_bench_of_loaders_has_every_way_with_and_without_an_index(the_engine, tmp_path):
    """A short form of `make bench-loading`: each way really stored all rows, or it would stop."""
    words = ["--quick", "--points", "1000", "--polygons", "100", "--output", str(tmp_path)]
    assert bench_loading.main(words) == 0
    text = (tmp_path / "bench-loading.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| 1,000 p", "| 100 p"))]
    assert len(rows) == 2 * (2 * len(peers.PEERS) + len(peers.ALONE))
    assert all(way in text for way in peers.PEERS)
    assert not [row for row in rows if "nan" in row]
    assert 'ARGS="--quick --points 1000 --polygons 100"' in text
    svg = (tmp_path / "bench-loading.svg").read_text()
    assert "<svg" in svg and str(tmp_path) not in text + svg
    assert "gislab-server" not in text + svg
