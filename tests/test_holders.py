"""Who held what: from what several Pis say, of which one may be cut off."""

import invented

from gislab import holders, run
from gislab.holders import Span


def made(*system):
    return run.make([("maps", 10.0, 0.0, "ok")], system=list(system))


def test_an_address_goes_from_one_pi_to_the_other():
    r = made((0.0, "pi1", "vip", "", "here"), (0.0, "pi2", "vip", "", "away"),
             (4.0, "pi1", "vip", "", "away"), (4.5, "pi2", "vip", "", "here"))
    assert holders.spans(r) == {"vip": [Span(0, 4, "pi1"), Span(4.5, 10, "pi2")]}


def test_a_pi_that_is_not_heard_any_more_holds_nothing_that_we_know_of():
    r = made((0.0, "pi1", "watch", "", "begins"), (0.0, "pi1", "vip", "", "here"),
             (3.0, "pi1", "watch", "", "ends"))
    assert holders.spans(r)["vip"] == [Span(0, 3, "pi1")]


def test_two_holders_at_a_time_are_both_told():
    r = made((0.0, "pi1", "vip", "", "here"), (5.0, "pi2", "vip", "", "here"))
    assert holders.spans(r)["vip"] == [Span(0, 10, "pi1"), Span(5, 10, "pi2")]


def test_what_most_say_counts_and_one_that_is_cut_off_does_not_take_a_leader_away():
    three = [(0.0, pi, "consul_leader", "", "pi2") for pi in ("pi1", "pi2", "pi3")]
    assert holders.spans(made(*three, (4.0, "pi1", "consul_leader", "", "")))[
        "consul_leader"] == [Span(0, 10, "pi2")]
    two = [(4.0, "pi1", "consul_leader", "", ""), (4.5, "pi3", "consul_leader", "", "")]
    assert holders.spans(made(*three, *two))["consul_leader"] == [Span(0, 4.5, "pi2")]


def test_of_two_opinions_with_as_many_voices_the_later_one_counts():
    r = made((0.0, "pi1", "primary", "", "postgis1"), (0.0, "pi2", "primary", "", "postgis1"),
             (4.0, "pi2", "primary", "", "postgis2"))
    assert holders.spans(r)["primary"] == [Span(0, 4, "postgis1"), Span(4, 10, "postgis2")]


def test_old_news_of_a_pi_that_has_come_back_is_outvoted():
    r = made((0.0, "pi2", "primary", "", "postgis2"), (0.0, "pi3", "primary", "", "postgis2"),
             (6.0, "pi1", "watch", "", "begins"), (6.0, "pi1", "primary", "", "postgis1"))
    assert holders.spans(r)["primary"] == [Span(0, 10, "postgis2")]


def test_map_servers_are_counted_by_the_haproxy_that_clients_meet():
    r = made(*[(0.0, "pi1", "server", f"maps/maps{n}", "UP") for n in (1, 2, 3)],
             *[(0.0, "pi2", "server", f"maps/maps{n}", "UP") for n in (1, 2)],
             (0.0, "pi1", "vip", "", "here"), (2.0, "pi1", "server", "maps/maps1", "DOWN"),
             (3.0, "pi1", "server", "primary/postgis1", "DOWN"),
             (4.0, "pi2", "server", "maps/maps1", "DOWN"),
             (6.0, "pi1", "vip", "", "away"), (6.5, "pi2", "vip", "", "here"))
    assert holders.spans(r)["maps"] == [Span(0, 2, "3"), Span(2, 6.5, "2"), Span(6.5, 10, "1")]


def test_a_run_that_nobody_watched_has_no_spans():
    assert holders.spans(made()) == {}


def test_a_move_is_counted_when_another_one_has_it_and_not_when_it_was_only_lost():
    r = made((0.0, "pi1", "vip", "", "here"), (2.0, "pi1", "vip", "", "away"),
             (2.5, "pi1", "vip", "", "here"), (4.0, "pi1", "vip", "", "away"),
             (4.5, "pi2", "vip", "", "here"), (6.0, "pi2", "vip", "", "away"),
             (6.5, "pi1", "vip", "", "here"), (0.0, "pi1", "primary", "", "postgis1"))
    assert (holders.moves(r, "vip"), holders.moves(r, "primary")) == (2, 0)
    assert holders.moves(made(), "vip") is None


def test_a_second_holder_that_comes_and_goes_is_a_move():
    r = made((0.0, "pi1", "vip", "", "here"), (5.0, "pi2", "vip", "", "here"),
             (5.5, "pi2", "vip", "", "away"))
    assert holders.moves(r, "vip") == 1
    r = made((0.0, "pi1", "vip", "", "here"), *(
        (t, "pi2", "vip", "", state) for t, state in ((5.0, "here"), (5.5, "away"),
                                                      (7.0, "here"), (7.5, "away"))))
    assert holders.moves(r, "vip") == 2


def test_all_that_was_watched_is_told_in_one_order():
    assert list(holders.spans(invented.one())) == list(holders.ROWS)


def counted(*lines):
    """What HAProxies say of the primaries: (t, Pi, member's number, state)."""
    return [(t, pi, "server", f"primary/postgis{n}", state) for t, pi, n, state in lines]


def test_two_members_that_are_counted_as_primary_at_a_time_are_told_with_their_time():
    r = made(*counted((0.0, "pi1", 1, "UP"), (0.0, "pi1", 2, "DOWN"), (3.0, "pi1", 2, "UP"),
                      (3.5, "pi1", 1, "DOWN")))
    assert holders.rivals(r) == [Span(3, 3.5, "postgis1, postgis2")]


def test_one_after_the_other_is_one_at_a_time():
    assert holders.rivals(made(*counted(
        (0.0, "pi1", 1, "UP"), (3.0, "pi1", 1, "DOWN"), (3.5, "pi1", 2, "UP")))) == []


def test_a_pi_that_is_cut_off_with_its_former_primary_is_a_view_of_its_own():
    """It sees one, and the others see one; together they are two."""
    r = made(*counted((0.0, "pi1", 1, "UP"), (0.0, "pi2", 1, "UP"), (3.0, "pi2", 1, "DOWN"),
                      (4.0, "pi2", 2, "UP"), (7.0, "pi1", 1, "DOWN")))
    assert holders.rivals(r) == [Span(4, 7, "postgis1, postgis2")]


def test_what_a_pi_or_an_haproxy_that_is_not_heard_said_last_does_not_count():
    two = counted((0.0, "pi1", 1, "UP"), (0.0, "pi2", 1, "DOWN"), (4.0, "pi2", 2, "UP"))
    for silent in (("watch", "", "ends"), ("haproxy", "", "silent")):
        assert holders.rivals(made(*sorted([*two, (3.0, "pi1", *silent)]))) == []
    assert holders.rivals(made(*two)) == [Span(4, 10, "postgis1, postgis2")]


def test_an_haproxy_that_has_just_begun_counts_all_as_up_and_is_not_believed_yet():
    """So it is after each power cut: without a check that has failed, every server is up."""
    calm = counted((0.0, "pi1", 2, "UP"))
    begun = counted(*[(5.0, "pi3", n, "UP") for n in (1, 2, 3)])
    settled = counted((5.6, "pi3", 1, "DOWN"), (5.7, "pi3", 3, "DOWN"))
    for again in ([(4.9, "pi3", "watch", "", "begins")], [(4.9, "pi3", "haproxy", "", "answers")]):
        assert holders.rivals(made(*calm, *again, *begun, *settled)) == []
        late = made(*calm, *again, *begun)  # and never changes its mind
        assert holders.rivals(late) == [Span(6.9, 10, "postgis1, postgis2, postgis3")]


def test_where_nobody_watched_a_primary_it_is_not_said_that_there_was_one_at_a_time():
    assert holders.rivals(made()) is None
    assert holders.rivals(made((0.0, "pi1", "vip", "", "here"))) is None
