"""Trials together: a median says how sure it is, and one without an end is never averaged away."""

import math

import invented
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gislab import change, predict, run, trials


def made(length, *, fault="power_cut", lane="maps", ends=True):
    """A run at 10 Hz whose lane is answered at once, but for `length` seconds from 1.0 on."""
    last = 1.0 + length if ends else 99
    samples = [(lane, i / 10, 0.0, "failed" if 1.0 + 1e-9 < i / 10 < last - 1e-9 else "ok")
               for i in range(100)]
    return run.make(samples, [(1.0, "strike")], settings={"fault": fault, "rate": 10})


def series(*lengths, **how):
    return [made(length, **how) for length in lengths]


def test_the_outages_of_a_series_are_those_of_its_runs():
    runs = [*series(0.5, 2.0), made(1, ends=False)]
    assert trials.outages(runs, "maps").round(6).tolist() == [0.5, 2.0, math.inf]
    assert trials.outages(runs, "address").round(6).tolist() == [0.5, 2.0, math.inf]
    assert len(trials.outages(runs, "sql_read")) == 0


def test_the_bootstrap_of_a_median_is_the_published_one():
    """The treated mice of Efron and Tibshirani (1993), table 2.2: its standard error is 37.83."""
    mice = np.array([94, 197, 16, 38, 99, 141, 23], dtype=float)
    assert trials._medians(mice, 1).std() == pytest.approx(37.83, rel=0.02)
    s = trials.spread(mice)
    assert s.median == 94 and (s.low, s.high) == (23, 141)


def test_an_interval_of_95_percent_contains_the_true_median_about_that_often():
    source = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        s = trials.spread(source.exponential(1.0, 20))
        hits += s.low <= math.log(2) <= s.high
    assert 0.90 <= hits / 200 <= 0.99


def test_fewer_than_six_trials_have_no_interval():
    assert math.isnan(trials.spread([1, 2, 3, 4, 5]).low)
    assert trials.table(series(1, 2))["95 % interval [s]"].tolist() == ["too few"]
    assert not math.isnan(trials.spread([1, 2, 3, 4, 5, 6]).low)


def test_a_trial_without_an_end_counts_as_longer_than_any_and_is_told():
    s = trials.spread([1, 2, 3, math.inf, 2, 1, 2])
    assert s.median == 2 and s.not_recovered == 1 and math.isinf(s.most)
    assert trials.spread([1, math.inf, math.inf]).median == math.inf
    assert str(trials.spread([1, math.inf, math.inf])) == "not recovered"
    line = trials.table([*series(1, 2), made(1, ends=False)]).iloc[0]
    assert (line["most [s]"], line["not recovered"]) == ("no end", 1)


def test_the_ecdf_of_a_series_with_one_that_did_not_recover_never_reaches_1():
    x, y = trials.ecdf([3, 1, math.inf, 2])
    assert x.tolist() == [1, 2, 3] and y.tolist() == [0.25, 0.5, 0.75]
    assert trials.ecdf([])[0].tolist() == []


@pytest.mark.parametrize("now, verdict", [
    ([2.0, 2.1, 2.0, 2.2, 2.1, 2.0, 2.1], "slower"),
    ([0.2, 0.3, 0.2, 0.2, 0.3, 0.2, 0.3], "faster"),
    ([1.0, 1.1, 1.2, 1.0, 1.1, 1.0, 1.2], "no change seen"),
    ([2.0, 2.0, 2.0], "too few trials")])
def test_a_series_is_compared_with_a_saved_one(now, verdict):
    before = series(1.0, 1.1, 1.0, 1.2, 1.1, 1.0, 1.1)
    found = trials.compare(series(*now), before)
    assert found["verdict"].tolist() == [verdict]


def test_a_difference_below_the_pause_between_two_questions_is_none():
    """It is certain, and still it may be that of the probes alone."""
    found = trials.compare(series(*[1.1] * 8), series(*[1.0] * 8))
    assert found["difference [s]"].tolist() == ["0.10"]
    assert found["verdict"].tolist() == ["no change seen"]


def test_an_end_that_was_there_before_and_is_missing_now_is_worse_whatever_the_median():
    now = [*series(*[1.0] * 8), made(1, ends=False)]
    assert trials.compare(now, series(*[1.0] * 8))["verdict"].tolist() == ["worse: not recovered"]


def test_only_what_both_measured_is_compared():
    found = trials.compare(series(1, 1, fault="a") + series(1, 1, fault="b"),
                           series(1, 1, fault="b") + series(1, 1, fault="c"))
    assert found["fault"].tolist() == ["b"]
    assert trials.compare(series(1, fault="a"), series(1, fault="b")).empty


LENGTHS = st.lists(st.one_of(st.floats(0, 100), st.just(math.inf)), min_size=1, max_size=15)


@given(LENGTHS)
def test_the_spread_is_in_order(values):
    s = trials.spread(values)
    assert s.least <= s.median <= s.most and s.least <= s.p95 <= s.most
    if s.n >= trials.ENOUGH:
        assert s.least <= s.low <= s.high <= s.most
    assert s == trials.spread(values), "the same trials, the same figures"


@given(LENGTHS)
def test_an_ecdf_rises_from_its_first_trial_to_the_share_that_recovered(values):
    x, y = trials.ecdf(values)
    assert (np.diff(x) >= 0).all() and (np.diff(y) > 0).all()
    recovered = sum(math.isfinite(v) for v in values)
    assert len(x) == recovered and (not recovered or math.isclose(y[-1], recovered / len(values)))


def test_it_is_counted_how_many_trials_were_as_long_as_theory_says():
    p = predict.outage("power_cut", "maps")
    runs = series(round(p.least + 0.1, 1), round(p.most, 1), p.most + 2, 0.0)
    line = trials.inside(runs).iloc[0]
    assert (line["trials"], line["inside"], line["longer"], line["shorter"]) == (4, 2, 1, 1)
    assert "expected 0.3 s" in line["predicted"]
    mean = (round(p.least + 0.1, 1) + round(p.most, 1) + p.most + 2) / 4
    assert float(line["mean [s]"]) == pytest.approx(mean, abs=0.1)
    calm = trials.inside(series(0.0, 0.3, fault="map_server_killed")).iloc[0]
    assert (calm["inside"], calm["longer"]) == (1, 1), "no failed request means none"
    assert trials.inside(series(1, fault="ring_cut", lane="sql_write")).empty
    assert trials.inside(series(1, fault="unheard of")).empty


def test_a_lost_write_is_worse_than_before_and_so_is_a_longer_outage():
    calm = series(*[1.0] * 7)
    assert not trials.worse(calm) and not trials.worse(calm, calm)
    assert trials.worse(series(*[3.0] * 7), calm)
    lost = run.make([("sql_write", 0.0, 0.01, "ok", "", 1)], rows=[(None, 0, "primary postgis1")])
    assert trials.worse([lost])


@pytest.mark.parametrize("rows, worse", [
    ([(1, 1, "primary postgis1")], False),
    ([(1, 2, "primary postgis1")], True),  # doubled
    ([(1, 1, "primary postgis1"), (2, 1, "primary postgis1")], True),  # nobody sent it
    ([(1, 1, "primary postgis1"), (None, 0, "replica postgis2")], True),
    ([], True)])
def test_every_broken_promise_is_worse_and_so_are_writes_that_nobody_could_read(rows, worse):
    made = run.make([("sql_write", 0.0, 0.01, "ok", "", 1)], rows=rows)
    assert trials.worse([made]) is worse
    assert not trials.worse([run.make([("sql_read", 0.0, 0.01, "ok")])]), "nobody wrote"


def test_what_has_nothing_to_tell_is_no_table():
    assert list(trials.tables(series(1.0))) == [
        "how long", "how fast", "layer by layer", "of what", "as predicted", "writes"]
    assert list(trials.tables(series(1, 2, fault="unheard of"), series(1, 2))) == [
        "how long", "writes"]


def test_every_table_says_on_what_pis_and_with_which_map_server_it_was_measured():
    runs = [invented.one(server="geoserver", seed=n) for n in range(2)]
    place = "virtual lab (virtual Pis), maps by GeoServer"
    shown = {**trials.tables(runs, runs), **trials.tables(runs[:1]),
             "changes": change.table(runs[0])}
    assert len(shown) > 6 and {name: table.columns.name for name, table in shown.items()} == \
        dict.fromkeys(shown, place)
    assert all(place in table._repr_html_() for table in shown.values())
    mixed = trials.table([*runs, invented.one()])
    assert mixed.columns.name == f"{place} / {place.replace('Geo', 'Map')}"


def test_it_is_told_how_often_the_vip_and_the_primary_moved():
    full = [invented.one("cpu_full", vip=None, lock=None), invented.one("cpu_full", vip=None)]
    found = trials.tables([*full, invented.one("power_cut")])["moves"]
    assert found.to_dict("records") == [
        {"fault": "cpu_full", "trials": 2, "VIP moves": "0", "primary moves": "0 to 1"},
        {"fault": "power_cut", "trials": 1, "VIP moves": "1", "primary moves": "1"}]
    assert "moves" not in trials.tables([invented.one(seen=False)]), "nobody watched"
