"""The image of Pgpool-II keeps what it promises."""

from __future__ import annotations

import os
import socket

import psycopg
import pytest
import yaml

from gislab import stack
from gislab.wait import NotYet, until

pytestmark = pytest.mark.live

SERVICE = yaml.safe_load((stack.FOLDER / stack.FILE).read_text())["services"]["pgpool"]
COMPLETE = {"VIP": "172.30.16.100", **{
    f"{name}_PASSWORD_FILE": "/etc/hostname" for name in ("POSTGRES", "GIS", "READER")}}


@pytest.fixture(scope="module")
def pool(bench):
    """Pgpool before a database; the primary stands for both of HAProxy's addresses."""
    members = bench.database()
    primary = bench.streaming(len(members) - 1)
    made = bench.start("pgpool", "pgpool", {
        "VIP": bench.address(primary), "PORT_PRIMARY": "5432", "PORT_REPLICAS": "5432"},
        ["/run/pgpool", "/tmp"], SERVICE["sysctls"])

    def ask():
        try:
            bench.connect("pgpool").close()
        except psycopg.OperationalError as error:
            raise NotYet(str(error)) from None
    until(ask, what="Pgpool", timeout=30)
    return made


def test_prints_its_version(run):
    """Pgpool-II 4.6 is there, for this architecture."""
    assert "4.6" in run("pgpool", "pgpool", "--version")[1]


def test_another_command_runs(run):
    """`docker run image bash` gives a shell, and it is not root's."""
    assert run("pgpool", "bash", "-c", "id -un") == (0, "postgres\n")


@pytest.mark.parametrize("missing", COMPLETE)
def test_names_the_variable_that_is_missing(names_what_is_missing, missing):
    """A forgotten variable is named, with an example."""
    names_what_is_missing("pgpool", missing=missing, of=COMPLETE)


def test_holds_no_secret(holds_no_secret):
    """Nothing secret is baked into the image."""
    assert holds_no_secret("pgpool") == []


def test_passes_reads_and_writes_on(bench, pool):
    """A client that proves itself by SCRAM reads and writes through the pool."""
    with bench.connect("pgpool") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS pooled (id int)")
        connection.execute("INSERT INTO pooled VALUES (7)")
        assert connection.execute("SELECT id FROM pooled").fetchone() == (7,)
    with bench.connect("pgpool", "reader") as connection:
        assert connection.execute("SELECT id FROM pooled").fetchone() == (7,)
        with pytest.raises(psycopg.Error):
            connection.execute("INSERT INTO pooled VALUES (8)")


def test_spreads_reads_and_never_loses_a_backend(bench, pool):
    """Writes have one way, reads the other, and Pgpool judges neither to be down."""
    with bench.connect("pgpool", "postgres") as connection:
        nodes = connection.execute("SHOW pool_nodes").fetchall()
    assert [(n[3], n[5], n[6]) for n in nodes] == [
        ("up", "0.000000", "primary"), ("up", "1.000000", "standby")]


@pytest.mark.parametrize("role", ["postgres", "gis", "reader"])
def test_nobody_enters_without_the_password(bench, pool, role):
    """Neither an empty nor a wrong password, nor one in clear text, opens any role."""
    for password in (None, "wrong", role):
        with pytest.raises(psycopg.OperationalError):
            bench.connect("pgpool", role, password=password)
    with pytest.raises(psycopg.OperationalError, match="auth"):
        bench.connect("pgpool", role, require_auth="password")
    bench.connect("pgpool", role, require_auth="scram-sha-256").close()


def test_keeps_passwords_to_itself(bench, pool):
    """What it needs of secrets is in memory, readable by itself only, and not in its log."""
    assert pool.exec_run(["stat", "-c", "%a", "/run/pgpool/pool_passwd"]).output == b"600\n"
    assert b"tmpfs" in pool.exec_run(["stat", "-fc", "%T", "/run/pgpool"]).output
    assert [n for n, v in bench.secret.items() if v.encode() in pool.logs()] == []


def test_the_health_question_is_answered(pool):
    """The image's own question gets an SQL answer through the pool."""
    assert pool.exec_run(["healthcheck.sh"]).exit_code == 0


def test_a_session_whose_server_has_gone_without_a_word_ends(bench, pool):
    """Its client gone, too, Pgpool would spin for it for ever, with a whole processor."""
    primary, connection = bench.streaming(2), bench.connect("pgpool")
    with socket.socket(fileno=os.dup(connection.fileno())) as client:
        ours = f"({client.getsockname()[1]}) SELECT"

    def asking(expected: bool) -> None:
        titles = [line[-1] for line in pool.top(ps_args="-eo pid,args")["Processes"]]
        if any(ours in title for title in titles) is not expected:
            raise NotYet("; ".join(titles))

    def arrived() -> None:  # or else TCP ends it by its retransmissions; keepalive is meant here
        with bench.connect(primary) as watching:
            if not watching.execute("select count(*) from pg_stat_activity where query = %s",
                                    ["SELECT pg_sleep(600)"]).fetchone()[0]:
                raise NotYet("the server has not heard it")
    connection.pgconn.send_query(b"SELECT pg_sleep(600)")
    until(lambda: asking(True), what="the question", timeout=10)
    until(arrived, what="the question", timeout=10)
    bench.network.disconnect(bench.containers[primary])  # the last test: this one has gone
    connection.pgconn.finish()
    until(lambda: asking(False), what="the session to be given up", timeout=20)
