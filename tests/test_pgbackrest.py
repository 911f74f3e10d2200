"""What PostgreSQL's archiver is answered; pgBackRest is a stand-in that notes its orders."""

import os
import subprocess

import pytest
from recorded import stand_in

from gislab import images

FOLDER = images.FOLDER / "postgis"
LIVES = "71\n/var/lib/postgresql/17\n1795420800\n5432\n"  # postmaster.pid, its first four lines
SEGMENT = "pg_wal/000000010000000000000007"
ORDER = f"--stanza=gis archive-push {SEGMENT}"
# notes its orders; HELD: how often postgis3 is another's for now, FULL: whose disks are full
STAND_IN = """#!/bin/bash
[[ "$*" != *server-ping* ]] || exit 0
told() { compgen -v | sed -n 's/^PGBACKREST_REPO\\([0-9]\\)_HOST$/\\1/p'; }
echo "$* to" $(told) >> FOLDER/orders
for number in $(told); do
    case $number in
        3) [[ $(wc -l < FOLDER/orders) -gt ${HELD:-0} ]] || problem="[LockAcquireError] held" ;;
    esac
    [[ " ${FULL:-} " != *" $number "* ]] || problem="[FileWriteError] No space left on device"
done
[[ -z "${problem:-}" ]] || { echo "ERROR: [104]: repo: $problem" >&2; exit 104; }
"""


@pytest.fixture
def archive(tmp_path):
    """archive_command where a PostgreSQL lives; gives its exit code and pgBackRest's orders."""
    stand_in(tmp_path / "bin" / "pgbackrest", STAND_IN.replace("FOLDER", str(tmp_path)))
    stand_in(tmp_path / "bin" / "sleep", "#!/bin/bash\n")
    script = tmp_path / "pgbackrest.sh"
    script.write_text((FOLDER / "pgbackrest.sh").read_text().replace(
        "/run/postgresql/handover", f"{tmp_path}/mark"))
    (tmp_path / "postmaster.pid").write_text(LIVES)

    def run(segment=SEGMENT, **environment):
        (tmp_path / "orders").unlink(missing_ok=True)
        code = subprocess.run(
            ["bash", script, "archive-push", segment], cwd=tmp_path,
            env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "MEMBER": "postgis1",
                 "REPOSITORIES": "postgis1 postgis2 postgis3", **environment}).returncode
        orders = tmp_path / "orders"
        return code, orders.read_text() if orders.exists() else ""
    run.mark = tmp_path / "mark"
    return run


def test_a_segment_is_pushed_while_postgresql_lives(archive):
    code, orders = archive()
    assert code == 0 and orders == f"{ORDER} to 2 3\n"


def test_a_repository_that_another_member_pushes_to_is_waited_for(archive):
    """After a failover the former primary brings its last WAL, or its connection hangs on."""
    assert archive(HELD="20") == (0, 21 * f"{ORDER} to 2 3\n")


def test_a_repository_that_is_locked_for_good_does_not_hold_up_the_others(archive):
    code, orders = archive(HELD="1000")
    assert code == 0 and f"{ORDER} to 2\n" in orders and len(orders.splitlines()) < 100


def test_a_repository_with_a_full_disk_does_not_hold_up_the_others(archive):
    """Nor is it waited for: it is not going to be better in a moment."""
    code, orders = archive(FULL="3")
    assert code == 0
    assert sorted(orders.splitlines()) == [
        f"{ORDER} to{numbers}" for numbers in ("", " 2", " 2 3", " 3")]


def test_wal_that_no_other_pi_takes_is_not_called_archived(archive):
    code, _ = archive(FULL="2 3")
    assert code != 0


def test_the_end_of_a_timeline_that_was_left_is_not_pushed(archive):
    """Two members may have left the same one in different places, and that would be an error."""
    assert archive(f"{SEGMENT}.partial") == (0, "")


@pytest.mark.parametrize("segment, pushed", [
    ("000000010000000000000006", True), ("000000010000000000000007", False),
    ("000000010000000000000008", False),  # a former primary had written on
    ("0000000200000001000000FF", True),   # it ended where a segment ends: this one is whole
    ("000000020000000200000000", False), ("000000030000000200000000", True),
    ("00000003.history", True), ("000000020000000100000010.00000028.backup", True)])
def test_what_a_member_has_of_a_timeline_beyond_its_end_is_not_pushed(archive, segment, pushed):
    """A member that was rewound keeps it, without a mark; found later, it would be refused."""
    folder = archive.mark.parent / "pg_wal"
    folder.mkdir()
    (folder / "00000002.history").write_text("1\t0/9000000\tof an older look\n")
    (folder / "00000003.history").write_text(
        "1\t0/70062F8\tno recovery target specified\n\n2\t2/0\tbefore 2026-11-29 12:09:44\n")
    code, orders = archive(f"pg_wal/{segment}")
    assert code == 0 and ("archive-push" in orders) == pushed


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


@pytest.fixture
def hand_over(tmp_path):
    """handover.sh, with so many files waiting for the archiver; gives its exit code."""
    status = tmp_path / "data" / "pg_wal" / "archive_status"
    status.mkdir(parents=True)
    (tmp_path / "data" / "postmaster.pid").write_text(LIVES)
    script = (FOLDER / "handover.sh").read_text().replace(
        "/var/lib/postgresql/17", f"{tmp_path}/data").replace(
        "/run/postgresql/handover", f"{tmp_path}/mark")

    def run(waiting: int, stops: bool = True) -> int:
        for number in range(waiting):
            (status / f"{number:024X}.ready").touch()
        oldest = f"ls -d {status}/*.ready | head -n 1"
        for name, line in (("psql", ""), ("pg_ctl", "" if stops else "exit 1"),
                           ("sleep", f'rm "$({oldest})"'), ("pkill", "exit 1")):
            stand_in(tmp_path / "bin" / name,
                     f'#!/bin/bash\necho "{name} $*" >> {tmp_path}/orders\n{line}\n')
        return subprocess.run(["bash", "-c", script], env={
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}).returncode
    run.mark, run.orders, run.status = tmp_path / "mark", tmp_path / "orders", status
    return run


@pytest.mark.parametrize("waiting, left", [(0, 0), (5, 5), (9, 5)])
def test_a_switchover_lets_the_archiver_off_as_long_as_the_replicas_have_all_that_waits(
        hand_over, waiting, left):
    assert hand_over(waiting) == 0
    assert hand_over.mark.read_text().splitlines() == LIVES.splitlines()[:3]
    assert len(list(hand_over.status.iterdir())) == left
    orders = hand_over.orders.read_text().splitlines()
    assert [line.split()[0] for line in orders] == [
        "psql", *["sleep"] * (waiting - left), "pg_ctl", "pkill"]


def test_a_primary_that_does_not_stop_goes_on_archiving(hand_over):
    assert hand_over(0, stops=False) == 1 and not hand_over.mark.exists()
    assert "pkill" not in hand_over.orders.read_text()


def test_a_new_primary_archives_what_the_former_one_could_not(tmp_path):
    """What a replica received it has marked as archived, or not at all."""
    status, archived = tmp_path / "data/pg_wal/archive_status", tmp_path / "repository"
    status.mkdir(parents=True)
    (archived / "17-1/0000000300000000").mkdir(parents=True)
    for number in "34":
        (archived / f"17-1/0000000300000000/00000003000000000000000{number}-5ba93c.zst").touch()
    (archived / "17-1/00000002.history").touch()
    for name in ("000000030000000000000003", "000000030000000000000004",
                 "000000030000000000000005", "000000030000000000000006",
                 "000000040000000000000007",
                 "00000002.history", "00000003.history", "00000004.history"):
        (status.parent / name).touch()
    for number in "345":
        (status / f"00000003000000000000000{number}.done").touch()
    stand_in(tmp_path / "bin" / "psql",
             f'#!/bin/bash\necho "$*" >> {tmp_path}/asked\necho f\n')
    script = (FOLDER / "promoted.sh").read_text().replace(
        "/var/lib/postgresql/17", f"{tmp_path}/data").replace(
        "/var/lib/pgbackrest/archive/gis", str(archived))
    done = subprocess.run(["bash", "-c", script, "promoted.sh", "role", "primary", "gislab"],
                          env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                               "REPOSITORIES": "postgis1 postgis2"})
    assert done.returncode == 0
    assert {file.name for file in status.iterdir()} == {
        "000000030000000000000003.done",
        "000000030000000000000004.ready",  # it may have been on its way to the other Pis
        "000000030000000000000005.ready", "000000030000000000000006.ready",
        "00000003.history.ready"}
    assert "pg_reload_conf" in (tmp_path / "asked").read_text().splitlines()[-1]
