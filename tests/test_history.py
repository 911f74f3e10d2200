"""Losses, doubles, unknowns and two primaries at a time, from literal histories."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gislab import history, run

THREE = ("primary postgis1", "replica postgis2", "replica postgis3")


def attempts(*lines):
    """Writes as (id, outcome) or (id, outcome, sent, took, `server timeline n`)."""
    return history.attempts(run.make([
        ("sql_write", line[2] if len(line) > 2 else i, line[3] if len(line) > 3 else 0.01,
         line[1], line[4] if len(line) > 4 else "", line[0])
        for i, line in enumerate(lines)]).samples)


def judged(lines, **rows):
    """The verdict over attempts, with what each reader held: one of a, b, c -> list of rows."""
    found = {reader: {row: held.count(row) for row in held} for reader, held in rows.items()}
    return history.check(attempts(*lines), run.make([], rows=history.reads(found)).rows)


def test_a_planted_loss_a_double_and_an_unknown_that_happened_are_told_apart():
    v = judged([(1, "ok"), (2, "ok"), (3, "unknown"), (4, "unknown"), (5, "failed"), (6, "ok")],
               a=[1, 1, 3, 6])
    assert v.lost == (2,) and v.doubled == (1,) and v.happened == (3,) and v.vanished == (4,)
    assert v.unexpected == () and (v.acknowledged, v.unanswered, v.refused) == (3, 2, 1)
    assert not v.safe


@pytest.mark.parametrize("lines, rows, kind", [
    ([(1, "ok")], [], "lost"),
    ([(1, "ok")], [1, 1], "doubled"),
    ([(1, "failed")], [1], "unexpected"),
    ([(1, "ok")], [1, 9], "unexpected"),
    ([(1, "unknown")], [1, 1], "doubled")])
def test_each_broken_promise_by_itself_is_not_safe(lines, rows, kind):
    v = judged(lines, a=rows)
    assert not v.safe and getattr(v, kind)
    others = {"lost", "doubled", "unexpected"} - {kind}
    assert not any(getattr(v, other) for other in others)


def test_an_unknown_write_may_have_happened_or_not_and_both_are_safe():
    v = judged([(1, "unknown"), (2, "unknown"), (3, "ok")], a=[1, 3], b=[3, 1])
    assert v.happened == (1,) and v.vanished == (2,) and v.safe


def test_a_row_that_only_a_replica_lacks_is_lost_there_and_named():
    v = judged([(1, "ok"), (2, "ok")], a=[1, 2], b=[1])
    assert [r.lost for r in v.readings] == [(), (2,)] and v.lost == (2,)
    assert v.differing == (2,) and not v.safe


def test_an_unknown_row_on_one_server_only_is_no_agreement():
    v = judged([(1, "unknown")], a=[1], b=[])
    assert v.differing == (1,) and v.happened == (1,) and v.vanished == () and not v.safe


def test_a_reader_that_held_nothing_was_read_and_has_lost_everything():
    v = judged([(1, "ok")], a=[1], b=[])
    assert v.readers == ("a", "b") and v.readings[1].lost == (1,)


def test_without_any_reader_nothing_is_said_to_be_lost_and_nothing_to_be_safe():
    v = judged([(1, "ok")])
    assert v.readings == () and v.lost == () and not v.safe
    assert judged([], a=[]).safe


def test_the_table_has_a_line_for_each_reader():
    table = judged([(1, "ok"), (2, "unknown")], **{"primary x": [1], "replica y": []}).table()
    assert table["read from"].tolist() == ["primary x", "replica y"]
    assert table["lost"].tolist() == [0, 1] and table["rows"].tolist() == [1, 0]
    assert table["unknown, did not"].tolist() == [1, 1]


OLD, NEW = "10.0.0.1 timeline 1", "10.0.0.2 timeline 2"


def forked(*acks):
    """Acknowledged writes as (sent, arrived, by); returns the places of those forked."""
    return history.forked(attempts(*[
        (i, "ok", sent, arrived - sent, by) for i, (sent, arrived, by) in enumerate(acks)]))


def test_a_handover_from_one_timeline_to_the_next_is_no_fork():
    assert forked((0, 1, OLD), (2, 3, OLD), (2.5, 4, NEW), (5, 6, NEW)) == ()


def test_a_write_of_the_old_timeline_sent_after_the_new_one_answered_is_a_fork():
    assert forked((0, 1, OLD), (2, 3, NEW), (3.5, 4, OLD)) == (2,)


def test_an_answer_that_was_long_under_way_is_no_proof_of_a_fork():
    """Sent before the new primary answered, answered after: it may have been committed before."""
    assert forked((0, 1, OLD), (1.5, 9, OLD), (2, 3, NEW)) == ()


def test_two_servers_in_turn_on_one_timeline_are_a_fork():
    other = "10.0.0.9 timeline 1"
    assert forked((0, 1, OLD), (2, 3, other), (4, 5, OLD)) == (1,)
    assert forked((0, 1, OLD), (2, 3, other), (4, 5, other)) == ()  # it was restarted, moved


def test_a_failed_or_unanswered_write_proves_no_fork():
    lines = [(1, "ok", 0, 1, OLD), (2, "ok", 2, 1, NEW), (3, "unknown", 4, 1, ""),
             (4, "failed", 5, 1, "")]
    v = judged(lines, a=[1, 2])
    assert v.forked == () and v.safe
    assert not judged([*lines, (5, "ok", 6, 1, OLD)], a=[1, 2, 5]).safe


def test_the_server_and_timeline_of_an_acknowledged_write_are_kept_and_of_no_other():
    found = attempts((1, "ok", 0, 1, NEW), (2, "failed", 1, 1, "57P03: starting up"),
                     (3, "ok", 2, 1, ""))
    assert found["server"].tolist() == ["10.0.0.2", "", ""]
    assert found["timeline"].tolist() == [2, pd.NA, pd.NA]
    assert list(found) == history.ATTEMPTS


def test_a_read_is_no_attempt():
    samples = run.make([("sql_read", 0, 1, "ok"), ("maps", 0, 1, "ok"),
                        ("sql_write", 0, 1, "ok", "", 7)]).samples
    assert history.attempts(samples)["id"].tolist() == [7]


@given(st.integers(0, 10**15))
def test_every_number_has_one_place_on_earth(number):
    lon, lat = history.place(number)
    assert -180 <= lon <= 180 and -90 <= lat <= 90 and history.place(number) == (lon, lat)


def test_places_are_spread_over_the_sphere_and_no_two_are_the_same():
    points = [history.place(n) for n in range(500_000, 502_000)]
    assert len(set(points)) == 2000
    north = sum(lat > 30 for _, lat in points)  # a quarter of the sphere
    east = sum(lon > 90 for lon, _ in points)
    assert math.isclose(north, 500, abs_tol=20) and math.isclose(east, 500, abs_tol=20)


def test_what_is_wrong_can_be_drawn_and_says_where_it_is_missing():
    lines = [(1, "ok"), (2, "ok"), (3, "ok")]
    v = judged(lines, a=[1, 3, 3], b=[1, 3, 9])
    frame = history.places(v, attempts(*lines))
    assert frame[["id", "what", "where", "worker"]].values.tolist() == [
        [2, "lost", "a, b", "sql_write"], [3, "doubled", "a", "sql_write"],
        [9, "unexpected", "b", ""]]
    assert frame.crs == "EPSG:4326"
    assert (frame.geometry.iloc[0].x, frame.geometry.iloc[0].y) == history.place(2)


def test_where_nothing_is_wrong_there_is_an_empty_map():
    frame = history.places(judged([(1, "ok")], a=[1]), attempts((1, "ok")))
    assert frame.empty and frame.crs == "EPSG:4326" and "what" in frame


def oracle(lines, held):
    """Say of one reader, row by row and without a set, what became of the writes."""
    told = {kind: [] for kind in ("lost", "unexpected", "doubled", "happened", "vanished")}
    for row, outcome in lines:
        times = held.count(row)
        if outcome == "ok" and times == 0:
            told["lost"].append(row)
        if outcome == "failed" and times > 0:
            told["unexpected"].append(row)
        if outcome == "unknown":
            told["happened" if times else "vanished"].append(row)
    for row in held:
        if not any(row == sent for sent, _ in lines):
            told["unexpected"].append(row)
        if held.count(row) > 1:
            told["doubled"].append(row)
    return {kind: tuple(sorted(set(rows))) for kind, rows in told.items()}


HISTORIES = st.lists(st.sampled_from(["ok", "failed", "unknown"]), max_size=12).map(
    lambda outcomes: list(enumerate(outcomes)))
HELD = st.lists(st.integers(0, 14), max_size=14)


@given(HISTORIES, st.lists(HELD, min_size=1, max_size=3))
def test_the_checker_says_what_counting_row_by_row_says(lines, servers):
    readers = dict(zip(THREE, servers, strict=False))
    v = judged(lines, **readers)
    assert v.readers == tuple(readers)
    for reading, held in zip(v.readings, readers.values(), strict=True):
        expected = oracle(lines, held)
        assert {kind: getattr(reading, kind) for kind in expected} == expected
        assert reading.rows == len(held)
    same = all(set(held) == set(servers[0]) for held in servers)
    assert (v.differing == ()) == same
    wrong = [oracle(lines, h)[k] for h in servers for k in ("lost", "unexpected", "doubled")]
    assert v.safe == (same and not any(wrong))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.integers(1, 3)), max_size=12))
def test_a_fork_is_what_comparing_every_pair_finds(acks):
    """One server per timeline: a fork is an older one's ack, sent after a newer one's arrived."""
    found = forked(*[(sent, sent + took, f"10.0.0.{line} timeline {line}")
                     for sent, took, line in acks])
    naive = {i for i, (sent, _, line) in enumerate(acks)
             if any(newer > line and s + t < sent for s, t, newer in acks)}
    assert set(found) == naive
