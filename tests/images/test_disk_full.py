"""A disk runs full under the write-ahead log: nothing acknowledged is lost, nothing is damaged.

Each member's disk is a small tmpfs of its own, so that this machine's disk is never filled.
"""

from __future__ import annotations

import psycopg
import pytest

from gislab import history, outage
from gislab import run as runs
from gislab.wait import NotYet, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600, func_only=True)]

DISK = "/var/lib/postgresql"
BALLAST = f"{DISK}/ballast"


@pytest.fixture(scope="module")
def small(bench, the_engine, image):
    """Three members, each with a disk of 400 MB in memory."""
    who = the_engine.containers.run(image("postgis"), ["id", "-u"], remove=True).decode().strip()
    bench.database(f"{DISK}:size=400m,mode=700,uid={who},gid={who}")
    return bench


def free(bench, member: str) -> int:
    """Return how many MB a member's disk has left."""
    out = bench.containers[member].exec_run(["df", "-m", "--output=avail", DISK]).output
    return int(out.split()[-1])


def write(connection, row: int) -> tuple[str, str]:
    """Write one row and begin a new WAL file; return the outcome, and what was said."""
    try:
        connection.execute("insert into ledger values (%s)", (row,))
    except psycopg.Error as error:
        said = f"{error.sqlstate or ''} {error}".strip()
        return ("failed" if error.sqlstate == "53100" else "unknown"), said
    try:
        connection.execute("select pg_switch_wal()")
    except psycopg.Error as error:
        return "ok", f"{error.sqlstate or ''} {error}".strip()
    return "ok", ""


def test_a_full_disk_ends_in_a_named_error_and_every_acknowledged_row_is_kept(small):
    primary = small.streaming(2)
    with small.connect(primary, "postgres") as connection:
        # pages with room: so it is the log that meets the full disk, and not the table
        connection.execute("create table ledger (id int)")
        connection.execute("insert into ledger select -g from generate_series(1, 5000) g")
        connection.execute("delete from ledger")
        connection.execute("vacuum ledger")
        small.containers[primary].exec_run(["dd", "if=/dev/zero", f"of={BALLAST}", "bs=1M"])
        assert free(small, primary) == 0
        samples = []
        for row in range(1, 400):
            outcome, said = write(connection, row)
            samples.append(("writer", float(row), 0.01, outcome, "", row))
            if said:
                break
    assert said, "the disk did not run full"
    log = small.containers[primary].logs().decode()
    assert "No space left on device" in said + log

    def successor() -> str:
        leaders = [m["name"] for m in small.cluster()
                   if m["role"] == "leader" and m["state"] == "running"]
        if not leaders or leaders[0] == primary:
            raise NotYet(f"{primary} still leads")
        return leaders[0]
    heir = until(successor, what="another primary", timeout=90)
    with small.connect(heir, "postgres") as connection:
        until(lambda: more(connection, samples), what="a write at the new primary", timeout=60)
    small.containers[primary].exec_run(["rm", BALLAST])
    heir = small.streaming(2)  # the one that was full is a replica again, unaided
    found = {}
    for member in small.containers.keys() - {"consul"}:
        with small.connect(member, "postgres") as connection:
            until(lambda c=connection: caught_up(small, heir, c), what=f"{member} to catch up",
                  timeout=60)
            rows = connection.execute("select id, count(*) from ledger where id > 0 group by id")
            found[member] = dict(rows.fetchall())
            damaged = connection.execute(
                "select count(*) from pg_stat_database where checksum_failures > 0").fetchone()
            assert damaged == (0,)
    verdict = outage.writes(runs.make(samples, rows=history.reads(found)))
    assert verdict.safe and len(verdict.readings) == 3, verdict
    assert verdict.acknowledged > 1


def more(connection, samples: list) -> None:
    """Write one more row, or NotYet; the attempt is noted either way."""
    row = samples[-1][-1] + 1
    try:
        connection.execute("insert into ledger values (%s)", (row,))
    except psycopg.errors.ReadOnlySqlTransaction as error:
        samples.append(("writer", float(row), 0.01, "failed", "", row))
        raise NotYet(str(error)) from None
    samples.append(("writer", float(row), 0.01, "ok", "", row))


def caught_up(bench, heir: str, connection) -> None:
    with bench.connect(heir, "postgres") as leader:
        lsn = leader.execute("select pg_current_wal_lsn()").fetchone()[0]
    there = connection.execute(
        "select not pg_is_in_recovery() or pg_last_wal_replay_lsn() >= %s", (lsn,)).fetchone()[0]
    if not there:
        raise NotYet(f"has not replayed {lsn}")
