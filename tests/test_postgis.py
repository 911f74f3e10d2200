"""Who is primary, who lags, and what each member holds."""


import pandas
import pytest
from recorded import CLUSTER, said

from gislab import database, members, nodes, postgis
from gislab.shell import Result
from gislab.wait import NotYet


def test_the_way_in_is_the_vip_and_no_password_is_in_the_address(paper):
    assert postgis.url(paper) == "postgresql://gis@172.30.16.100:5432/gis"
    assert postgis.url(paper, "reader", port=5434) == "postgresql://reader@172.30.16.100:5434/gis"
    with pytest.raises(ValueError, match="gis, reader, postgres"):
        database.connect(paper, "admin")


def test_a_connection_never_waits_for_hours(paper, monkeypatch):
    given = {}
    monkeypatch.setattr(database.psycopg, "connect", lambda **how: given.update(how))
    postgis.connect(paper, "reader", port=5434, autocommit=True)
    assert given["host"] == paper.vip and given["port"] == 5434 and given["autocommit"]
    assert given["password"] == paper.secret("reader_password")
    assert given["connect_timeout"] <= 5 and given["tcp_user_timeout"] <= 20_000


def test_members_are_listed_with_their_pis(three, paper):
    table = postgis.members(paper)
    assert table["member"].tolist() == ["postgis1", "postgis2", "postgis3"]
    assert table["node"].tolist() == ["pi1", "pi2", "pi3"]
    assert table["role"].tolist() == ["quorum_standby", "leader", "replica"]
    assert table["lag"].tolist()[:2] == [0, 0] and table["lag"].isna().tolist()[2]
    assert postgis.primary(paper) == "postgis2"
    asked = three.sent("docker", "exec")
    assert len(asked) == 2 and "/cluster" in asked[0][1]  # one member is enough for an answer


def test_a_member_that_cannot_tell_is_passed_over(three, paper):
    three[0].answers["docker", "exec", "c1", "bash"] = Result((), 1, "", "connection refused")
    three[1].answers["docker", "exec", "c2", "bash"] = "HTTP/1.0 503 Unavailable\n\n"
    assert postgis.primary(paper) == "postgis2"
    assert [pi for pi, _ in three.sent("docker", "exec")] == ["pi1", "pi2", "pi3"]


def test_nobody_answers_and_nobody_is_primary_both_mean_not_yet(three, paper):
    for remote in three:
        remote.answers["docker", "ps"] = ""
    with pytest.raises(NotYet, match="no member"):
        postgis.members(paper)
    with pytest.raises(NotYet, match="no member"):
        postgis.each(paper, "select 1")
    leaderless = {"members": [m for m in CLUSTER["members"] if m["role"] != "leader"]}
    three[2].answers.update({("docker", "ps"): "c3 gis_postgis3",
                             ("docker", "exec", "c3", "bash"): said(leaderless)})
    with pytest.raises(NotYet, match="primary"):
        postgis.primary(paper)


def test_the_database_is_whole_with_one_primary_two_that_stream_and_one_that_may_take_over():
    table = pandas.DataFrame({"role": ["leader", "quorum_standby", "replica"],
                              "state": ["running", "streaming", "streaming"]})
    members.replicating(table)
    for role, state, told in (
            ("replica", "streaming", "no replica is synchronous"),
            ("quorum_standby", "starting", "1 primary, 1 of 2 replicas streaming"),
            ("leader", "running", "2 primary, 1 of 2")):
        with pytest.raises(NotYet, match=told):
            members.replicating(table.assign(role=["leader", role, "replica"],
                                             state=["running", state, "streaming"]))


def test_each_member_is_asked_on_itself(three, paper):
    for number, remote in enumerate(three, start=1):
        remote.answers["docker", "exec", "-i", f"c{number}", "psql"] = f"{number}\n"
    three[2].answers["docker", "exec", "-i", "c3", "psql"] = Result((), 3, "", "ERROR:  no\n")
    table = postgis.each(paper, "select 1")
    assert table["answer"].tolist() == ["1", "2", "ERROR:  no"]
    assert "select 1" in three[0].inputs


def test_hashes_that_differ_are_told_by_member(three, paper, monkeypatch):
    monkeypatch.setattr(postgis, "replayed", lambda lab: None)
    monkeypatch.setattr(postgis, "each", lambda lab, statement: pandas.DataFrame(
        [("postgis1", "pi1", "2|-5|7"), ("postgis2", "pi2", "2|-5|7"),
         ("postgis3", "pi3", "1|3|4")], columns=["member", "node", "answer"]))
    assert postgis.verify(paper, "places")["equal"].tolist() == [True, True, False]
    hashes = postgis.content_hash(paper, "places")
    assert hashes["postgis1"] == hashes["postgis2"] == "fffffffffffffffb" != hashes["postgis3"]
    monkeypatch.setattr(postgis, "each", lambda lab, statement: pandas.DataFrame(
        [("postgis1", "pi1", 'ERROR:  relation "public.place" does not exist')],
        columns=["member", "node", "answer"]))
    with pytest.raises(LookupError, match="does not exist"):
        postgis.verify(paper, "place")


@pytest.mark.live
def test_a_written_row_is_on_every_member_and_a_planned_switchover_loses_none(lab):
    with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
        connection.execute("create table if not exists lab.test_switchover (id int primary key)")
        connection.execute("truncate lab.test_switchover")
        connection.execute("insert into lab.test_switchover values (1)")
    try:
        former = postgis.primary(lab)
        now = postgis.switchover(lab)
        assert now != former and postgis.primary(lab) == now
        with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
            connection.execute("insert into lab.test_switchover values (2)")
        found = postgis.verify(lab, "lab.alive")
        assert len(found) == 3 and found["equal"].all()
        postgis.replayed(lab)
        counts = postgis.each(lab, "select count(*) from lab.test_switchover")["answer"]
        assert counts.tolist() == ["2", "2", "2"]
        lag = postgis.lag(lab)
        assert len(lag) == 2 and (lag["sync"] == "quorum").any()
    finally:
        with postgis.connect(lab, "gis", port=lab.ports.primary) as connection:
            connection.execute("drop table lab.test_switchover")


@pytest.mark.live
def test_every_role_reads_through_every_port_and_only_gis_writes(lab):
    for port in (lab.ports.sql, lab.ports.primary, lab.ports.replicas):
        for role in database.ROLES:
            with postgis.connect(lab, role, port=port) as connection:
                assert connection.execute("select id from lab.alive").fetchone() == (1,)
    with pytest.raises(database.psycopg.Error), \
            postgis.connect(lab, "reader", port=lab.ports.primary) as connection:
        connection.execute("create table lab.intruder (id int)")
    assert nodes.get(lab, "pi1").answers()
