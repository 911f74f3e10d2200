"""Ours beside the set-up of 2016: literal runs in, what broke and what was lost out."""

import math

import invented
import pytest

from gislab import comparison, history, outage, plot, run, trials, worldmap

PAIR = invented.two_setups(trials=3, faults=("map_server_killed", "primary_killed", "power_cut"))


def lane(outcomes, *, undo=8.0, setup=""):
    """One lane at ten questions a second, struck at 2 s; `x` failed, `.` ok."""
    samples = [("maps", n / 10, 0.01, "ok" if o == "." else "failed")
               for n, o in enumerate(outcomes)]
    return run.make(samples, [(2.0, "strike"), (undo, "undo"), (undo + 1, "undone")],
                    settings={"fault": "power_cut", "setup": setup})


def test_what_nobody_noticed_costs_nothing():
    assert comparison.cost(lane("." * 100), "maps") == comparison.Cost(0.0, 0, 60)
    assert str(comparison.cost(lane("." * 100), "maps")) == "not noticed"


def test_a_lane_is_disturbed_from_the_last_success_to_the_next():
    found = comparison.cost(lane("." * 20 + "x" * 10 + "." * 70), "maps")
    assert found.disturbed == pytest.approx(1.1) and (found.failed, found.asked) == (10, 60)
    assert str(found) == "1.1 s"


def test_every_third_question_that_fails_until_somebody_comes_has_no_length():
    """Its longest gap is a fifth of a second, and still it is not back."""
    found = comparison.cost(lane("." * 20 + "x.." * 20 + "." * 20), "maps")
    assert math.isinf(found.disturbed) and found.share == pytest.approx(1 / 3)
    assert str(found) == "33% failed, until mended by hand"
    assert outage.of(lane("." * 20 + "x.." * 20 + "." * 20), "maps").outage < 0.3


def test_what_fails_after_the_fault_was_undone_is_the_mending():
    found = comparison.cost(lane("." * 85 + "x" * 5 + "." * 10), "maps")
    assert found == comparison.Cost(0.0, 0, 60)


def test_what_failed_before_the_strike_is_none_of_the_faults():
    found = comparison.cost(lane("." * 5 + "x" * 5 + "." * 90), "maps")
    assert found == comparison.Cost(0.0, 0, 60)


def test_a_recovery_takes_more_than_a_moment():
    assert math.isinf(comparison.cost(lane("." * 20 + "x" * 55 + "." * 25), "maps").disturbed)


def written(*readings):
    attempts = history.attempts(run.make([
        ("sql_write", n / 10, 0.01, "ok", "", n) for n in range(4)]).samples)
    rows = history.reads({f"server {name}": dict.fromkeys(held, 1)
                          for name, held in zip("ab", readings, strict=True)})
    return history.check(attempts, run.rows(rows))


def test_a_row_on_one_server_only_is_torn_and_one_on_none_is_gone():
    verdict = written({0, 1}, {0, 2})
    assert (verdict.lost, verdict.gone, verdict.torn) == ((1, 2, 3), (3,), (1, 2))
    verdict = written({0, 1, 2, 3}, {0, 1, 2, 3})
    assert (verdict.gone, verdict.torn) == ((), ())
    assert history.check(history.attempts(run.make([]).samples), run.rows([])).gone == ()


def test_the_table_says_what_broke_how_long_and_what_was_lost():
    table = comparison.table(PAIR)
    assert table[["fault", "set-up"]].values.tolist() == [
        ["map server killed", "today"], ["map server killed", "2016"],
        ["postmaster of the primary killed", "today"],
        ["postmaster of the primary killed", "2016"],
        ["power cut: VIP and primary", "today"], ["power cut: VIP and primary", "2016"]]
    lines = table.set_index(["fault", "set-up"])
    assert lines.loc[("map server killed", "today"), "maps"] == "not noticed"
    assert "until mended by hand" in lines.loc[("map server killed", "2016"), "maps"]
    assert (lines["lost"] == 0).all()
    torn = lines["on one server only"].xs("2016", level="set-up")
    assert torn["map server killed"] == 0 and (torn.drop("map server killed") > 100).all()
    assert (lines["on one server only"].xs("today", level="set-up") == 0).all()


def test_the_map_is_empty_for_ours_and_drawn_for_2016():
    ours = [one for one in PAIR if comparison.setup(one) == "today"]
    theirs = [one for one in PAIR if comparison.setup(one) == "2016"]
    assert comparison.places(ours).empty
    found = comparison.places(theirs)
    assert set(found["what"]) == {"on one server only"} and (found["where"] == "a").all()
    assert "nothing is lost" in worldmap.draw(comparison.places(ours)).alt
    assert f"{len(found)} on one server only" in worldmap.draw(found).alt
    with pytest.raises(ValueError, match="no run to look at"):
        comparison.places([])


def test_both_set_ups_are_drawn_with_their_lanes_and_told_in_words():
    figure = plot.beside(PAIR)
    said = "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "virtual lab (virtual Pis), maps by MapServer" in said
    for word in ("the set-up of 2016", "maps (WMS)", "until mended by hand", "not noticed",
                 "power cut: VIP and primary"):
        assert word in said and word in figure.alt
    bars = [bar for bar in figure.axes[0].patches if bar.get_height() == pytest.approx(0.86)]
    assert len(bars) == 3 * 3 * 2 and len({bar.get_y() for bar in bars}) == len(bars)
    assert {bar.get_hatch() for bar in bars} == {"", "///"}


def test_todays_theory_is_not_held_against_the_set_up_of_2016():
    theirs = [one for one in PAIR if comparison.setup(one) == "2016"]
    ours = [one for one in PAIR if comparison.setup(one) == "today"]
    assert trials.inside(theirs).empty and not trials.inside(ours).empty
    figure = plot.timeline(theirs[0])
    said = "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "the set-up of 2016" in said and "the set-up of 2016" in figure.alt
    assert "no theory" in plot.against(theirs).alt


def test_a_set_up_that_was_not_measured_is_left_out():
    ours = [one for one in PAIR if comparison.setup(one) == "today"]
    assert set(comparison.table(ours)["set-up"]) == {"today"}
    assert plot.beside(ours).alt.count("2016:") == 0
