"""Predictions follow the formulas of their sources, and the settings of the stack."""

import dataclasses
import math
import random
import re
from pathlib import Path

import pytest

from gislab import faults, predict, run

PROJECT = Path(__file__).parent.parent
T = predict.Timing()


def test_a_vip_moves_after_the_master_down_interval_of_rfc_5798():
    defaults = predict.Timing(advert=1, priority=100)
    assert math.isclose(predict.vip_moves(defaults).most, 3 + 156 / 256)


def test_the_setting_of_2016_predicts_at_least_fifteen_seconds():
    slow = predict.vip_moves(predict.Timing(advert=5, priority=100))
    assert slow.most > 15 and slow.most > 10 * predict.vip_moves(T).most


def test_a_higher_priority_takes_over_sooner():
    by_priority = [predict.skew(predict.Timing(priority=p)) for p in (100, 200, 250)]
    assert by_priority == sorted(by_priority, reverse=True)


def test_suspicion_follows_memberlist():
    assert math.isclose(predict.gossip_death(T).least, 0.25 + 4 * 0.25)
    many = predict.Timing(servers=1000)
    assert math.isclose(predict.gossip_death(many).least, 0.25 + 4 * 3 * 0.25)


def test_a_pi_that_led_consul_costs_an_election_more():
    at_least = predict.gossip_death(T).most + T.peer_poll + T.promotion + T.found
    assert predict.database_moves(T).most > at_least
    eager = dataclasses.replace(T, raft=0.1, loop_wait=0.1)
    assert predict.database_moves(eager).most == at_least


def test_a_lock_on_the_ttl_alone_is_many_times_slower():
    by_ttl = predict.database_moves(predict.Timing(session_ttl=20))
    assert by_ttl.least > 3 * predict.database_moves(T).most


def test_maps_do_not_notice_a_database_failover_nor_a_killed_map_server():
    for fault in ("primary_killed", "primary_container_killed", "map_server_killed"):
        assert predict.outage(fault, "maps") == predict.NONE
    assert str(predict.NONE) == "none"


@pytest.mark.parametrize("fault", list(faults.ALL))
def test_every_fault_has_a_theory_for_every_lane(fault):
    for probe in ("maps", *predict.SQL):
        p = predict.outage(fault, probe)
        assert p.formula
        if p.known:
            assert 0 <= p.least <= p.most
        assert not p.bounded or p.most < 10


@pytest.mark.parametrize("timing", [T, predict.Timing(servers=5, raft=3, advert=1, maps=5),
                                    predict.Timing(session_ttl=20)])
def test_what_is_expected_lies_between_best_and_worst(timing):
    for fault in faults.ALL:
        for probe in ("maps", *predict.SQL):
            p = predict.outage(fault, probe, timing)
            assert not p.known or p.least <= p.expected <= p.most, f"{fault}, {probe}: {p}"
            assert math.isfinite(p.expected) == p.bounded


SOURCE = random.Random(1)
FALLS = 20_000


def struck(how) -> float:
    """Return the mean of what many faults cost, each at a moment of its own."""
    return sum(how() for _ in range(FALLS)) / FALLS


def test_an_address_is_expected_to_move_after_half_an_advert():
    """Adverts go out on a beat; the backup's timer starts with the last one before the fault."""
    def move() -> float:
        since = SOURCE.uniform(0, T.advert)
        return 3 * T.advert + predict.skew(T) - since
    assert predict.vip_moves(T).expected == pytest.approx(struck(move), rel=0.01)
    assert predict.maps_move(T).expected == pytest.approx(
        predict.vip_moves(T).expected + T.connect / 3)


def test_a_killed_haproxy_is_expected_to_be_missed_after_half_an_interval_and_whole_ones():
    def missed() -> float:
        first = SOURCE.uniform(0, T.watch_every)  # the next question after the fault
        return first + (T.watch_fall - 1) * T.watch_every + predict.skew(T)
    assert predict.haproxy_killed(T).expected == pytest.approx(struck(missed), rel=0.01)


def checked() -> float:
    """A member's relay asks its Patroni, and HAProxy asks the relay."""
    return SOURCE.uniform(0, T.role_every) + SOURCE.uniform(0, T.check_down)


def test_a_killed_primary_is_expected_to_cost_half_a_look_and_half_of_each_check():
    def replaced() -> float:
        return SOURCE.uniform(0, T.watch_postgres) + T.promotion + checked()
    killed = predict.primary_killed(T)
    assert killed.expected == pytest.approx(struck(replaced), rel=0.01)
    assert predict.frozen(T).expected == pytest.approx(
        killed.expected + T.watch_frozen + T.watch_postgres / 2)


@pytest.mark.parametrize("servers", [3, 5])
def test_gossip_is_expected_to_find_a_dead_one_when_the_first_of_the_others_has_its_turn(servers):
    t = predict.Timing(servers=servers)
    others = range(servers - 1)

    def found() -> float:
        turn = min(SOURCE.uniform(0, len(others) * t.probe_every) for _ in others)
        return turn + t.probe_every + t.suspicion * t.probe_every
    assert predict.gossip_death(t).expected == pytest.approx(struck(found), rel=0.01)


def test_an_election_is_expected_to_take_the_means_of_its_random_timeouts():
    def elected() -> float:
        first = min(SOURCE.uniform(1, 2) for _ in range(T.servers - 1)) * T.raft
        return first + SOURCE.uniform(1, 2) * T.raft
    assert predict.election(T).expected == pytest.approx(struck(elected), rel=0.01)


def test_a_pi_with_the_primary_led_consul_one_time_in_three():
    """The election is so much longer than the gossip that the later of both is nearly it."""
    def moved() -> float:
        turn = min(SOURCE.uniform(0, 2 * T.probe_every) for _ in range(2))
        noticed = turn + (1 + T.suspicion) * T.probe_every
        if SOURCE.random() < 1 / T.servers:
            first = min(SOURCE.uniform(1, 2) for _ in range(2))
            led = first + SOURCE.uniform(1, 2) + SOURCE.uniform(0, T.loop_wait)
            noticed = max(noticed, led)
        return noticed + T.peer_poll + T.promotion + checked()
    assert predict.database_moves(T).expected == pytest.approx(struck(moved), rel=0.02)
    any_pi = predict.outage("pi_power_cut", "sql_write")
    assert any_pi.expected == pytest.approx(predict.database_moves(T).expected / 3)


def test_a_session_alone_is_expected_to_last_its_ttl_and_not_twice():
    """Consul doubles it and Patroni halves it; that it may double is the worst case only."""
    found = predict.database_moves(dataclasses.replace(T, session_ttl=20))
    assert 20 < found.expected < 21 and found.most > 40


def test_an_outage_that_may_have_no_end_has_no_mean():
    assert predict.outage("primary_cut_off", "maps").expected == math.inf


FORMULAS = sorted({name for name in predict.__all__ if name.islower()}
                  - {"compare", "of", "outage", "skew", "table"})


@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_names_its_source(name):
    """A manual's section, an RFC, a file of a program or one of ours."""
    said = getattr(predict, name).__doc__
    assert re.search(r"RFC \d+|documentation|[Mm]anual|hashicorp/|images/|stack/", said), said


def test_the_table_tells_best_worst_and_expected():
    table = predict.table("power_cut", ["maps", "sql_write"]).set_index("probe")["predicted"]
    assert table["maps"] == "0.2 to 0.6 s, expected 0.3 s"
    told = predict.compare([run.make([("maps", 0.0, 0.01, "ok")], settings={"fault": name})
                            for name in ("power_cut", "primary_cut_off")])
    assert told["theory, expected [s]"].tolist() == [0.34, "until it is undone"]
    assert told["theory, at most [s]"].tolist() == [0.65, "until it is undone"]


def test_where_theory_says_nothing_or_no_end_the_table_says_so():
    table = predict.table("link_cut", ["sql_write", "maps"])
    assert table["predicted"].tolist() == ["no theory", "none"]
    assert str(predict.outage("ring_cut", "sql_write")) == "until it is undone"
    runs = [run.make([("sql_write", 0.0, 0.01, "ok")], settings={"fault": name})
            for name in ("link_cut", "ring_cut", "primary_killed")]
    told = predict.compare(runs)["theory, at most [s]"].tolist()
    assert told[:2] == ["no theory", "until it is undone"] and 0 < float(told[2]) < 10


def test_a_frozen_primary_costs_a_watcher_and_without_one_the_whole_session():
    assert predict.primary_killed(T).most < predict.frozen(T).most < 3
    assert predict.frozen(dataclasses.replace(T, session_ttl=20)).least > 10


def test_a_fault_without_a_theory_is_an_error():
    with pytest.raises(KeyError):
        predict.outage("earthquake", "maps")


@pytest.mark.parametrize("field, path, pattern", [
    ("advert", "images/keepalived/entrypoint.sh", r"ADVERT_INT:=([\d.]+)"),
    ("watch_every", "images/keepalived/entrypoint.sh", r"read -rt ([\d.]+) -u \"\$events\""),
    ("watch_fall", "images/keepalived/entrypoint.sh", r"failed >= (\d+)"),
    ("maps", "stack/gis.yml", r"replicas: (\d+)"),
    ("alive_every", "images/postgis/alive.sh", r'read -rt ([\d.]+) -u "\$never" \|\| true'),
    ("loop_wait", "images/postgis/patroni.yml", r"loop_wait: ([\d.]+)"),
    ("alive_ttl", "images/postgis/alive.sh", r'TTL\\": \\"([\d.]+)s'),
    ("watch_postgres", "images/postgis/watch.sh", r"file=\(\) pause=([\d.]+)"),
    ("peer_poll", "images/postgis/peers.cfg", r"timeout +connect +([\d.]+ms)"),
    ("role_every", "images/postgis/peers.cfg", r"127.0.0.1:8008 check inter ([\d.]+ms)"),
    ("probe_every", "images/consul/entrypoint.sh", r'probe_interval\W+([\d.]+ms)'),
    ("raft", "images/consul/entrypoint.sh", r'raft_multiplier\W+([\d.]+)'),
    ("suspicion", "images/consul/entrypoint.sh", r'suspicion_mult\W+([\d.]+)'),
    ("check_down", "stack/haproxy.cfg", r"port 8009 .*\bdowninter ([\d.]+ms)"),
    ("connect", "stack/haproxy.cfg", r"timeout +connect +([\d.]+ms)"),
])
def test_the_prediction_uses_what_the_stack_is_set_to(field, path, pattern):
    found = re.search(pattern, (PROJECT / path).read_text())
    assert found, f"{path} does not say {field} any more"
    text = found[1]
    value = float(text[:-2]) / 1000 if text.endswith("ms") else float(text)
    assert dataclasses.asdict(T)[field] == value
