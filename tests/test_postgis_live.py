"""The database under faults and planned work: what a client sees, and that nothing is lost."""

import dataclasses
import threading
import time

import psycopg
import pytest

from gislab import (
    change,
    cluster,
    datasets,
    durability,
    experiment,
    faults,
    handover,
    loading,
    members,
    outage,
    postgis,
    probe,
    run,
)
from gislab.wait import NotYet, until

KILL = "kill -9 $(head -qn 1 /var/lib/postgresql/17/postmaster.pid)"
pytestmark = [pytest.mark.live, pytest.mark.timeout(300, func_only=True)]


@pytest.fixture
def ledger(whole):
    """A table for what a test writes; gone afterwards."""
    with postgis.connect(whole, port=whole.ports.primary) as connection:
        connection.execute("drop table if exists lab.ledger")
        connection.execute("create table lab.ledger "
                           "(id int primary key, geom geometry(Point, 4326))")
    yield whole
    cluster.ready(whole)
    with postgis.connect(whole, port=whole.ports.primary) as connection:
        connection.execute("drop table lab.ledger")


def within(lab, member, *command):
    """Run a command in a member's container."""
    node, container = members.containers(lab)[member]
    return node.docker("exec", container, *command)


def written(lab, row, timeout=30):
    """Wait until a row can be written straight to the primary; return the seconds."""
    start = time.monotonic()

    def ask():
        try:
            with postgis.connect(lab, port=lab.ports.primary, connect_timeout=2) as connection:
                connection.execute("insert into lab.ledger values (%s) on conflict do nothing",
                                   (row,))
        except psycopg.Error as error:
            raise NotYet(str(error).strip()) from None
    until(ask, what=f"row {row} to be written", timeout=timeout, every=0.1)
    return time.monotonic() - start


def test_a_frozen_primary_is_replaced_and_its_rows_are_all_there(ledger):
    """SIGSTOP of all its processes: nothing ends and nothing answers; it costs seconds."""
    former = postgis.primary(ledger)
    written(ledger, 1)
    within(ledger, former, "pkill", "-STOP", "-x", "postgres")
    assert written(ledger, 2, timeout=15) < 10  # a session's TTL alone would take ten to twenty
    assert until(lambda: postgis.primary(ledger), what="a primary", timeout=10) != former
    with postgis.connect(ledger, port=ledger.ports.primary) as connection:
        assert connection.execute("select array_agg(id order by id) from lab.ledger"
                                  ).fetchone() == ([1, 2],)


def test_a_killed_primary_streams_again_within_a_minute_and_holds_the_same(ledger):
    former = postgis.primary(ledger)
    written(ledger, 1)
    start = time.monotonic()
    within(ledger, former, "sh", "-c", KILL)
    written(ledger, 2)

    def back():
        table = postgis.members(ledger).set_index("member")
        if table.loc[former, "state"] != "streaming":
            raise NotYet(table.loc[former, "state"])
    until(back, what=f"{former} to stream", timeout=60)
    assert time.monotonic() - start < 60
    assert len(set(postgis.content_hash(ledger, "lab.ledger").values())) == 1


def test_a_session_in_a_transaction_gets_an_error_and_never_half_of_it(ledger):
    """Through Pgpool, the primary dies under it: the whole transaction is gone, and it is told."""
    connection = postgis.connect(ledger, port=ledger.ports.sql)
    connection.execute("insert into lab.ledger values (1)")
    former = postgis.primary(ledger)
    within(ledger, former, "sh", "-c", KILL)
    with pytest.raises(psycopg.Error):
        connection.execute("insert into lab.ledger values (2)")
        connection.commit()
    connection.close()
    written(ledger, 3)
    with postgis.connect(ledger, port=ledger.ports.primary) as fresh:
        assert fresh.execute("select id from lab.ledger").fetchall() == [(3,)]


def test_who_writes_through_pgpool_reads_what_it_wrote(ledger):
    with postgis.connect(ledger, port=ledger.ports.sql, autocommit=True) as connection:
        missing = [row for row in range(200) if connection.execute(
            "insert into lab.ledger values (%s) returning id", (row,)).fetchone() is None
            or connection.execute("select id from lab.ledger where id = %s", (row,)
                                  ).fetchone() is None]
    assert missing == []


def test_with_one_member_left_a_write_is_refused_by_name_until_another_is_back(ledger):
    """strict: what waits is not acknowledged; what comes later is refused; reads go on."""
    former = postgis.primary(ledger)
    paused = [pair for name, pair in members.containers(ledger).items() if name != former]
    for node, container in paused:
        node.docker("pause", container)
    try:
        def refusing():  # asked, not tried: a write that came too early would wait for ever
            with postgis.connect(ledger, port=ledger.ports.primary) as connection:
                if connection.execute("show default_transaction_read_only").fetchone() != ("on",):
                    raise NotYet("a write would still wait")
        until(refusing, what="a refusal", timeout=45)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), \
                postgis.connect(ledger, port=ledger.ports.primary) as connection:
            connection.execute("insert into lab.ledger values (1)")
        with postgis.connect(ledger, port=ledger.ports.primary) as connection:
            assert connection.execute("select id from lab.alive").fetchone() == (1,)
        assert "refused" in durability.told(ledger)
    finally:
        for node, container in paused:
            node.docker("unpause", container)
    assert written(ledger, 2, timeout=30) < 30


def test_with_one_member_left_writes_go_on_where_that_was_asked_for_and_status_says_so(ledger):
    """available: the first write waits until it is noticed that no replica lives."""
    available = dataclasses.replace(ledger, durability="available")
    former = postgis.primary(ledger)
    durability.apply(available)
    paused = [pair for name, pair in members.containers(ledger).items() if name != former]
    try:
        for node, container in paused:
            node.docker("pause", container)
        assert written(ledger, 1, timeout=60) < 60

        def told():
            said = cluster.status(available).safety
            if "writes are on ONE Pi alone" not in said:
                raise NotYet(said)
        until(told, what="status to say so", timeout=30)
        assert written(ledger, 2) < 5
    finally:
        for node, container in paused:
            node.docker("unpause", container)
        cluster.ready(ledger)
        durability.apply(ledger)
    assert len(set(postgis.content_hash(ledger, "lab.ledger").values())) == 1


def test_a_load_whose_primary_dies_is_there_or_not_and_again_gives_no_doubles(ledger):
    points, struck = datasets.points(200_000), threading.Event()
    fault = faults.primary_killed(ledger)
    fault.aim()

    def strike(done, total):
        if done >= total / 2 and not struck.is_set():
            struck.set()
            fault.strike()
    try:
        loading.load(ledger, points, "lab.cut", progress=strike, say=lambda text: None)
        kept = True
    except loading.Interrupted:
        kept = False
    finally:
        fault.undo()
    try:
        with postgis.connect(ledger, port=ledger.ports.primary) as connection:
            found = connection.execute("select to_regclass('lab.cut')").fetchone()[0]
        assert struck.is_set() and (found is not None) == kept
        loading.load(ledger, points, "lab.cut", if_exists="replace", say=lambda text: None)
        assert postgis.verify(ledger, "lab.cut", points)["equal"].tolist() == [True] * 3
        with postgis.connect(ledger, port=ledger.ports.primary) as connection:
            assert connection.execute("select count(distinct id) from lab.cut"
                                      ).fetchone() == (200_000,)
    finally:
        with postgis.connect(ledger, port=ledger.ports.primary) as connection:
            connection.execute("drop table if exists lab.cut")


def test_a_returned_member_is_read_from_again_through_pgpool_without_help(ledger):
    former = postgis.primary(ledger)
    within(ledger, former, "sh", "-c", KILL)
    cluster.ready(ledger)
    own = within(ledger, former, "hostname", "-i").split()

    def used():
        with postgis.connect(ledger, "reader", autocommit=True) as connection:
            who, = connection.execute("select host(inet_server_addr())").fetchone()
        if who not in own:
            raise NotYet(f"{who} answers")
    until(used, what=f"{former} to be read from", timeout=90, every=0.2)


def test_durability_is_changed_on_a_standing_lab_and_back(whole):
    available = dataclasses.replace(whole, durability="available")
    assert durability.apply(available) and not durability.apply(available)
    try:
        assert "two Pis" in durability.told(available)
    finally:
        assert durability.apply(whole)


def test_a_rolling_restart_leaves_three_members_that_hold_the_same(ledger, tmp_path):
    """Clients write all the time: nothing is lost, and they feel the one switchover."""
    former = postgis.primary(ledger)
    before = {name: container for name, (_, container) in members.containers(ledger).items()}
    written(ledger, 1)
    tables, first = [], experiment.first_row(ledger)
    felt = change.measure(ledger, "members restarted one by one",
                          lambda: tables.append(handover.rolling_restart(ledger)), rate=10,
                          lanes=("sql_write", "write_primary"), first=first,
                          folder=tmp_path / "run")
    print(outage.table(felt).to_string())
    rows = experiment.final_reads(ledger, first, first + 2 * probe.HALF)
    wrote = outage.writes(dataclasses.replace(felt, rows=run.rows(rows)))
    assert wrote.safe and wrote.acknowledged > 100, wrote
    gaps = [outage.of(felt, lane) for lane in felt.probes]
    assert len(gaps) == 2 and all(gap.recovered and gap.outage < 10 for gap in gaps), gaps
    (table,) = tables
    assert table["member"].iloc[-1] == former and len(table) == 3
    after = {name: container for name, (_, container) in members.containers(ledger).items()}
    assert set(before) == set(after) and not set(before.values()) & set(after.values())
    assert len(set(postgis.content_hash(ledger, "lab.ledger").values())) == 1
