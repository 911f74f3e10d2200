"""Which backup and which timeline lead to a moment, after failovers and after restores."""

from datetime import UTC, datetime, timedelta

import pytest

from gislab import timelines
from gislab.timelines import Backup, History, Plan

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

# Two failovers (2, 3), then a restore at 12:30 to 12:10, as the archive of a lab kept them.
ARCHIVED = """@ 00000002.history 1795433700
1\t0/5000028\tno recovery target specified
@ 00000003.history 1795434000
1\t0/5000028\tno recovery target specified

2\t0/7000110\tno recovery target specified
@ 00000004.history 1795437000
1\t0/5000028\tno recovery target specified

2\t0/7000110\tno recovery target specified

3\t0/80002A8\tbefore 2026-11-23 12:10:01.512345+00
"""


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def backup(label: str, stop: datetime, timeline: int, lsn: int, node: str = "pi1") -> Backup:
    wal = f"{timeline:08X}0000000000000005"
    return Backup(label, "full", node, node.replace("pi", "postgis"), stop, stop, 50_000_000,
                  8_000_000, wal, wal, lsn)


@pytest.fixture
def histories():
    return timelines.parse(ARCHIVED)


def test_histories_tell_ancestors_birth_and_whether_a_restore_made_them(histories):
    assert list(histories) == [2, 3, 4]
    assert [h.restored for h in histories.values()] == [False, False, True]
    assert histories[3].left == ((1, 0x5000028), (2, 0x7000110))
    assert histories[4].born == datetime.fromtimestamp(1795437000, UTC) == at(30)
    assert timelines.parse("") == {}


def test_a_copy_that_reached_a_repository_later_does_not_make_a_timeline_younger(histories):
    late = {4: History(4, at(300), histories[4].left, True)}
    assert timelines.merged([late, histories])[4].born == at(30)
    assert list(timelines.merged([late, {}, histories])) == [2, 3, 4]


@pytest.mark.parametrize("minute, timeline", [(5, 3), (29, 3), (31, 4)])
def test_a_moment_lies_on_the_timeline_that_was_alive_then(histories, minute, timeline):
    """After the restore, what it discarded is still to be had; a failover discards nothing."""
    assert timelines.lived(histories, at(minute)) == timeline


def test_before_any_switch_there_is_timeline_1():
    assert timelines.lived({}, NOON) == 1
    assert timelines.lived({2: History(2, at(30), ((1, 5),), True)}, at(20)) == 1


def test_two_restores_leave_three_pasts():
    two = {2: History(2, at(30), ((1, 9),), True), 3: History(3, at(60), ((1, 9), (2, 20)), True)}
    assert [timelines.lived(two, at(m)) for m in (20, 40, 70)] == [1, 2, 3]


def test_the_last_backup_before_the_moment_is_taken():
    early, late = backup("early", at(1), 1, 10), backup("late", at(5), 1, 20)
    assert timelines.leading_to([late, early], {}, 1, at(6)) == late
    assert timelines.leading_to([late, early], {}, 1, at(5)) == early
    assert timelines.leading_to([late], {}, 1, at(4)) is None


def test_a_backup_of_what_a_restore_has_discarded_leads_nowhere(histories):
    """Taken at 12:20 on timeline 3, after the point at which timeline 4 left it."""
    kept = backup("kept", at(4), 3, 0x8000100)
    gone = backup("gone", at(20), 3, 0x9000100)
    assert timelines.leading_to([kept, gone], histories, 4, at(40)) == kept
    assert timelines.leading_to([kept, gone], histories, 3, at(29)) == gone
    assert timelines.leading_to([gone], histories, 4, at(40)) is None


def test_the_first_moment_is_after_the_first_complete_backup():
    found = [backup("b", at(5), 1, 2), backup("a", at(3), 1, 1)]
    assert timelines.first(found) == at(3) + timedelta(seconds=1)


def test_a_plan_says_what_will_be_lost():
    plan = Plan(at(0).isoformat(), 3, backup("20261123-115500F", at(-5), 3, 1, "pi2"), 312.4)
    assert "whatever was written after it, in 0:05:12 until now, leaves the database" in str(plan)
    assert "timeline 3, from backup 20261123-115500F on pi2" in str(plan)
    assert "all that the archive holds" in str(Plan("latest", 3, plan.backup, 0))
