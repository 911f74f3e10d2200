"""The phases of an outage add up to it, and none is told that was not seen."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gislab import phases, run


def made(system, *, lane="sql_write", begin=1.0, end=4.0):
    """A strike at 1.0 and a lane that fails from `begin` until it is answered at `end`."""
    samples = [(lane, i / 10, 0.0, "failed" if begin < i / 10 < end else "ok") for i in range(60)]
    return run.make(samples, [(1.0, "strike"), (1.1, "struck"), (5.0, "undo"), (5.5, "undone")],
                    settings={"fault": "power_cut"}, system=system)


LOCK = [(0.0, "pi1", "primary", "", "postgis1"), (0.0, "pi2", "primary", "", "postgis1"),
        (2.5, "pi2", "primary", "", ""), (2.6, "pi3", "primary", "", ""),
        (3.0, "pi3", "primary", "", "postgis2"), (3.1, "pi2", "primary", "", "postgis2")]
VIP = [(0.0, "pi1", "vip", "", "here"), (0.0, "pi2", "vip", "", "away"),
       (1.6, "pi2", "vip", "", "here")]


def test_detecting_deciding_and_serving_again_add_up_to_the_end_of_the_outage():
    p = phases.of(made(LOCK), "sql_write")
    assert [round(x, 6) for x in (p.detect, p.decide, p.serve)] == [1.5, 0.5, 1.0]
    assert p.move == phases.Move("primary", "postgis1", 2.5, 3.0, "postgis2")


def test_a_dark_pi_gives_nothing_up_so_that_the_backup_detects_and_decides_in_one():
    p = phases.of(made(VIP, lane="maps", end=2.0), "maps")
    assert math.isnan(p.detect) and round(p.decide, 6) == 0.6 and round(p.serve, 6) == 0.4


def test_an_address_that_is_given_away_shows_both():
    system = [*VIP[:2], (1.3, "pi1", "vip", "", "away"), (1.4, "pi2", "vip", "", "here")]
    p = phases.of(made(system, lane="maps", end=1.5), "maps")
    assert [round(x, 6) for x in (p.detect, p.decide, p.serve)] == [0.3, 0.1, 0.1]


def test_a_client_that_is_served_before_the_pi_has_looked_waited_for_nothing_more():
    late = [*VIP[:2], (1.55, "pi2", "vip", "", "here")]
    p = phases.of(made(late, lane="maps", end=1.5), "maps")
    assert (round(p.decide, 6), p.serve) == (0.5, 0)


def test_where_both_roles_moved_the_later_one_was_waited_for():
    both = sorted(LOCK + VIP, key=lambda line: line[0])
    assert phases.of(made(both), "sql_write").move.role == "primary"
    assert phases.of(made(both, lane="maps"), "maps").move.role == "vip"


def test_maps_do_not_wait_for_a_primary():
    assert phases.of(made(LOCK, lane="maps"), "maps").move is None


def test_old_news_of_a_pi_that_comes_back_is_no_new_holder():
    late = [*LOCK[:4], (2.8, "pi1", "primary", "", "postgis1"), *LOCK[4:]]
    assert phases.of(made(late), "sql_write").move.holder == "postgis2"


def test_a_lock_that_its_holder_took_again_has_moved_nowhere_and_is_told_so():
    again = [*LOCK[:3], (3.0, "pi2", "primary", "", "postgis1")]
    assert phases.of(made(again), "sql_write").move.holder == "postgis1"


@pytest.mark.parametrize("system", [[], LOCK[:3], [(4.5, "pi2", "primary", "", "postgis2")]])
def test_what_nobody_saw_is_not_known(system):
    p = phases.of(made(system), "sql_write")
    assert p.move is None and all(map(math.isnan, (p.detect, p.decide, p.serve)))


def test_a_lane_that_did_not_recover_or_never_failed_has_no_phases():
    for r in (made(LOCK, end=99.0), made(LOCK, begin=4.0)):
        assert phases.of(r, "sql_write").move is None
    assert phases.table(made(LOCK, begin=4.0)).empty
    assert phases.table(made(LOCK, end=99.0))["outage [s]"].tolist() == ["not recovered"]


def test_the_table_says_what_moved_and_to_whom():
    line = phases.table(made(LOCK)).iloc[0]
    assert line["moved"] == "primary to postgis2"
    assert (line["detect [s]"], line["decide [s]"], line["serve again [s]"]) == (1.5, 0.5, 1.0)


@given(st.lists(st.tuples(st.floats(0, 6), st.sampled_from(["pi1", "pi2", "pi3"]),
                          st.sampled_from(["vip", "primary"]),
                          st.sampled_from(["", "here", "away", "postgis1", "postgis2"])),
                max_size=25))
def test_phases_are_never_negative_and_end_with_the_outage(lines):
    system = [(t, node, kind, "", state) for t, node, kind, state in sorted(lines)]
    r = made(system)
    p = phases.of(r, "sql_write")
    known = [x for x in (p.detect, p.decide, p.serve) if not math.isnan(x)]
    assert all(x >= 0 for x in known)
    if p.move:
        assert math.isclose(sum(known), 4.0 - 1.0)
        assert math.isnan(p.move.free) == math.isnan(p.detect)
