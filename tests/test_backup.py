"""Backups and restores: what is asked of which Pi, in which order, and what is refused."""

import json
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from gislab import backup, cli, cluster, members
from gislab.shell import Result
from gislab.wait import NotYet

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
INFO = ("docker", "exec", "c{}", "pgbackrest.sh", "info")
BACKUP = ("docker", "exec", "c{}", "pgbackrest.sh", "backup")
RESTORE = ("docker", "exec", "c{}", "restore.sh")
PATRONICTL = ("docker", "exec", "c{}", "entrypoint.sh", "patronictl")
MEMBERS = pd.DataFrame(
    [("postgis1", "pi1", "quorum_standby", "streaming", 0, 2),
     ("postgis2", "pi2", "leader", "running", 0, 2),
     ("postgis3", "pi3", "quorum_standby", "streaming", 0, 2)],
    columns=["member", "node", "role", "state", "lag", "timeline"])


def info(*stops: datetime, kind="full") -> str:
    """What pgBackRest 2.55.1 said on the virtual lab, shortened."""
    return json.dumps([{"name": "gis", "status": {"code": 0}, "backup": [
        {"archive": {"start": "000000010000000000000008", "stop": "000000010000000000000008"},
         "error": False, "label": f"{stop:%Y%m%d-%H%M%S}F", "type": kind,
         "lsn": {"start": "0/8000028", "stop": "0/8007E30"},
         "info": {"size": 39452746, "delta": 39452746, "repository": {"delta": 4458016}},
         "timestamp": {"start": int(stop.timestamp()) - 7, "stop": int(stop.timestamp())}}
        for stop in stops]}])


def on(number: int, words: tuple) -> tuple:
    return tuple(word.format(number) for word in words)


@pytest.fixture
def lab(pis, paper, monkeypatch):
    """Three recorded Pis whose repositories have one backup each, of 11:50."""
    for number, remote in enumerate(pis, start=1):
        remote.answers.update({
            ("docker", "ps"): f"c{number} gis_postgis{number}",
            on(number, INFO): info(NOON - timedelta(minutes=10)),
            ("docker", "exec", f"c{number}", "bash"): "",
            ("docker", "exec", f"c{number}", "sh"): "",
            on(number, BACKUP): "", on(number, RESTORE): "last completed transaction was at",
            on(number, PATRONICTL): "Success"})
    monkeypatch.setattr(backup, "_now", lambda lab: NOON)
    monkeypatch.setattr(backup, "flush", lambda lab, say: say("flushed"))
    monkeypatch.setattr(members, "members", lambda lab: MEMBERS)
    return paper


def sent(pis) -> list[str]:
    """Return what was changed, in order of the Pis: each command without its container."""
    return [f"{pi}: {command.split(' ', 3)[3]}" for pi, command in pis.sent("docker", "exec")
            if "info" not in command and "history" not in command]


def test_a_backup_goes_to_every_pi_and_is_incremental_when_a_full_one_is_young(lab, pis,
                                                                               monkeypatch):
    monkeypatch.setattr(backup, "FULL_EVERY", timedelta(days=40000))
    told = []
    made = backup.take(lab, say=told.append)
    assert made["node"].tolist() == ["pi1", "pi2", "pi3"]
    assert sent(pis) == [f"pi{n}: pgbackrest.sh backup --type=incr" for n in (1, 2, 3)]
    assert "pi2: full backup 20261123-115000F, 4.5 MB stored of 39.5 MB, in " in told[1]
    pis.forget()
    backup.take(lab, full=True, say=told.append)
    assert sent(pis) == [f"pi{n}: pgbackrest.sh backup --type=full" for n in (1, 2, 3)]


def test_a_full_backup_is_due_when_there_is_none_or_it_is_old():
    now = datetime.now(UTC)
    young, old = now - timedelta(days=6), now - timedelta(days=8)
    for text, due in ((info(), True), (info(old), True), (info(old, young), False),
                      (info(young, kind="incr"), True)):
        found = backup.timelines.backups(text, node="pi1", member="postgis1")
        assert backup._full_is_due(found) is due


def test_one_pi_that_cannot_is_told_and_the_others_have_their_backup(lab, pis):
    pis[0].answers[on(1, BACKUP)] = Result((), 82, "", "ERROR: [082]: WAL was not archived")
    told = []
    assert backup.take(lab, say=told.append)["node"].tolist() == ["pi2", "pi3"]
    assert told[0] == "pi1: no backup: ERROR: [082]: WAL was not archived"


def test_a_pi_that_makes_its_repository_is_waited_for(lab, pis, monkeypatch):
    """That of a new lab is made while `gislab up` says that everything answers already."""
    missing = Result((), 55, "", "FileMissingError: unable to open missing file")
    pis[0].answers[on(1, BACKUP)] = missing
    ready = pis[0].run

    def run(args, **how):
        done = ready(args, **how)
        if args[:2] == ["docker", "exec"] and "backup" in args:
            pis[0].answers[on(1, BACKUP)] = ""
        return done
    monkeypatch.setattr(pis[0], "run", run)
    told = []
    assert backup.take(lab, say=told.append)["node"].tolist() == ["pi1", "pi2", "pi3"]
    assert told[0] == "waiting for the repository: pi1 has not made it yet"


def test_a_backup_beside_the_primary_alone_is_none(lab, pis):
    for number in (1, 3):
        pis[number - 1].answers[on(number, BACKUP)] = Result((), 82, "", "ERROR: disk full")
    with pytest.raises(backup.BackupError, match=r"other than the primary's \(postgis2\).*pi1: "
                                                 "ERROR: disk full; pi3: .*gislab status"):
        backup.take(lab, say=lambda text: None)


def test_the_table_tells_label_kind_pi_times_sizes_and_wal(lab):
    row = backup.table(lab).iloc[1]
    assert row["label"] == "20261123-115000F" and row["kind"] == "full" and row["node"] == "pi2"
    assert row["stop"] == NOON - timedelta(minutes=10) == row["start"] + timedelta(seconds=7)
    assert row["size_MB"] == 39.5 and row["stored_MB"] == 4.5
    assert row["first_wal"] == row["last_wal"] == "000000010000000000000008"


def test_a_repository_that_does_not_answer_is_passed_over(lab, pis):
    pis[2].answers[on(3, INFO)] = Result((), 255, "", "No route to host")
    assert backup.table(lab)["node"].tolist() == ["pi1", "pi2"]


@pytest.mark.parametrize("to", [NOON - timedelta(minutes=10), NOON - timedelta(days=1),
                                NOON + timedelta(seconds=1)])
def test_a_moment_outside_is_refused_with_the_range_that_is_possible(lab, pis, to):
    with pytest.raises(backup.BackupError, match=r"cannot be restored; between .* and .* can"):
        backup.restore(lab, to, confirm=True)
    assert sent(pis) == []


def test_what_is_no_moment_is_answered_with_an_example(lab):
    with pytest.raises(backup.BackupError, match="'yesterday' is no moment; write it as 2026-"):
        backup.plan(lab, "yesterday")


def test_without_a_backup_the_next_command_is_named(lab, pis):
    for number, remote in enumerate(pis, start=1):
        remote.answers[on(number, INFO)] = info()
    for ask in (lambda: backup.plan(lab, "latest"), lambda: backup.window(lab)):
        with pytest.raises(backup.BackupError, match="no backup yet; run: gislab backup"):
            ask()


def test_nothing_is_changed_without_a_confirmation_and_it_says_what_would_be_lost(lab, pis):
    with pytest.raises(backup.BackupError, match="written after it, in 0:05:00 until now.*--yes"):
        backup.restore(lab, NOON - timedelta(minutes=5))
    assert sent(pis) == [] and backup.unfinished(lab) is None


def test_a_restore_pauses_stops_restores_starts_and_resumes(lab, pis):
    """The primary is restored; its replicas follow. Nobody is promoted meanwhile."""
    told = []
    to = NOON - timedelta(minutes=5)
    backup.restore(lab, to.isoformat(), confirm=True, say=told.append)
    asked = [line for line in sent(pis) if "patronictl" in line]
    assert [line.split()[3] for line in asked] == ["pause", "restart", "resume"]
    assert f"pi2: restore.sh {to.isoformat()} 1 3 20261123-115000F" in sent(pis)
    assert len([line for line in sent(pis) if "pg_ctl" in line and "stop" in line]) == 3
    assert told[0] == "flushed" and "pi2" not in told[1]
    assert told[-1] == "postgis2: is primary on timeline 2, postgis1 and postgis3 follow"
    assert backup.unfinished(lab) is None


def test_a_restore_that_fails_leaves_word_of_itself_and_goes_on_later(lab, pis):
    failed = Result((), 1, "", "restore: FATAL:  recovery ended before configured recovery target")
    pis[1].answers[on(2, RESTORE)] = failed
    with pytest.raises(backup.BackupError, match="recovery ended before.*--to latest"):
        backup.restore(lab, NOON - timedelta(minutes=5), confirm=True, say=lambda text: None)
    left = backup.unfinished(lab)
    assert left["member"] == "postgis2" and left["restored"] is False
    with pytest.raises(backup.BackupError, match="goes on with: gislab restore"):
        cluster._database_whole(lab)
    pis[1].answers[on(2, RESTORE)] = ""
    backup.restore(lab, say=lambda text: None)
    assert backup.unfinished(lab) is None


@pytest.mark.parametrize("to", ["latest", (NOON - timedelta(minutes=5)).isoformat()])
@pytest.mark.parametrize("again", [True, False])
def test_what_was_restored_is_not_restored_again_when_only_the_end_is_missing(lab, pis, to,
                                                                              again):
    """Else what clients wrote since would be lost; asked in the same words, or without any."""
    backup._journal(lab).write_text(json.dumps(
        {"to": to, "member": "postgis2", "restored": True}))
    backup.restore(lab, to if again else None, confirm=True, say=lambda text: None)
    assert [line for line in sent(pis) if "restore.sh" in line or "pause" in line] == []
    assert any("resume" in line for line in sent(pis)) and backup.unfinished(lab) is None


def test_going_on_without_anything_to_go_on_with_says_how_to_begin(lab):
    with pytest.raises(backup.BackupError, match="no restore is under way.*restore --to 20"):
        backup.restore(lab)


def test_patroni_that_is_paused_already_is_no_mistake(lab, pis):
    pis[0].answers[on(1, PATRONICTL)] = Result((), 1, "", "Error: Cluster is already paused")
    members.patronictl(lab, "pause", "--wait")
    assert not [pi for pi, c in pis.sent("docker", "exec") if pi == "pi2"]
    pis[0].answers[on(1, PATRONICTL)] = Result((), 1, "", "Can not find suitable configuration")
    members.patronictl(lab, "pause", "--wait")  # the next member is asked
    assert [pi for pi, c in pis.sent("docker", "exec") if "patronictl" in c][-1] == "pi2"


def test_without_a_primary_the_pi_with_the_backup_is_restored(lab, monkeypatch):
    def nobody(lab):
        raise NotYet("no member is primary")
    monkeypatch.setattr(members, "primary", nobody)
    assert backup._former(lab, None, backup.plan(lab, "latest")) == "postgis3"
    assert backup._former(lab, {"member": "postgis1"}, backup.plan(lab, "latest")) == "postgis1"


def test_the_shell_asks_before_it_restores(lab, pis, monkeypatch, capsys):
    monkeypatch.setattr(cli.settings, "read", lambda path: lab)
    answers = iter(["no", "yes"])
    monkeypatch.setattr("builtins.input", lambda text: next(answers))
    words = ["restore", "--to", (NOON - timedelta(minutes=5)).isoformat()]
    assert cli.main(words) == 1 and sent(pis) == []
    assert "leaves the database" in capsys.readouterr().out
    assert cli.main(words) == 0 and any("restore.sh" in line for line in sent(pis))
    assert cli.main(["restore"]) == 1
    assert "no restore is under way" in capsys.readouterr().err


def test_the_shell_lists_backups_and_what_can_be_restored(lab, monkeypatch, capsys):
    monkeypatch.setattr(cli.settings, "read", lambda path: lab)
    assert cli.main(["backups"]) == 0
    assert "any moment from" in capsys.readouterr().out
