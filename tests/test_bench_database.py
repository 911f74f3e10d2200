"""The bench of outages tells what it measured, and compares with what the stack is set to."""

import re

import pandas
import pytest
from bench import bench_database

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
