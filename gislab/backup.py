"""Backups of the database, and the way back to the moment before a mistake.

Every Pi with a member has a repository of its own (pgBackRest), on a volume that outlives the
member's data. The write-ahead log goes to all of them while it is written; a backup is taken into
each. See images/postgis/pgbackrest.sh for what happens when one is away.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pandas as pd
import psycopg

from . import members, nodes, timelines
from .database import connect, first_line
from .settings import MEMBERS, Lab
from .shell import CommandFailed
from .timelines import Backup, History
from .wait import NotYet, WaitTimeout, until

FULL_EVERY = timedelta(days=7)  # in between, only what changed since
LATEST = "latest"
NO_REPOSITORY = 55  # pgBackRest's FileMissingError: see images/postgis/repository.sh
_DATA = "/var/lib/postgresql/17"
# each history file of the archive with its age, which pgBackRest's own `info` does not tell
_HISTORIES = ("cd /var/lib/pgbackrest/archive/gis/17-1 2>/dev/null || exit 0; "
              'for f in *.history; do [ -e "$f" ] || continue; '
              'echo "@ $f $(stat -c %Y "$f")"; cat "$f"; done')


class BackupError(RuntimeError):
    """A backup or a restore cannot be made as asked; the text says what to do."""


def take(lab: Lab, *, full: bool = False, say=print) -> pd.DataFrame:
    """Back the database up into the repository of every Pi that answers; return what was made.

    Incremental, but for the first one in a repository and one every seven days; safe to repeat.
    On three Pis, since any one of them may be the next to be lost, and one after the other,
    since each reads a whole member. Reads from the replica beside the repository where it can.

    Parameters
    ----------
    full : copy everything, whatever is there already.

    Raises
    ------
    BackupError : no Pi but the primary's own has taken one.
    """
    primary = until(lambda: members.primary(lab), what="a primary to back up", timeout=30)
    made, failed = [], []
    for member, (node, container) in members.containers(lab).items():
        before = _backups(node, container, member)
        kind = "full" if full or _full_is_due(before) else "incr"
        start = time.monotonic()
        command = ["docker", "exec", container, "pgbackrest.sh", "backup", f"--type={kind}"]
        try:
            _copy(node, command, say)
        except CommandFailed as error:
            failed.append(f"{node.name}: {error.result.err.strip()[-300:]}")
            say(f"{node.name}: no backup: {error.result.err.strip()[-300:]}")
            continue
        new = _backups(node, container, member)[-1]
        made.append(new)
        say(f"{node.name}: {new.kind} backup {new.label}, {new.stored / 1e6:.1f} MB stored of "
            f"{new.size / 1e6:.1f} MB, in {time.monotonic() - start:.1f} s")
    if not any(b.member != primary for b in made):
        raise BackupError(f"no Pi other than the primary's ({primary}) has taken a backup: "
                          + ("; ".join(failed) or "none answers") + ". See: gislab status")
    return timelines.table(made)


def table(lab: Lab) -> pd.DataFrame:
    """Return every backup there is: label, kind, node, start, stop, size_MB, stored_MB, WAL.

    One line for each copy; `stored_MB` is what it added to the repository of that Pi.
    """
    return timelines.table(_look(lab)[0])


def window(lab: Lab) -> tuple[datetime, datetime]:
    """Return the first and the last moment to which the database can be restored now.

    Raises BackupError where there is no backup at all.
    """
    found, _ = _look(lab)
    if not found:
        raise BackupError("there is no backup yet; run: gislab backup")
    return timelines.first(found), _now(lab) or datetime.now(UTC)


def plan(lab: Lab, to: datetime | str) -> timelines.Plan:
    """Find the backup and the timeline that lead to a moment; changes nothing.

    Parameters
    ----------
    to : aware or local datetime, ISO text, or "latest": all that the archive holds.

    Raises
    ------
    BackupError : the moment lies before the first backup or in the future, or `to` is no time.
    """
    found, histories = _look(lab)
    if not found:
        raise BackupError("there is no backup yet; run: gislab backup")
    now = _now(lab) or datetime.now(UTC)
    moment = now if to == LATEST else _moment(to)
    first = timelines.first(found)
    if not first <= moment <= now:
        raise BackupError(f"{_text(moment)} cannot be restored; between {_text(first)} and "
                          f"{_text(now)} any moment can")
    line = timelines.lived(histories, moment)
    chosen = timelines.leading_to(found, histories, line, moment)
    if chosen is None:
        raise BackupError(f"no backup on the way to {_text(moment)} is left (timeline {line}); "
                          "see: gislab backups")
    return timelines.Plan(_written(to), line, chosen, (now - moment).total_seconds())


def restore(lab: Lab, to: datetime | str | None = None, *, confirm: bool = False,
            say=print) -> timelines.Plan | None:
    """Have the whole cluster at that moment again; what was written later is gone from it.

    It stays in the archive, on the timeline that was left: to have it back, restore to a moment
    before this restore. Nobody can read or write meanwhile. If it is interrupted, the same call,
    or one without `to`, goes on; another `to` takes its place.

    Parameters
    ----------
    to : see plan.
    confirm : without it nothing is changed; BackupError says what would be lost.
    """
    left = unfinished(lab)
    if to is None:
        if left is None:
            raise BackupError("no restore is under way; say to which moment, e.g. "
                              f"gislab restore --to {datetime.now().isoformat('T', 'minutes')}")
        to, confirm = left["to"], True
    if left and left["restored"] and _written(to) == left["to"]:
        return _finish(lab, left, say)
    wanted = plan(lab, to)
    if not confirm:
        raise BackupError(f"{wanted}. If that is wanted: confirm=True, or gislab restore --yes")
    if left is None:
        flush(lab, say)
        wanted = plan(lab, to)  # now that the archive knows of the last failover, too
    member = _former(lab, left, wanted)
    step = {"to": wanted.to, "member": member, "restored": False}
    _journal(lab).write_text(json.dumps(step))
    say(f"restore: {wanted}")
    members.patronictl(lab, "pause", "--wait")
    found = members.containers(lab)
    nodes.each(lab, lambda pair: _stop(*pair), list(found.values()))
    say("every member: stopped, Patroni paused")
    node, container = found[member]
    try:
        said = node.docker("exec", container, "restore.sh", wanted.to, str(wanted.timeline),
                           str(1 + MEMBERS.index(wanted.backup.member)), wanted.backup.label,
                           timeout=86400)
    except CommandFailed as error:
        raise BackupError(f"{node.name}: {error.result.err.strip()[-600:]}. The database stands "
                          "still. Another moment: gislab restore --to ...; or all that there "
                          "was: gislab restore --to latest") from None
    say(f"{member}: restored; " + (said.splitlines()[-1] if said else "nothing was replayed"))
    _journal(lab).write_text(json.dumps({**step, "restored": True}))
    _finish(lab, step, say)
    return wanted


def unfinished(lab: Lab) -> dict | None:
    """Return what a restore has left behind that did not come to its end, or None."""
    try:
        return json.loads(_journal(lab).read_text())
    except (OSError, ValueError):
        return None


def _finish(lab: Lab, step: dict, say) -> None:
    """Have the restored member lead, and the others follow it."""
    member = step["member"]

    def led() -> None:
        if members.primary(lab) != member:
            raise NotYet(f"{members.primary(lab)} leads")
    # A Patroni that was started while the files were aside does not know their version, and so
    # cannot lead, until the restart below.
    with suppress(WaitTimeout):
        until(led, what=f"{member} to lead", timeout=40)
    # it runs with the settings of its files; Patroni gives it those that all members share
    members.patronictl(lab, "restart", member, "--force")
    until(led, what=f"{member} to lead", timeout=180)
    members.patronictl(lab, "resume", "--wait")
    followers = [name for name in members.containers(lab) if name != member]
    try:
        until(lambda: _follow(lab, followers), what="the replicas to follow", timeout=120)
    except WaitTimeout:  # too far behind for what the new primary still has: cloned instead
        now = members.members(lab).set_index("member")
        for name in followers:
            if name not in now.index or now.loc[name, "state"] != "streaming":
                say(f"{name}: does not follow; copying it from {member}")
                members.patronictl(lab, "reinit", name, "--force")
        until(lambda: _follow(lab, followers), what="the replicas to follow", timeout=1800)
    _journal(lab).unlink(missing_ok=True)
    say(f"{member}: is primary on timeline {members.members(lab)['timeline'].max()}, "
        f"{' and '.join(followers)} follow")


def _former(lab: Lab, left: dict | None, wanted: timelines.Plan) -> str:
    """Return the member to restore: the primary, whose WAL may not be archived to its end."""
    try:
        member = left["member"] if left else members.primary(lab)
    except NotYet:
        member = wanted.backup.member
    found = members.containers(lab)
    return member if member in found else next(iter(found))


def _follow(lab: Lab, followers: list[str]) -> None:
    now = members.members(lab).set_index("member").reindex(followers)
    behind = now[(now["state"] != "streaming") | (now["role"] == "replica")]
    if len(behind) or now["timeline"].nunique() > 1:
        raise NotYet(", ".join(f"{name} is {row.state}" for name, row in behind.iterrows()))


def _stop(node: nodes.Node, container: str) -> None:
    """Stop PostgreSQL, not its container: the repositories must go on."""
    node.docker("exec", container, "sh", "-c", f"pg_ctl -D {_DATA} status >/dev/null || exit 0; "
                f"pg_ctl -D {_DATA} -w -t 60 -m fast stop || "
                f"pg_ctl -D {_DATA} -w -t 60 -m immediate stop", timeout=150)


def flush(lab: Lab, say=print) -> str | None:
    """Have everything archived that was written by now, so that any moment can be reached.

    Returns the name of the last WAL segment that the archive holds now; None where no primary
    answers, and nothing can be flushed. Raises WaitTimeout where no other Pi takes it.
    """
    try:
        with connect(lab, "postgres", port=lab.ports.primary, autocommit=True) as connection:
            # Recovery stops at the first commit after the moment; on a calm lab there is none.
            connection.execute("set synchronous_commit = local")
            connection.execute("set default_transaction_read_only = off")  # see guard.sh
            connection.execute("select pg_current_xact_id()")
            name, = connection.execute("select pg_walfile_name(pg_switch_wal())").fetchone()
    except psycopg.Error as error:
        say(f"no primary answers ({first_line(error)}): what was not archived "
            "yet is taken from the member's disk")
        return None

    def archived() -> None:
        # `.ready` appears some time after the switch, so that its absence says nothing
        question = """select exists (select from pg_ls_waldir() where name = %s) and not exists
                      (select from pg_ls_archive_statusdir() where name = %s), archived_count,
                      failed_count, last_failed_wal, last_failed_time from pg_stat_archiver"""
        with connect(lab, "postgres", port=lab.ports.primary) as connection:
            left, *told = connection.execute(question, (name, f"{name}.done")).fetchone()
        if left:
            raise NotYet(f"{name} is on the primary's disk only; {_archiver(*told)}")
    until(archived, what="the WAL to be archived", timeout=90)
    return name


def _archiver(archived: int, failed: int, segment: str | None, when: datetime | None) -> str:
    """Tell what the primary's archiver has done since its statistics began."""
    if not failed:
        return f"of {archived} segments none was refused"
    return (f"{archived} segments were archived; {segment} was refused last, at "
            f"{when.astimezone():%H:%M:%S} ({failed} times in all)")


def _look(lab: Lab) -> tuple[list[Backup], dict[int, History]]:
    """Ask the repository of every Pi for its backups, and all of them for the timelines."""
    def ask(member: str) -> tuple[list[Backup], dict[int, History]]:
        node, container = found[member]
        out = node.run(["docker", "exec", container, "bash", "-c", _HISTORIES], check=False).out
        return _backups(node, container, member), timelines.parse(out)
    found = members.containers(lab)
    answers = nodes.each(lab, ask, list(found))
    return ([backup for backups, _ in answers for backup in backups],
            timelines.merged(histories for _, histories in answers))


def _backups(node: nodes.Node, container: str, member: str) -> list[Backup]:
    try:
        out = node.docker("exec", container, "pgbackrest.sh", "info", "--output=json")
        return timelines.backups(out, node=node.name, member=member)
    except (CommandFailed, ValueError):  # its container starts or stops
        return []


def _copy(node: nodes.Node, command: list[str], say) -> None:
    """Take one backup; CommandFailed says why there is none."""
    def ask() -> int:
        code = node.run(command, check=False, timeout=86400).code
        if code == NO_REPOSITORY:  # of a new lab, or of a Pi with a new card
            raise NotYet(f"{node.name} has not made it yet")
        return code
    with suppress(WaitTimeout):
        if until(ask, what="the repository", timeout=60, every=2, progress=say) == 0:
            return
    # once more, since on a busy Pi the WAL that it needs may have missed it
    node.run(command, timeout=86400)


def _full_is_due(backups: list[Backup]) -> bool:
    return not any(b.kind == "full" and b.stop > datetime.now(UTC) - FULL_EVERY for b in backups)


def _now(lab: Lab) -> datetime | None:
    """Return the primary's time, by which commits are dated; None while there is none."""
    try:
        with connect(lab, "postgres", port=lab.ports.primary) as connection:
            return connection.execute("select clock_timestamp()").fetchone()[0].astimezone(UTC)
    except psycopg.Error:
        return None


def _moment(to: datetime | str) -> datetime:
    try:
        moment = datetime.fromisoformat(to) if isinstance(to, str) else to
    except ValueError:
        raise BackupError(f"{to!r} is no moment; write it as 2026-11-23T14:05:09, in the time of "
                          "this machine, or with a zone: 2026-11-23T13:05:09+00:00") from None
    return moment.astimezone(UTC)


def _written(to: datetime | str) -> str:
    """Return a moment as the journal and the plan hold it, in UTC whatever zone was asked in."""
    return LATEST if to == LATEST else _moment(to).isoformat()


def _text(moment: datetime) -> str:
    return moment.astimezone().isoformat(" ", "seconds")


def _journal(lab: Lab):
    return lab.home / "restore.json"
