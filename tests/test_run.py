"""A run is kept and read again without a loss, and says what it is."""

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from gislab import outage, run, settings

BIG = 1_763_847_000_000_000_001  # does not fit a float


def example() -> run.Run:
    return run.make(
        [("maps", 0.0, 0.01, "ok"), ("sql_write", 0.1, 2.0, "unknown", "no answer", BIG),
         ("sql_write", 0.2, 0.02, "ok", "", BIG + 1)],
        [(0.05, "strike", "haproxy of pi1", "haproxy_killed")],
        settings={"kind": "virtual", "fault": "haproxy_killed"}, rows=[(BIG + 1, 1)],
        system=[(0.3, "pi2", "vip", "", "here")])


def test_a_saved_run_is_read_back_as_it_was(tmp_path):
    before = example()
    after = run.load(before.save(tmp_path / "a"))
    for name in ("samples", "events", "rows", "system"):
        pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name))
    assert after.settings == before.settings


def test_a_run_that_an_older_gislab_kept_is_read(tmp_path):
    folder = example().save(tmp_path)
    pd.DataFrame({"row": [BIG + 1], "times": [1]}).to_parquet(folder / "rows.parquet")
    old = run.load(folder)
    assert old.rows["reader"].tolist() == [""]
    assert outage.writes(old).readers == ("primary",) and outage.writes(old).safe


def test_a_run_of_the_first_format_is_read_without_what_it_did_not_have(tmp_path):
    folder = example().save(tmp_path)
    (folder / "system.parquet").unlink()
    (folder / "run.json").write_text(json.dumps({"format": 1, "settings": {"fault": "old"}}))
    old = run.load(folder)
    assert old.fault == "old" and len(old.samples) == 3
    assert old.system.empty and list(old.system) == ["t", "node", "kind", "what", "state"]


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(),
                                   lambda path: path.write_bytes(path.read_bytes()[:-9])])
@pytest.mark.parametrize("table", ["samples", "events", "rows", "system"])
def test_a_table_that_is_missing_or_cut_is_named(tmp_path, table, spoil):
    folder = example().save(tmp_path)
    spoil(folder / f"{table}.parquet")
    with pytest.raises(run.RunError, match=f"{table}.parquet is missing or damaged"):
        run.load(folder)


def test_a_run_that_is_saved_over_another_one_is_never_half_of_each(tmp_path, monkeypatch):
    folder = example().save(tmp_path)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *_, **how: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        example().save(folder)
    with pytest.raises(run.RunError, match="not a whole run"):
        run.load(folder)


def test_all_runs_of_a_folder_are_read_in_order_and_broken_off_ones_left_out(tmp_path):
    for name in ("02", "01", "03"):
        run.make([], settings={"fault": name}).save(tmp_path / "series" / name)
    (tmp_path / "series" / "03" / "run.json").unlink()
    assert [one.fault for one in run.load_all(tmp_path)] == ["01", "02"]
    with pytest.raises(run.RunError, match="holds no run"):
        run.load_all(tmp_path / "empty")


ELSEWHERE = """
import sys
for name in ("docker", "psycopg", "httpx", "requests", "geoserver"):
    sys.modules[name] = None  # an import of it fails, as where it is not installed
from gislab import outage, run
print(outage.table(run.load(sys.argv[1])).to_csv())
"""


def test_a_run_gives_the_same_figures_in_another_place_without_docker(tmp_path):
    here = example()
    folder = shutil.move(here.save(tmp_path / "a"), tmp_path / "moved")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, folder], text=True,
                          capture_output=True, cwd=settings.PROJECT,
                          env={"PATH": "", "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == outage.table(here).to_csv().strip()


def test_the_page_on_the_format_names_every_column_and_this_version():
    page = (settings.PROJECT / "docs" / "run-format.md").read_text()
    assert f"format {run.FORMAT}" in page
    for name, columns in run.TABLES.items():
        part = page.split(f"## `{name}.parquet`")[1].split("\n## ")[0]
        part = part.split("| Kind |")[0]  # the second table of a part explains one column
        assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(columns)


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
