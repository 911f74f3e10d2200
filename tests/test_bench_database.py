"""The bench of outages tells what it measured, and compares with what the stack is set to."""

import contextlib
import dataclasses
import math
import re

import invented
import pandas
import pytest
from bench import bench_database, series

from gislab import outage, run
from gislab.settings import PROJECT

COLUMNS = ["setup", "fault", "lane", "outage", "recovered", "lost"]


def test_our_setup_is_what_the_stack_is_set_to():
    """Else the bench would leave a lab behind that is not ours."""
    without, config = bench_database.SETUPS["ours"]
    assert without == "" and 'WITHOUT: ""' in (PROJECT / "stack/gis.yml").read_text()
    text = (PROJECT / "images/postgis/patroni.yml").read_text()
    for key, value in config.items():
        assert re.search(rf"^ +{key}: {value}\b", text, re.MULTILINE), key


def test_what_a_setup_leaves_out_is_known_to_the_entrypoint():
    text = (PROJECT / "images/postgis/entrypoint.sh").read_text()
    for without, _ in bench_database.SETUPS.values():
        for part in without.split():
            assert f"has {part}" in text


def test_one_that_did_not_come_back_is_counted_and_not_averaged():
    rows = [("ours", "primary_killed", "write_primary", seconds, True, 0) for seconds in (1, 2, 3)]
    rows.append(("ours", "primary_killed", "write_primary", float("nan"), False, 2))
    (found,) = bench_database.summary(pandas.DataFrame(rows, columns=COLUMNS)).to_dict("records")
    assert found["median [s]"] == 2 and found["trials"] == 4
    assert found["p95 [s]"] == pytest.approx(2.9) and found["most [s]"] == 3
    assert found["not back"] == 1 and found["lost"] == 2


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A place for trials of the bench, and for its report."""
    monkeypatch.setattr(bench_database, "FOLDER", tmp_path)
    monkeypatch.setattr(bench_database, "REPORT", tmp_path / "bench.md")
    return tmp_path


def test_a_trial_whose_rows_nobody_could_read_lost_an_unknown_number(kept, paper, monkeypatch,
                                                                     capsys):
    """It is told and kept, and the next one follows."""
    def unread(lab, fault, *, folder, **how):
        run.make([("sql_write", 0.0, 0.01, "ok", "", 1)]).save(folder)
        raise bench_database.experiment.ExperimentError("whether writes were lost cannot be told")
    monkeypatch.setattr(bench_database.experiment, "measure", unread)
    bench_database.trial(paper, "ours", "primary_killed", 1)
    assert "cannot be told" in (said := capsys.readouterr().out) and "lost not known" in said
    table = bench_database.results()
    assert math.isnan(table["lost"].iloc[0])
    assert bench_database.summary(table)["lost"].tolist() == ["not known"]


def test_the_set_up_of_2016_is_told_beside_ours_by_the_way_that_it_had(kept):
    for number, made in enumerate(invented.two_setups(1, ("power_cut",))):
        setup = (bench_database.OLD if made.settings.get("setup") else "ours")
        made.save(series.path(kept / setup, "power_cut", number + 1))
    found = bench_database.summary(bench_database.results())
    assert found["setup"].tolist() == ["ours", bench_database.OLD]
    assert found["lost"].iloc[0] == 0 and found["lost"].iloc[1] > 0, "on one of two servers only"
    bench_database.report()
    assert (kept / "bench.svg").exists() and bench_database.OLD in (kept / "bench.md").read_text()


def test_what_was_mended_by_hand_did_not_come_back(kept):
    old = invented.two_setups(1, ("power_cut",))[1]
    maps = old.samples[old.samples["probe"] == "maps"].assign(probe="sql_write")
    stuck = dataclasses.replace(old, samples=maps)  # writes that fail as its maps do
    assert outage.of(stuck, "sql_write").recovered, "after it was undone"
    for number, made in enumerate((old, stuck), 1):
        made.save(series.path(kept / bench_database.OLD, "power_cut", number))
    assert bench_database.results()["recovered"].tolist() == [True, False]


def test_2016_stands_only_for_the_faults_that_it_knows_and_ours_stands_at_the_end(
        kept, paper, monkeypatch):
    done = []

    @contextlib.contextmanager
    def standing(lab):
        done.append("2016 up")
        yield
        done.append("2016 down")
    monkeypatch.setattr(bench_database, "set_up", lambda lab, name: done.append(name))
    monkeypatch.setattr(bench_database, "trial", lambda lab, setup, name, number: done.append(
        f"{name} {number}"))
    monkeypatch.setattr(bench_database.cluster, "ready", lambda lab, say: done.append("ready"))
    monkeypatch.setattr(bench_database.setup2016, "ready", lambda lab, say: done.append("ready"))
    monkeypatch.setattr(bench_database.setup2016, "standing", standing)
    bench_database.measure(paper, [bench_database.OLD], {"switchover": 1, "power_cut": 2}, 1e12)
    assert done == ["ours", "2016 up", "ready", "power_cut 1", "ready", "power_cut 2",
                    "2016 down", "ours"]
    assert bench_database.fault_of(paper, bench_database.OLD, "power_cut").setup == "2016"


def test_a_frozen_primary_is_frozen_as_everywhere_else(paper):
    assert (bench_database.fault_of(paper, "ours", "primary_frozen")
            == bench_database.faults.primary_frozen(paper))
