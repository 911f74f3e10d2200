"""Loading through the VIP of the standing lab: each way with synchronous commits and without."""

import argparse
import contextlib
import os

import pandas
import pytest
from bench import bench_loading, standing


class Server:
    """A server that commits as libpq's variable says, or as it likes."""

    def __init__(self, stubborn=False):
        self.stubborn = stubborn

    @contextlib.contextmanager
    def connect(self, role):
        said = os.environ["PGOPTIONS"].partition("=")[2]
        yield self
        assert said in standing.COMMITS

    def execute(self, statement):
        return self

    def fetchone(self):
        return ("on" if self.stubborn else os.environ["PGOPTIONS"].partition("=")[2],)


def test_what_was_asked_of_commits_is_proved_and_taken_back(monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c jit=off")
    with standing.committing(Server(), "local"):
        assert os.environ["PGOPTIONS"] == "-c synchronous_commit=local"
    assert os.environ["PGOPTIONS"] == "-c jit=off"
    with pytest.raises(RuntimeError, match="is on, and was to be local"), \
            standing.committing(Server(stubborn=True), "local"):
        pytest.fail("measured something else than it says")


def test_what_the_wait_for_a_second_pi_leaves_is_told_by_trial():
    seconds = {(bench_loading.BASE, "on"): 20.0, (bench_loading.BASE, "local"): 20.0,
               ("`gislab.loading`", "on"): 2.0, ("`gislab.loading`", "local"): 1.0}
    samples = pandas.DataFrame([
        {"trial": trial, "kind": "points", "rows": 1000, "index": False, "way": way,
         "commit": how, "seconds": took * (1 + trial)}
        for trial in range(3) for (way, how), took in seconds.items()])
    found = standing.table(samples).set_index("way")
    ours = found.loc["`gislab.loading`"]
    assert ours["on, of local"] == "50% (50% to 50%)" and ours["times `to_postgis`, on"] == "10.0"
    assert ours["rows/s, on"] == "250" and ours["rows/s, local"] == "500"
    assert found.loc[bench_loading.BASE, "on, of local"].startswith("100%")


def test_the_command_says_that_it_was_the_lab(tmp_path):
    given = argparse.Namespace(lab=True, quick=True)
    assert bench_loading.command(given, bench_loading.QUICK, 1) == (
        'make bench-loading ARGS="--lab --quick"')


@pytest.mark.live
@pytest.mark.long
def test_the_bench_in_short_on_the_standing_lab_leaves_nothing_behind(
        whole, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_loading.settings, "read", lambda: whole)
    words = ["--lab", "--quick", "--points", "1000", "--polygons", "100", "--output",
             str(tmp_path)]
    assert bench_loading.main(words) == 0
    text = (tmp_path / "bench-loading-lab.md").read_text()
    assert text.count("| 1,000 points") == text.count("| 100 polygons") == 2 * len(standing.WAYS)
    with standing.Standing(whole).connect() as connection:
        assert connection.execute("select to_regnamespace('bench')").fetchone() == (None,)
