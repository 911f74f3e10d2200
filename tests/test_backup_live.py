"""Backups on the standing lab: a mistake is undone, and neither fault nor failover ends them."""

import time

import pytest

from gislab import backup, cluster, members, nodes, postgis
from gislab.wait import NotYet, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600, func_only=True)]


def execute(lab, statement: str, role: str = "gis"):
    with postgis.connect(lab, role, port=lab.ports.primary, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchall() if done.description else None


def rows(first: int, last: int) -> str:
    return f"select id, ST_MakePoint(id, id) as geom from generate_series({first}, {last}) as id"


def repositories(lab, name: str) -> set[str]:
    """Return the Pis whose repository holds a segment."""
    look = f"compgen -G '/var/lib/pgbackrest/archive/gis/17-*/{name[:16]}/{name}-*'"
    return {node.name for node, container in members.containers(lab).values()
            if node.run(["docker", "exec", container, "bash", "-c", look], check=False).code == 0}


@pytest.fixture
def table(whole):
    """A table with three rows, backed up; removed afterwards."""
    execute(whole, "drop table if exists lab.kept")
    execute(whole, f"create table lab.kept as {rows(1, 3)}")
    yield "lab.kept"
    execute(whole, "drop table if exists lab.kept")
    execute(whole, "drop table if exists lab.later")


def test_a_backup_is_on_every_pi_and_a_second_one_stores_only_what_changed(whole):
    made = backup.take(whole, full=True)
    assert set(made["node"]) == {"pi1", "pi2", "pi3"} and set(made["kind"]) == {"full"}
    again = backup.take(whole)
    assert set(again["kind"]) == {"incr"} and set(again["node"]) == {"pi1", "pi2", "pi3"}
    assert again["stored_MB"].max() < made["stored_MB"].min() / 4
    assert set(made["label"]) | set(again["label"]) <= set(backup.table(whole)["label"])


def test_wal_reaches_the_repository_of_every_pi(whole):
    assert repositories(whole, backup.flush(whole)) == {"pi1", "pi2", "pi3"}


def test_wal_reaches_a_repository_that_another_member_is_pushing_to(whole):
    """pgBackRest gives up at once there; and a segment that is left out is not brought later."""
    primary = postgis.primary(whole)
    _hold(whole, next(m for m in ("postgis3", "postgis2") if m != primary), seconds=8)
    start = time.monotonic()
    name = backup.flush(whole)
    assert repositories(whole, name) == {"pi1", "pi2", "pi3"} and time.monotonic() - start > 5


def _hold(lab, member: str, seconds: int) -> None:
    """Have a member's repository taken by another, so that a push to it waits."""
    node, container = members.containers(lab)[member]
    hold = ("set -e; cd /tmp/pgbackrest; for number in 1 2 3; do "
            f"exec {{held}}>gis-archive-$number.lock; flock -n $held; done; sleep {seconds}")
    node.docker("exec", "--detach", container, "bash", "-c", hold)


def test_a_dropped_table_is_had_back_and_nothing_written_later_survives(whole, table):
    """All three agree, row by row; and what was there before the restore can be had again."""
    backup.take(whole)
    _, noted = backup.window(whole)
    hashes = postgis.content_hash(whole, table)
    execute(whole, f"drop table {table}")
    execute(whole, f"create table lab.later as {rows(1, 1)}")
    _, mistaken = backup.window(whole)
    with pytest.raises(backup.BackupError, match="whatever was written after it.*--yes"):
        backup.restore(whole, noted)
    assert execute(whole, "select id from lab.later") == [(1,)], "nothing without a confirmation"

    backup.restore(whole, noted, confirm=True)
    cluster.ready(whole)
    assert postgis.content_hash(whole, table) == hashes
    assert execute(whole, "select to_regclass('lab.later')") == [(None,)]
    assert backup.unfinished(whole) is None
    now = postgis.members(whole)
    assert now["timeline"].nunique() == 1 and (now["state"] == "streaming").sum() == 2
    execute(whole, f"insert into {table} {rows(4, 4)}")
    found = postgis.verify(whole, table)
    assert found["equal"].all() and set(found["rows"]) == {4}

    backup.restore(whole, mistaken, confirm=True)  # the timeline that was left is still there
    cluster.ready(whole)
    assert execute(whole, "select id from lab.later") == [(1,)]
    assert execute(whole, f"select to_regclass('{table}')") == [(None,)]
    assert postgis.verify(whole, "lab.later")["equal"].all()


def test_an_interrupted_restore_is_told_and_goes_on(whole, table, monkeypatch):
    """Interrupted when one member is restored and nobody leads yet."""
    backup.take(whole)
    _, noted = backup.window(whole)
    execute(whole, f"drop table {table}")
    with monkeypatch.context() as broken:
        broken.setattr(backup, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            backup.restore(whole, noted, confirm=True)
    with pytest.raises(backup.BackupError, match="it goes on with: gislab restore"):
        cluster.ready(whole, timeout=30)
    backup.restore(whole)
    cluster.ready(whole)
    assert postgis.verify(whole, table)["equal"].all()


def test_a_lost_repository_does_not_stop_writes_and_is_used_again(whole, table):
    """A replica's Pi loses its power: WAL goes to the others, and to it again afterwards."""
    backup.take(whole)
    primary = postgis.primary(whole)
    lost = next(m for m in ("postgis3", "postgis2") if m != primary).replace("postgis", "pi")
    nodes.power_cut(whole, lost)
    try:
        start = time.monotonic()
        for number in range(10, 15):
            execute(whole, f"insert into {table} {rows(number, number)}")
        assert time.monotonic() - start < 20
        there = repositories(whole, backup.flush(whole))
        assert len(there) == 2 and lost not in there
        assert set(backup.take(whole)["node"]) == there
    finally:
        nodes.power_on(whole, lost)
        cluster.ready(whole)
    until(lambda: _reached(whole, lost), what=f"WAL to reach {lost} again", timeout=90, every=5)
    assert set(backup.take(whole)["node"]) == {"pi1", "pi2", "pi3"}
    assert postgis.verify(whole, table)["rows"].tolist() == [8, 8, 8]


def _reached(lab, pi: str) -> None:
    if pi not in repositories(lab, backup.flush(lab)):
        raise NotYet("left out")


def test_the_archive_has_no_gap_after_the_primarys_pi_lost_its_power(whole, table):
    """Its last finished segment was not archived; the next primary has it, and archives it."""
    backup.take(whole)
    former = postgis.primary(whole)
    node, container = members.containers(whole)[former]
    execute(whole, "alter system set archive_command = 'false'", "postgres")
    execute(whole, "select pg_reload_conf()", "postgres")
    execute(whole, f"insert into {table} {rows(4, 4)}")
    name = execute(whole, "select pg_walfile_name(pg_switch_wal())", "postgres")[0][0]
    execute(whole, f"insert into {table} {rows(5, 5)}")
    node.docker("exec", container, "rm", "-f", "/var/lib/postgresql/17/postgresql.auto.conf")
    nodes.power_cut(whole, node.name)
    try:
        def moved() -> None:
            if postgis.primary(whole) == former:
                raise NotYet(f"{former} still leads")
        until(moved, what="another primary", timeout=60)
        until(lambda: _somewhere(whole, name), what=f"{name} in the archive", timeout=60, every=2)
    finally:
        nodes.power_on(whole, node.name)
        cluster.ready(whole)
    _, noted = backup.window(whole)
    execute(whole, f"drop table {table}")
    backup.restore(whole, noted, confirm=True)
    cluster.ready(whole)
    assert postgis.verify(whole, table)["rows"].tolist() == [5, 5, 5]
    assert set(backup.take(whole)["node"]) == {"pi1", "pi2", "pi3"}


def _somewhere(lab, name: str) -> None:
    if not repositories(lab, name):
        raise NotYet("nowhere")


def test_the_archive_has_no_gap_after_a_planned_switchover(whole, table):
    """The former primary does not wait until its last segment is archived; the new one does it."""
    execute(whole, f"insert into {table} select * from ({rows(4, 6)}) as more")
    last, = execute(whole, "select pg_walfile_name(pg_current_wal_lsn())", "postgres")[0]
    assert repositories(whole, last) == set(), "it is written still"
    postgis.switchover(whole)

    def archived() -> None:
        if repositories(whole, last) != {"pi1", "pi2", "pi3"}:
            raise NotYet(f"{last} is on {repositories(whole, last)}")
    until(archived, what="the former primary's last segment in every archive", timeout=60, every=1)
    assert repositories(whole, backup.flush(whole)) == {"pi1", "pi2", "pi3"}


def test_a_switchover_waits_for_no_archiver_that_is_busy(whole, table):
    """Else Patroni would kill the stopping primary; the next one archives all that waited."""
    former = postgis.primary(whole)
    backup.flush(whole)
    _hold(whole, next(m for m in ("postgis3", "postgis2") if m != former), seconds=10)
    node, container = members.containers(whole)[former]
    waiting = []
    for number in range(4, 7):
        execute(whole, f"insert into {table} {rows(number, number)}")
        waiting += execute(whole, "select pg_walfile_name(pg_switch_wal())", "postgres")[0]
    assert not any(len(repositories(whole, name)) == 3 for name in waiting)
    since = node.run(["date", "+%s"]).out.strip()
    postgis.switchover(whole)
    done = node.run(["docker", "logs", "--since", since, container])
    assert "database system is shut down" in done.out + done.err
    assert "taking too long" not in done.out + done.err

    def archived() -> None:
        for name in waiting:
            if (found := repositories(whole, name)) != {"pi1", "pi2", "pi3"}:
                raise NotYet(f"{name} is on {found}")
    until(archived, what="what waited in every archive", timeout=90, every=1)
    assert postgis.verify(whole, table)["rows"].tolist() == [6, 6, 6]


def test_a_moment_that_cannot_be_had_is_refused_with_those_that_can(whole):
    backup.take(whole)
    first, last = backup.window(whole)
    for moment in (first.replace(year=first.year - 1), last.replace(year=last.year + 1)):
        with pytest.raises(backup.BackupError, match="cannot be restored; between .* and"):
            backup.restore(whole, moment, confirm=True)
    assert backup.unfinished(whole) is None


def test_nobody_without_the_labs_certificate_is_served(whole):
    """A stranger in the same network, with a certificate of his own, reads no repository."""
    (node, container) = members.containers(whole)["postgis1"]
    ask = ("cd /tmp && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
           "-days 1 -subj /CN=gislab -keyout s.key -out s.crt 2>/dev/null; chmod 600 s.key; "
           "pgbackrest --stanza=gis --repo2-host=postgis2 --repo2-host-type=tls "
           "--repo2-host-cert-file=/tmp/s.crt --repo2-host-key-file=/tmp/s.key "
           "--repo2-host-ca-file=/run/postgresql/identity.pem --repo=2 repo-ls")
    done = node.run(["docker", "exec", container, "bash", "-c", ask], check=False)
    assert done.code and "archive" not in done.out, done
    assert "certificate" in done.err or "TLS" in done.err or "tls" in done.err, done.err
