"""With one member left, writes are refused or go on: as lab.toml says, and status tells it."""

import dataclasses
import json

import pandas
import pytest

from gislab import durability
from gislab.wait import NotYet

COLUMNS = ["member", "role", "state"]
WHOLE = pandas.DataFrame([("postgis1", "leader", "running"),
                          ("postgis2", "quorum_standby", "streaming"),
                          ("postgis3", "replica", "starting")], columns=COLUMNS)
ALONE = WHOLE[:1]


def config(strict, **other):
    """What Patroni 4.0.7 answers GET /config, without the parameters of PostgreSQL."""
    return "HTTP/1.0 200 OK\n\n" + json.dumps({
        "ttl": 20, "loop_wait": 1, "retry_timeout": 8, "failsafe_mode": True,
        "primary_start_timeout": 0, "synchronous_mode": "quorum", "synchronous_node_count": 1,
        "check_timeline": True,
        "postgresql": {"use_slots": True}, "synchronous_mode_strict": strict, **other})


def obeyed(three, monkeypatch, held):
    """Return the orders to patronictl from now on; after the first, `held` is what is so."""
    orders = []

    def obey(lab, *words):
        orders.append(words)
        three[0].answers["docker", "exec", "c1", "bash"] = held
    monkeypatch.setattr(durability, "patronictl", obey)
    return orders


def test_a_standing_database_is_changed_only_where_it_differs(three, paper, monkeypatch):
    """And is done when a member says so, not before: the second call must find it."""
    lines, orders = [], obeyed(three, monkeypatch, config(False))
    three[0].answers["docker", "exec", "c1", "bash"] = config(True)
    assert not durability.apply(paper, say=lines.append) and lines == []
    other = dataclasses.replace(paper, durability="available")
    assert durability.apply(other, say=lines.append)
    (words,) = orders
    assert words[0] == "edit-config" and words[-1] == "synchronous_mode_strict=false"
    assert not durability.apply(other, say=lines.append)
    assert lines == ["database: durability is available now"]


def test_a_lab_that_was_born_with_other_numbers_gets_todays(three, paper, monkeypatch):
    """Patroni reads bootstrap.dcs once; else a lab would fail over by the numbers of its birth."""
    lines, orders = [], obeyed(three, monkeypatch, config(True))
    old = config(True, loop_wait=2, synchronous_mode=True)
    three[0].answers["docker", "exec", "c1", "bash"] = old
    assert durability.apply(paper, say=lines.append)
    (words,) = orders
    assert words[3:] == ("-s", "loop_wait=1", "-s", 'synchronous_mode="quorum"')
    assert lines == ["database: loop_wait is 1, synchronous_mode is quorum now"]
    assert not durability.apply(paper, say=lines.append) and len(lines) == 1


def test_without_a_member_that_answers_it_is_not_yet_so(three, paper):
    for remote in three:
        remote.answers["docker", "ps"] = ""
    with pytest.raises(NotYet):
        durability.apply(paper)


def test_it_is_told_where_an_acknowledged_write_is(paper):
    available = dataclasses.replace(paper, durability="available")
    assert "on two Pis" in durability.told(paper, WHOLE)
    assert "refused" in durability.told(paper, ALONE)
    assert "ONE Pi alone" in durability.told(available, ALONE)
    nobody = WHOLE.assign(role="replica")
    assert "no member is primary" in durability.told(available, nobody)
