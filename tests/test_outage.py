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


def test_latencies_during_a_fault_are_those_until_it_was_undone():
    r = run.make([("maps", 0.5, 0.01, "ok"), ("maps", 1.5, 0.3, "ok"), ("maps", 1.6, 2, "failed"),
                  ("maps", 2.5, 0.02, "ok")], [(1.0, "strike"), (1.7, "undo"), (2.0, "undone")])
    o = outage.of(r, "maps")
    assert (o.p50_before, o.p99_during, o.p50_after) == (0.01, 0.3, 0.02)


def test_the_time_without_success_is_that_of_all_outages_together():
    r = lane((0, "ok"), (1, "failed"), (2, "ok"), (3, "ok"), (4, "failed"), (7, "ok"))
    o = outage.of(r, "maps")
    assert math.isclose(o.outage, 4) and math.isclose(o.total, 2 + 4)
    assert outage.table(r)["in all [s]"].tolist() == ["6.00"]


def test_of_a_lane_that_did_not_recover_the_time_so_far_is_told_as_the_least():
    r = lane((0, "ok"), (1, "failed"), (5, "failed"))
    assert math.isclose(outage.of(r, "maps").total, 5 - 0.01)
    assert outage.table(r)["in all [s]"].tolist() == ["at least 4.99"]


def two(maps, features):
    """A run of two lanes of one layer, each answered after 10 ms."""
    return run.make([(name, i / 10, 0.01, outcome)
                     for name, own in (("maps", maps), ("features", features))
                     for i, outcome in enumerate(own)], [(0.15, "strike")])


def test_a_layer_is_away_only_while_none_of_its_lanes_succeeds():
    r = two(["ok", "ok", "failed", "failed", "failed", "failed", "ok"],
            ["ok", "ok", "ok", "failed", "failed", "ok", "ok"])
    assert math.isclose(outage.of(r, "maps").outage, 0.5)
    assert math.isclose(outage.layer(r, "maps").outage, 0.3)
    assert math.isclose(outage.layer(r, "address").outage, 0.3)
    assert outage.layer(r, "writes") is None
    assert outage.layers_table(r)["layer"].tolist() == ["address", "maps"]


def test_a_lane_that_fails_alone_takes_no_layer_down():
    r = two(["ok"] * 8, ["ok"] + ["failed"] * 7)
    assert not outage.of(r, "features").recovered
    assert outage.layer(r, "maps").recovered and outage.layer(r, "maps").outage == 0


OUTCOMES = st.lists(st.sampled_from(["ok", "failed", "unknown"]), min_size=1, max_size=30)
# (seconds since the question before, seconds until its answer, outcome)
QUESTIONS = st.lists(st.tuples(st.floats(0.001, 3), st.floats(0, 5),
                               st.sampled_from(["ok", "failed", "unknown"])),
                     min_size=1, max_size=30)


def asked(questions, begin=0.0):
    sent, found = begin, []
    for pause, took, outcome in questions:
        sent += pause
        found.append(("maps", sent, took, outcome))
    return found


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-6)


@given(QUESTIONS)
def test_all_outages_together_are_as_long_as_the_longest_and_no_longer_than_the_run(questions):
    samples = asked(questions)
    o = outage.of(run.make(samples), "maps")
    span = max(sent + took for _, sent, took, _ in samples) - samples[0][1]
    assert 0 <= o.total <= span + 1e-9
    if o.recovered:
        assert o.outage <= o.total + 1e-9
        assert (o.total == 0) == (o.outage == 0)
        # an answer that came at once can close a gap of no length: then nothing was away
        assert o.total == 0 or o.failed + o.unknown > 0
    assert o.asked == o.failed + o.unknown + sum(s[3] == "ok" for s in samples)


@given(QUESTIONS, st.randoms(use_true_random=False))
def test_the_order_in_which_samples_were_written_down_does_not_matter(questions, random):
    samples = asked(questions)
    mixed = random.sample(samples, len(samples))
    a, b = (outage.of(run.make(s), "maps") for s in (samples, mixed))
    assert (same(a.outage, b.outage) and same(a.total, b.total) and a.recovered == b.recovered)


@given(QUESTIONS, st.floats(0, 1000))
def test_an_outage_is_as_long_on_any_clock(questions, later):
    a, b = (outage.of(run.make(asked(questions, begin)), "maps") for begin in (0.0, later))
    assert same(a.outage, b.outage) and same(a.total, b.total)


@given(QUESTIONS, st.data())
def test_one_more_success_never_makes_an_outage_longer(questions, data):
    samples = asked(questions)
    number = data.draw(st.integers(0, len(samples) - 1))
    name, sent, took, _ = samples[number]
    better = [*samples[:number], (name, sent, took, "ok"), *samples[number + 1:]]
    a, b = (outage.of(run.make(s), "maps") for s in (samples, better))
    if a.recovered:
        assert b.recovered and b.outage <= a.outage + 1e-9 and b.total <= a.total + 1e-9


@given(OUTCOMES, OUTCOMES)
def test_no_layer_is_away_for_longer_than_any_of_its_lanes(maps, features):
    r = two(maps, features)
    whole, lanes = outage.layer(r, "maps"), [outage.of(r, p) for p in r.probes]
    assert whole.recovered == any(o.recovered for o in lanes)
    for o in lanes:
        if o.recovered:
            assert whole.outage <= o.outage + 1e-9 and whole.total <= o.total + 1e-9
    assert whole.asked == sum(o.asked for o in lanes)
