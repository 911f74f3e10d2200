"""The image of the database keeps what it promises: alone, and as three members."""

from __future__ import annotations

import contextlib

import httpx
import psycopg
import pytest

from gislab.wait import NotYet, until

pytestmark = pytest.mark.live

FILES = ("CONSUL_HTTP_TOKEN", "PATRONI_PASSWORD", "POSTGRES_PASSWORD", "REPLICATION_PASSWORD",
         "GIS_PASSWORD", "READER_PASSWORD")
COMPLETE = {"MEMBER": "postgis1", "SCOPE": "lab", "NODE_NAME": "pi1", "NODES": "pi1=127.0.0.1",
            **{f"{name}_FILE": "/etc/hostname" for name in FILES}}


@pytest.fixture(scope="module")
def members(bench):
    return bench.database()


def test_prints_its_versions(run):
    """PostgreSQL 17 and Patroni are there, for this architecture."""
    assert " 17." in run("postgis", "postgres", "--version")[1]
    assert run("postgis", "patroni", "--version")[1].startswith("patroni 4.")


def test_another_command_runs(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("postgis", "bash", "-c", "id -un") == (0, "postgres\n")


@pytest.mark.parametrize("missing", COMPLETE)
def test_names_the_variable_that_is_missing(names_what_is_missing, missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("postgis", "patroni", "/etc/patroni/patroni.yml",
                          missing=missing, of=COMPLETE)


def test_a_member_with_repositories_needs_the_labs_certificate(run):
    """Without it no backup would ever be made, and nobody would be told."""
    code, said = run("postgis", "patroni", "/etc/patroni/patroni.yml",
                     environment=COMPLETE | {"REPOSITORIES": "postgis1 postgis2"})
    assert code != 0 and "BACKUP_IDENTITY_FILE is not set" in said
    assert run("postgis", "pgbackrest", "version")[1].startswith("pgBackRest 2.")


def test_without_a_lab_no_wal_is_kept_for_an_archive(run):
    """A bench of the image has no repository: its disk must not fill."""
    ask = ["env", "MEMBER=postgis1", "pgbackrest.sh", "archive-push", "pg_wal/0"]
    assert run("postgis", *ask)[0] == 0


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("postgis") == []


def test_the_lab_finds_its_database(bench, members):
    """Database, extension, roles and the row that health questions read are there."""
    with bench.connect(bench.streaming(2), "reader") as connection:
        row = connection.execute("SELECT id, ST_SRID(geom), postgis_version() FROM lab.alive")
        assert row.fetchone()[:2] == (1, 4326)


def test_reader_reads_what_is_made_later_and_changes_nothing(bench, members):
    """A new schema and table of gis is readable at once; a write by reader is refused."""
    primary = bench.streaming(2)
    with bench.connect(primary) as gis:
        gis.execute("CREATE SCHEMA later")
        gis.execute("CREATE TABLE later.roads AS SELECT 1 AS id")
        gis.execute("CREATE TABLE public.parks AS SELECT 2 AS id")
    with bench.connect(primary, "reader") as reader:
        assert reader.execute("SELECT id FROM later.roads").fetchone() == (1,)
        assert reader.execute("SELECT id FROM parks").fetchone() == (2,)
        reader.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM later.roads", "DELETE FROM lab.alive",
                          "CREATE TABLE mine (id int)", "CREATE TEMP TABLE mine (id int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)


@pytest.mark.parametrize("role", ["postgres", "gis", "reader", "replicator"])
def test_nobody_enters_without_the_password(bench, members, role):
    """Neither an empty nor a wrong password opens any role, on any member."""
    for member in members:
        for password in (None, "wrong", role):
            with pytest.raises(psycopg.OperationalError, match="password"):
                bench.connect(member, role, password=password)


def test_patroni_takes_no_order_without_a_password(bench, members):
    """Anybody may ask who is primary; nobody restarts or reconfigures it unknown."""
    url = f"http://{bench.address('postgis1')}:8008"
    assert httpx.get(f"{url}/cluster").status_code == 200
    for method, path in (("POST", "restart"), ("PATCH", "config"), ("POST", "switchover")):
        assert httpx.request(method, f"{url}/{path}", json={}).status_code == 401, path
    known = ("patroni", bench.secret["patroni_password"])
    assert httpx.patch(f"{url}/config", json={"ttl": 20}, auth=known).status_code == 200


def roles(bench, member: str) -> tuple[int, int]:
    """Return what a member's relay answers to HAProxy: is it primary, is it a replica."""
    return tuple(httpx.get(f"http://{bench.address(member)}:8009/{role}", timeout=2).status_code
                 for role in ("primary", "replica"))


def test_haproxy_learns_what_a_member_is_from_its_relay(bench, members):
    """The same as Patroni says, of every member, and neither when Patroni has gone silent."""
    primary = bench.streaming(2)

    def told():
        said = {member: roles(bench, member) for member in members}
        if said != {m: (200, 503) if m == primary else (503, 200) for m in members}:
            raise NotYet(str(said))
    until(told, what="the roles", timeout=10)
    other = next(m for m in members if m != primary)
    bench.containers[other].exec_run(["pkill", "-STOP", "patroni"])

    def silent():
        if roles(bench, other) != (503, 503):
            raise NotYet(str(roles(bench, other)))
    try:
        until(silent, what="a silent Patroni to be no replica", timeout=5)
    finally:
        bench.containers[other].exec_run(["pkill", "-CONT", "patroni"])
    until(told, what="the roles", timeout=10)


def test_a_relay_that_has_just_started_says_of_nobody_what_it_is(bench, members):
    """HAProxy takes for up what it has not asked yet: two primaries, for a moment."""
    bench.streaming(2)
    bench.containers["postgis1"].exec_run(["pkill", "-KILL", "haproxy"])
    seen = set()

    def known():
        with contextlib.suppress(httpx.TransportError):
            seen.add(roles(bench, "postgis1"))
        if not seen & {(200, 503), (503, 200)}:
            raise NotYet(str(seen))
    until(known, what="a role", timeout=10, every=0.05)
    assert len(seen) == 2 and (503, 503) in seen, seen


SUCCESSORS = r"""
import collections, os, pathlib, runpy, time, types
from patroni.collections import CaseInsensitiveSet as Names
from patroni.postgresql.sync import SyncHandler

State = collections.namedtuple("State", "sync active")
SyncHandler.current_state = lambda self, cluster: State(Names(["postgis2"]), Names(self.seen))
runpy.run_path("/usr/local/bin/patroni")


def told(pid, *seen, status="ready"):
    pathlib.Path("/tmp/postmaster.pid").write_text(f"{pid}\n/tmp\n{status}\n")
    handler = types.SimpleNamespace(seen=seen, _postgresql=types.SimpleNamespace(data_dir="/tmp"))
    try:
        return len(SyncHandler.current_state(handler, None).active)
    except Exception as error:
        return type(error).__name__


child = os.fork() or os._exit(0)
time.sleep(0.3)
print(told(os.getpid()), told(child, "postgis2"))
print(told(os.getpid(), status="stopping"), told(child))
os.waitpid(child, 0)
print(told(child))
"""


def test_a_primary_that_has_just_died_still_names_its_successors(run):
    """While it lives, a replica that is gone is written off; a zombie does not live."""
    code, said = run("postgis", "python3", "-c", SUCCESSORS)
    assert (code, said.split()) == (0, ["0", "1", *["PostgresConnectionException"] * 3]), said


QUESTION = r"""
import os, pathlib, runpy, threading, time, types
from patroni.exceptions import PostgresConnectionException
from patroni.postgresql import Postgresql


def refused(self, sql):
    raise PostgresConnectionException("connection problems")


Postgresql._query = refused
runpy.run_path("/usr/local/bin/patroni")
file = pathlib.Path("/tmp/postmaster.pid")


def asked(status, dies=False):
    file.write_text(f"{os.getpid()}\n/tmp\n{status}\n")
    if dies:
        threading.Timer(0.3, file.unlink).start()
    begun = time.monotonic()
    try:
        Postgresql._query(types.SimpleNamespace(data_dir="/tmp"), "SELECT 1")
    except Exception as error:
        when = "waited" if time.monotonic() - begun > 0.2 else "at_once"
        return f"{type(error).__name__} {when}"


print(asked("ready"), asked("stopping", dies=True), asked("stopping"))
file.unlink()
print(asked("standby").split()[0])
"""


def test_a_question_to_a_postmaster_that_has_died_is_not_asked_again(run):
    """Patroni asks again after a PostgresConnectionException, and not after a RetryFailedError."""
    code, said = run("postgis", "python3", "-c", QUESTION)
    assert (code, said.split()) == (0, [
        "PostgresConnectionException", "at_once", "RetryFailedError", "waited",
        "PostgresConnectionException", "waited", "PostgresConnectionException"]), said


LOCK = r"""
import os, pathlib, runpy, sys, threading, time
from patroni.dcs.consul import Consul, ConsulClient

runpy.run_path("/usr/local/bin/patroni")
client = ConsulClient(host=sys.argv[1], port=8500,
                      token=pathlib.Path(os.environ["CONSUL_HTTP_TOKEN_FILE"]).read_text())
client.kv.put("bench/lock", "postgis1")
patroni = object.__new__(type("Member", (Consul,), {"leader_path": "bench/lock"}))
patroni._client, patroni.event, patroni._Consul__do_not_watch = client, threading.Event(), False


def watched(change=time.time):
    version = client.kv.get("bench/lock")[1]["ModifyIndex"]
    threading.Timer(0.2, change).start()
    begun = time.monotonic()
    heard = patroni.watch(version, 0.95)
    return f"{heard} {'at_once' if time.monotonic() - begun < 0.9 else 'at_the_end'}"


print(watched())
print(watched(lambda: client.kv.put("bench/lock", "postgis2")))
print(watched(lambda: client.kv.delete("bench/lock")))
client.kv.put("bench/lock", "postgis1")
patroni._client = ConsulClient(host="127.0.0.1", port=1)
print(watched())
"""


def test_a_replica_hears_of_the_lock_within_less_than_a_second(bench, members):
    """Patroni itself would sleep, since less than one is left; without Consul it does."""
    code, said = bench.containers[members[0]].exec_run(
        ["python3", "-c", LOCK, bench.address("consul")])
    assert (code, said.decode().splitlines()) == (0, [
        "False at_the_end", "True at_once", "True at_once", "False at_the_end"]), said.decode()


def test_no_secret_is_in_the_log_or_in_the_settings(bench, members):
    """What a member prints and writes down shows no password and no token."""
    for member in members:
        container = bench.containers[member]
        text = container.logs() + container.exec_run(["cat", "/etc/patroni/patroni.yml"]).output
        shown = [n for n, value in bench.secret.items() if value.encode() in text]
        assert shown == []


def test_an_acknowledged_write_is_on_two_members(bench, members):
    """Both replicas may acknowledge, one of them has to."""
    with bench.connect(bench.streaming(2), "postgres") as connection:
        states = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
        wanted = connection.execute("SHOW synchronous_standby_names").fetchone()[0]
    assert states == [("quorum",), ("quorum",)]
    assert wanted.startswith("ANY 1 (")


def refusing(bench, member):
    with bench.connect(member) as connection:
        if connection.execute("SHOW default_transaction_read_only").fetchone() != ("on",):
            raise NotYet("a write would still wait")


def test_alone_it_reads_but_acknowledges_no_write(bench, members):
    """With one member left a write waits, and soon is refused by name, until a second is back."""
    primary = bench.streaming(2)
    with bench.connect(primary) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS lonely (id int PRIMARY KEY)")
    others = [m for m in members if m != primary]
    for member in others:
        bench.containers[member].kill()
    insert = ["timeout", "3", "psql", "-qd", "gis", "-c", "INSERT INTO lonely VALUES (1)"]
    assert bench.containers[primary].exec_run(insert).exit_code == 124

    until(lambda: refusing(bench, primary), what="a refusal", timeout=30)
    with bench.connect(primary) as connection, \
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("INSERT INTO lonely VALUES (2)")
    with bench.connect(primary) as connection:
        assert connection.execute("SELECT id FROM lab.alive").fetchone() == (1,)
    for member in others:
        bench.containers[member].start()
    bench.streaming(2)

    def accepted():
        with bench.connect(primary) as connection:
            try:
                connection.execute("INSERT INTO lonely VALUES (3)")
            except psycopg.errors.ReadOnlySqlTransaction:
                raise NotYet("still refused") from None
    until(accepted, what="a write", timeout=5)


def test_two_members_that_went_astray_come_back_to_a_primary_that_refuses_writes(bench, members):
    """It refuses for want of them: to rewind, they must not wait until it writes again."""
    primary = bench.streaming(2)
    others = [m for m in members if m != primary]

    def pause(wanted: bool) -> None:  # meanwhile Patroni lets its members do what they do
        httpx.patch(f"http://{bench.address(primary)}:8008/config", json={"pause": wanted},
                    auth=("patroni", bench.secret["patroni_password"])).raise_for_status()

    def paused() -> None:
        for member in members:
            if not httpx.get(f"http://{bench.address(member)}:8008/patroni").json().get("pause"):
                raise NotYet(f"{member} has not heard of it")
    pause(True)
    try:
        until(paused, what="a pause", timeout=30)  # else a promoted one is led back at once
        for member in others:
            with bench.connect(member, "postgres") as connection:
                connection.execute("SELECT pg_promote()")
                connection.execute("CREATE TABLE astray ()")
        until(lambda: refusing(bench, primary), what="a refusal", timeout=30)
    finally:
        pause(False)
    assert bench.streaming(2) == primary
    for member in others:
        with bench.connect(member) as connection:
            assert connection.execute("SELECT to_regclass('astray')").fetchone() == (None,)


def test_a_member_that_is_silent_costs_less_than_patronis_two_seconds(bench, members):
    """The relay answers for it: nothing, at once when it is away, in a second when frozen."""
    primary = bench.streaming(2)
    one, other = [m for m in members if m != primary]
    ask = (f"exec 3<>/dev/tcp/127.0.0.1/801{other[-1]}; "
           "printf 'GET /patroni HTTP/1.0\\r\\n\\r\\n' >&3; time cat <&3")
    bench.containers[other].pause()
    try:
        said = bench.containers[one].exec_run(
            ["bash", "-c", "TIMEFORMAT=%R; " + ask]).output.decode()
    finally:
        bench.containers[other].unpause()
    assert float(said) < 1.8
    bench.streaming(2)


def test_a_frozen_primary_is_ended_and_another_takes_over(bench, members):
    """A session's TTL alone would take ten to twenty seconds."""
    primary = bench.streaming(2)
    bench.containers[primary].exec_run(["pkill", "-STOP", "-x", "postgres"])

    def successor():
        leader = [m["name"] for m in bench.cluster()
                  if m["role"] == "leader" and m["name"] != primary and m["state"] == "running"]
        if not leader:
            raise NotYet(f"{primary} still counts as the leader")
    until(successor, what="another primary", timeout=9, every=0.2)
    bench.streaming(2)


def test_a_killed_primary_loses_no_acknowledged_write(bench, members):
    """Another member takes over in seconds and has every write that was acknowledged."""
    primary = bench.streaming(2)
    with bench.connect(primary) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS ledger (id int PRIMARY KEY)")
    acknowledged = []
    with pytest.raises(psycopg.Error), bench.connect(primary) as connection:
        for i in range(100_000):
            connection.execute("INSERT INTO ledger VALUES (%s)", (i,))
            acknowledged.append(i)
            if i == 300:
                bench.containers[primary].kill()

    def successor():
        leader = [m["name"] for m in bench.cluster()
                  if m["role"] == "leader" and m["name"] != primary and m["state"] == "running"]
        if not leader:
            raise NotYet(f"{primary} still counts as the leader")
        try:
            with bench.connect(leader[0]) as connection:
                connection.execute("INSERT INTO ledger VALUES (-1) ON CONFLICT DO NOTHING")
                return {row[0] for row in connection.execute("SELECT id FROM ledger")}
        except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise NotYet(str(error)) from None
    found = until(successor, what="a new primary", timeout=30, every=0.2)
    assert len(acknowledged) >= 300
    assert set(acknowledged) - found == set()
    bench.containers[primary].start()
    assert bench.streaming(2) != primary


def test_a_primary_that_is_back_at_once_does_not_keep_the_lock_it_cannot_use(bench, members):
    """Sooner than its check runs out: the session is a dead one, and another leads."""
    primary = bench.streaming(2)
    bench.containers[primary].kill()
    bench.containers[primary].start()

    def successor() -> None:
        leader = [m["name"] for m in bench.cluster()
                  if m["role"] == "leader" and m["state"] == "running"]
        if leader in ([], [primary]):
            raise NotYet(f"{primary} still counts as the leader")
    # with its lock kept it recovers from the crash first: another leads in the eighth second
    until(successor, what="another primary", timeout=6, every=0.2)
    bench.streaming(2)


def test_a_former_primary_that_missed_writes_does_not_ask_to_be_primary(bench, members):
    """It was cut off, and is back when the two that have the writes are away.

    Alone it stopped cleanly, which fills up its segment: by the place in the WAL it is ahead. The
    failsafe mode would keep it out of the race, too, until its successor had seen it again.
    """
    former = bench.streaming(2)

    def failsafe(mode: bool) -> None:
        httpx.patch(f"http://{bench.address(bench.streaming(2))}:8008/config", timeout=5,
                    json={"failsafe_mode": mode},
                    auth=("patroni", bench.secret["patroni_password"])).raise_for_status()
    failsafe(False)
    rest, cut = [m for m in members if m != former], bench.containers[former]
    with bench.connect(former) as connection:
        connection.execute("CREATE TABLE missed (id int PRIMARY KEY)")
    bench.network.disconnect(cut)

    def successor() -> str:
        for member in rest:
            try:
                with bench.connect(member) as connection:
                    connection.execute("INSERT INTO missed VALUES (1)")
                    return member
            except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
                continue
        raise NotYet("none takes a write")
    new = until(successor, what="another primary", timeout=60)

    def place(member: str) -> int:
        sql = "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0' WHERE pg_is_in_recovery()"
        said = bench.containers[member].exec_run(["psql", "-qtA", "-c", sql]).output.decode()
        if not said.strip().isdigit():
            raise NotYet(said)
        return int(said)
    (second,) = [m for m in rest if m != new]
    ahead = until(lambda: place(former), what=f"{former} to step down", timeout=60)
    assert ahead > place(second)
    for member in rest:
        bench.containers[member].kill()
    bench.network.connect(cut, aliases=[former])

    def refused() -> None:
        if b"is behind last known cluster timeline" not in cut.logs(tail=2000):
            raise NotYet("it has not said so")
    until(refused, what=f"{former} to hold back", timeout=60)
    for member in rest:
        bench.containers[member].start()
    primary = bench.streaming(2)
    with bench.connect(primary) as connection:
        assert connection.execute("SELECT id FROM missed").fetchone() == (1,)
    failsafe(True)
