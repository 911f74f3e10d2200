"""Outages, latencies and lost writes, from literal samples."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gislab import outage, run


def lane(*samples, name="maps", strike=1.0, rows=()):
    """Samples as (sent, outcome) or (sent, outcome, row), each taking 10 ms."""
    return run.make([(name, s[0], 0.01, s[1], "", s[2] if len(s) > 2 else None)
                     for s in samples], [(strike, "strike", "", "x")],
                    settings={"fault": "x"}, rows=rows)


def test_an_outage_lasts_from_the_last_answer_before_to_the_first_one_after():
    o = outage.of(lane((0.9, "ok"), (1.0, "failed"), (1.1, "unknown"), (1.2, "ok")), "maps")
    assert math.isclose(o.outage, 0.3) and (o.begin, o.end) == (0.91, 1.21)
    assert o.recovered and (o.failed, o.unknown, o.asked) == (1, 1, 4)


def test_a_lane_without_a_failure_had_no_outage_however_far_apart_its_questions():
    o = outage.of(lane((0.0, "ok"), (9.0, "ok")), "maps")
    assert o.outage == 0 and o.recovered


def test_the_longest_of_several_gaps_counts():
    o = outage.of(lane((0, "ok"), (1, "failed"), (2, "ok"), (3, "failed"), (7, "ok")), "maps")
    assert math.isclose(o.outage, 5) and (o.begin, o.end) == (2.01, 7.01)


def test_an_answer_that_was_held_back_ends_an_outage_when_it_comes():
    r = run.make([("maps", 1.0, 0.0, "ok"), ("maps", 1.1, 0.1, "unknown"),
                  ("maps", 1.2, 1.8, "ok"), ("maps", 1.3, 1.7, "ok")], [(1.05, "strike")])
    o = outage.of(r, "maps")
    assert (o.begin, o.end) == (1.0, 3.0) and o.outage == 2.0


def test_no_recovery_is_a_result_and_not_a_large_number():
    r = lane((0.9, "ok"), (1.0, "failed"), (60.0, "failed"))
    o = outage.of(r, "maps")
    assert not o.recovered and math.isnan(o.outage) and o.begin == 0.91
    assert outage.table(r)["outage [s]"].tolist() == ["not recovered"]


def test_a_lane_that_never_succeeded_did_not_recover():
    assert not outage.of(lane((0, "failed"), (1, "unknown")), "maps").recovered


def test_a_lane_that_was_never_asked_is_no_success():
    assert not outage.of(lane((0, "ok")), "sql_read").recovered


def test_answers_are_taken_in_the_order_of_sending_not_of_arrival():
    o = outage.of(lane((1.2, "ok"), (1.0, "failed"), (0.9, "ok")), "maps")
    assert math.isclose(o.outage, 0.3)


def test_latencies_before_and_after_the_strike_are_told_apart():
    r = run.make([("maps", 0.0, 0.010, "ok"), ("maps", 0.5, 0.030, "ok"),
                  ("maps", 1.5, 0.200, "ok"), ("maps", 0.99, 5.0, "ok")],
                 [(1.0, "strike")])
    o = outage.of(r, "maps")
    assert math.isclose(o.p50_before, 0.020) and math.isclose(o.p50_after, 0.200)
    assert o.slowest == 5.0


def test_the_writes_of_a_run_are_judged_by_the_one_checker():
    r = lane((0, "ok", 1), (1, "ok", 2), (2, "ok", 3), rows=[(1, 1), (3, 1)])
    assert outage.writes(r).lost == (2,) and not outage.writes(r).safe
    line = outage.writes_table(r).iloc[0]
    assert (line["acknowledged"], line["lost"], line["read on"]) == (3, 1, 1)


def test_a_run_whose_rows_nobody_read_is_not_called_safe():
    r = lane((0, "ok", 1))
    assert not outage.writes(r).safe
    assert outage.writes_table(r)["lost"].tolist() == ["not known"]


@given(st.lists(st.sampled_from(["ok", "failed", "unknown"]), max_size=40))
def test_an_outage_is_never_longer_than_the_run_and_never_negative(outcomes):
    o = outage.of(lane(*[(i / 10, outcome) for i, outcome in enumerate(outcomes)]), "maps")
    assert o.recovered == (bool(outcomes) and outcomes[-1] == "ok")
    if o.recovered:
        assert 0 <= o.outage <= len(outcomes) / 10 + 0.01
        assert (o.outage == 0) == all(x == "ok" for x in outcomes)
