"""Predictions follow the formulas of their sources, and the settings of the stack."""

import dataclasses
import math
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
    at_least = predict.gossip_death(T).most + T.peer_poll + T.promotion + T.check_down
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
    ("watch_every", "images/keepalived/entrypoint.sh", r"read -rt ([\d.]+) -u \"\$idle\""),
    ("loop_wait", "images/postgis/patroni.yml", r"loop_wait: ([\d.]+)"),
    ("alive_ttl", "images/postgis/alive.sh", r'TTL\\": \\"([\d.]+)s'),
    ("watch_postgres", "images/postgis/watch.sh", r'read -rt ([\d.]+) -u "\$never"'),
    ("peer_poll", "images/postgis/peers.cfg", r"timeout +connect +([\d.]+ms)"),
    ("probe_every", "images/consul/entrypoint.sh", r'probe_interval\W+([\d.]+ms)'),
    ("raft", "images/consul/entrypoint.sh", r'raft_multiplier\W+([\d.]+)'),
    ("suspicion", "images/consul/entrypoint.sh", r'suspicion_mult\W+([\d.]+)'),
    ("check_down", "stack/haproxy.cfg", r"port 8008 .*\bdowninter ([\d.]+ms)"),
    ("connect", "stack/haproxy.cfg", r"timeout +connect +([\d.]+ms)"),
])
def test_the_prediction_uses_what_the_stack_is_set_to(field, path, pattern):
    found = re.search(pattern, (PROJECT / path).read_text())
    assert found, f"{path} does not say {field} any more"
    text = found[1]
    value = float(text[:-2]) / 1000 if text.endswith("ms") else float(text)
    assert dataclasses.asdict(T)[field] == value
