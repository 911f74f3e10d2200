"""What PostgreSQL's archiver is answered; pgBackRest is a stand-in that notes its orders."""

import os
import subprocess

import pytest

from gislab import images

FOLDER = images.FOLDER / "postgis"
LIVES = "71\n/var/lib/postgresql/17\n1795420800\n5432\n"  # postmaster.pid, its first four lines


@pytest.fixture
def archive(tmp_path):
    """archive_command where a PostgreSQL lives; gives its exit code and pgBackRest's orders."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "pgbackrest"
    stand_in.write_text(f'#!/bin/bash\nprintf "%s\\n" "$*" >> {tmp_path}/orders\n')
    stand_in.chmod(0o755)
    script = tmp_path / "pgbackrest.sh"
    script.write_text((FOLDER / "pgbackrest.sh").read_text().replace(
        "/run/postgresql/handover", f"{tmp_path}/mark"))
    (tmp_path / "postmaster.pid").write_text(LIVES)

    def run(**environment):
        (tmp_path / "orders").unlink(missing_ok=True)
        code = subprocess.run(
            ["bash", script, "archive-push", "pg_wal/000000010000000000000007"], cwd=tmp_path,
            env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "MEMBER": "postgis1",
                 "REPOSITORIES": "postgis1 postgis2 postgis3", **environment}).returncode
        orders = tmp_path / "orders"
        return code, orders.read_text() if orders.exists() else ""
    run.mark = tmp_path / "mark"
    return run


def test_a_segment_is_pushed_while_postgresql_lives(archive):
    code, orders = archive()
    assert code == 0 and "--stanza=gis archive-push pg_wal/000000010000000000000007" in orders


def test_the_last_segment_of_a_planned_switchover_is_left_to_the_new_primary(archive):
    """And the archiver ends at once, instead of trying it three times."""
    archive.mark.write_text("\n".join(LIVES.splitlines()[:3]) + "\n")
    assert archive() == (255, "")


@pytest.mark.parametrize("other", ["71\n/var/lib/postgresql/17\n1795420799\n",
                                   "72\n/var/lib/postgresql/17\n1795420800\n", ""])
def test_a_mark_of_another_start_of_postgresql_does_not_count(archive, other):
    """It would never archive again, after a switchover that did not come about."""
    archive.mark.write_text(other)
    code, orders = archive()
    assert code == 0 and "archive-push" in orders


@pytest.mark.parametrize("waiting, stops, marked", [
    (False, True, True), (True, True, False), (False, False, False)])
def test_a_switchover_lets_the_archiver_off_only_where_nothing_else_waits_for_it(
        tmp_path, waiting, stops, marked):
    data = tmp_path / "data"
    (data / "pg_wal" / "archive_status").mkdir(parents=True)
    (data / "postmaster.pid").write_text(LIVES)
    if waiting:
        (data / "pg_wal" / "archive_status" / "000000010000000000000006.ready").touch()
    (tmp_path / "bin").mkdir()
    for name, code in (("psql", 0), ("pg_ctl", 0 if stops else 1)):
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\nexit {code}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    script = (FOLDER / "handover.sh").read_text().replace(
        "/var/lib/postgresql/17", str(data)).replace("/run/postgresql/handover",
                                                     f"{tmp_path}/mark")
    done = subprocess.run(["bash", "-c", script],
                          env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    assert (done.returncode == 0) == stops and (tmp_path / "mark").exists() == marked


def test_what_is_left_to_the_new_primary_is_what_it_looks_for():
    """promoted.sh pushes finished segments of former timelines that the archive lacks."""
    text = (FOLDER / "promoted.sh").read_text()
    assert "pgbackrest.sh archive-push" in text and "/var/lib/pgbackrest/archive/gis" in text
