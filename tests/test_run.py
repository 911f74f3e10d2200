"""A run is kept and read again without a loss, and says what it is."""

import json

import pandas as pd
import pytest

from gislab import outage, run, settings

BIG = 1_763_847_000_000_000_001  # does not fit a float


def example() -> run.Run:
    return run.make(
        [("maps", 0.0, 0.01, "ok"), ("sql_write", 0.1, 2.0, "unknown", "no answer", BIG),
         ("sql_write", 0.2, 0.02, "ok", "", BIG + 1)],
        [(0.05, "strike", "haproxy of pi1", "haproxy_killed")],
        settings={"kind": "virtual", "fault": "haproxy_killed"}, rows=[(BIG + 1, 1)])


def test_a_saved_run_is_read_back_as_it_was(tmp_path):
    before = example()
    after = run.load(before.save(tmp_path / "a"))
    for name in ("samples", "events", "rows"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name))
    assert after.settings == before.settings


def test_a_run_that_an_older_gislab_kept_is_read(tmp_path):
    folder = example().save(tmp_path)
    pd.DataFrame({"row": [BIG + 1], "times": [1]}).to_parquet(folder / "rows.parquet")
    old = run.load(folder)
    assert old.rows["reader"].tolist() == [""]
    assert outage.writes(old).readers == ("primary",) and outage.writes(old).safe


def test_the_number_of_a_row_is_never_rounded(tmp_path):
    numbers = run.load(example().save(tmp_path)).samples["row"].dropna().tolist()
    assert numbers == [BIG, BIG + 1]


def test_an_empty_run_keeps_its_columns_and_types(tmp_path):
    empty = run.load(run.make([]).save(tmp_path))
    assert list(empty.samples) == ["probe", "sent", "took", "outcome", "detail", "row"]
    assert empty.samples["row"].dtype == "Int64"
    assert empty.at("strike") is None and empty.probes == [] and empty.fault == ""


def test_a_run_that_was_not_written_to_its_end_is_refused(tmp_path):
    folder = example().save(tmp_path)
    (folder / "run.json").unlink()
    with pytest.raises(run.RunError, match="measure it again"):
        run.load(folder)


def test_a_run_of_another_format_is_refused_by_number(tmp_path):
    folder = example().save(tmp_path)
    (folder / "run.json").write_text(json.dumps({"format": 99, "settings": {}}))
    with pytest.raises(run.RunError, match="format 99, this gislab reads 1"):
        run.load(folder)


def test_the_settings_of_a_run_hold_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    lab = settings.make({"map_server": "mapserver"})
    password = lab.secret("gis_password")
    about = run.about(lab, fault="power_cut", seed=1)
    assert about["kind"] == "virtual" and about["map_server"] == "mapserver"
    assert password not in json.dumps(about)
