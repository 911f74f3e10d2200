"""The primary's role is handed over, and all members are restarted one by one."""

import json

import pytest
from recorded import CLUSTER, said

from gislab import handover, postgis
from gislab.shell import CommandFailed, Result
from gislab.wait import NotYet

MOVED = {"members": [dict(m) for m in CLUSTER["members"]], "scope": "gislab"}
MOVED["members"][0].update(role="quorum_standby", state="streaming")
MOVED["members"][1].update(role="leader", state="running")
MOVED["members"][2].update(role="quorum_standby", state="streaming")


class Moves(dict):
    """Answers as before the switchover until it was asked for by one of `words`."""

    def __init__(self, pis, answers, *words):
        super().__init__(answers)
        self.pis, self.words = pis, words

    def __getitem__(self, asked):
        if set(self.words) & set(asked):
            for number, remote in enumerate(self.pis, start=1):
                dict.__setitem__(remote.answers, ("docker", "exec", f"c{number}", "bash"),
                                 said(MOVED))
        return super().__getitem__(asked)


@pytest.fixture
def lines():
    return []


def test_by_default_the_primary_stops_and_whoever_is_first_takes_over(three, paper, lines):
    ask = ("docker", "exec", "c2", "handover.sh")
    three[1].answers = Moves(three, {**three[1].answers, ask: ""}, "handover.sh")
    assert postgis.switchover(paper, say=lines.append) == "postgis1"
    assert len(three.sent(*ask)) == 1
    assert lines == ["postgis1: is primary, postgis2 is its replica"]


def test_a_certain_member_becomes_primary_by_patronis_own_switchover(three, paper, lines):
    ask = ("docker", "exec", "c1", "entrypoint.sh", "patronictl")
    three[0].answers = Moves(three, {**three[0].answers, ask: "Successfully"}, "patronictl")
    assert postgis.switchover(paper, "postgis1", say=lines.append) == "postgis1"
    (_, command), = three.sent("docker", "exec", "c1", "entrypoint.sh")
    assert "switchover gislab --leader postgis2 --candidate postgis1 --force" in command
    assert postgis.switchover(paper, "postgis1", say=lines.append) == "postgis1"
    assert lines[-1] == "postgis1: is primary already"
    with pytest.raises(ValueError, match="postgis1, postgis2, postgis3"):
        postgis.switchover(paper, "postgis9")


def test_nobody_takes_over_who_lacks_an_acknowledged_write(three, paper):
    behind = json.loads(json.dumps(CLUSTER))
    behind["members"][1].update(role="replica")
    for number, remote in enumerate(three, start=1):
        remote.answers["docker", "exec", f"c{number}", "bash"] = said(behind)
    with pytest.raises(NotYet, match="every acknowledged write"):
        postgis.switchover(paper)
    assert three.sent("docker", "exec", "c2", "handover.sh") == []


def test_a_refused_switchover_passes_through(three, paper):
    ask = ("docker", "exec", "c1", "entrypoint.sh", "patronictl")
    three[0].answers[ask] = Result(ask, 1, "", "Switchover failed")
    with pytest.raises(CommandFailed, match="Switchover failed"):
        postgis.switchover(paper, "postgis1")


def test_the_replicas_are_restarted_first_and_the_primary_only_after_it_handed_over(
        three, paper, lines, monkeypatch):
    done = []
    monkeypatch.setattr(handover, "switchover", lambda lab, say: done.append("switchover"))
    monkeypatch.setattr(handover, "_restart", lambda lab, member, image: done.append(
        (member, image)))
    monkeypatch.setattr(handover, "replicating", lambda table, replicas: None)
    table = postgis.rolling_restart(paper, image="postgis:2", say=lines.append)
    assert done == [("postgis1", "postgis:2"), ("postgis3", "postgis:2"), "switchover",
                    ("postgis2", "postgis:2")]
    assert table["member"].tolist() == ["postgis1", "postgis3", "postgis2"]
    assert len(lines) == 3


def test_a_member_counts_as_restarted_when_swarm_has_replaced_its_container(three, paper):
    class Replaces(dict):
        def __getitem__(self, asked):
            if "update" in asked:
                dict.__setitem__(three[2].answers, ("docker", "ps"), "c9 gis_postgis3")
            return super().__getitem__(asked)
    three[0].answers = Replaces({**three[0].answers, ("docker", "node"): "pi1",
                                 ("docker", "service", "update"): ""})
    handover._restart(paper, "postgis3", "postgis:2")
    (_, command), = three.sent("docker", "service", "update")
    assert "--force" in command and "--image postgis:2" in command
    assert command.endswith("gis_postgis3")


def test_a_primary_that_came_back_is_asked_again(three, paper, lines, monkeypatch):
    """Its Patroni found no replica that answered at that moment, and started it again."""
    ask, waits = ("docker", "exec", "c2", "handover.sh"), []
    until = handover.until

    def impatient(fn, *, what, timeout, **how):
        waits.append(what)
        return until(fn, what=what, timeout=0 if len(waits) == 1 else timeout, **how)
    monkeypatch.setattr(handover, "until", impatient)

    class Second(Moves):
        def __getitem__(self, asked):
            if set(self.words) & set(asked) and len(three.sent(*ask)) < 2:
                return dict.__getitem__(self, asked)
            return super().__getitem__(asked)
    three[1].answers = Second(three, {**three[1].answers, ask: ""}, "handover.sh")
    assert postgis.switchover(paper, say=lines.append) == "postgis1"
    assert len(three.sent(*ask)) == 2


@pytest.fixture
def rolled(three, monkeypatch):
    """A lab whose members `new` are renewed already; what was done, in order."""
    done, new = [], set()

    def renew(lab, member, say):
        done.append(member)
        changed = member not in new
        new.add(member)
        return changed
    monkeypatch.setattr(handover.stack, "renew", renew)
    monkeypatch.setattr(handover.stack, "alike", lambda lab, one, other: (one in new)
                        == (other in new))
    monkeypatch.setattr(handover, "switchover", lambda lab, say: done.append("switchover"))
    monkeypatch.setattr(handover, "_replaced", lambda lab, member, before: done.append(before))
    monkeypatch.setattr(handover, "replicating", lambda table, replicas: done.append("whole?"))
    return done, new


def test_what_the_stack_file_changes_of_the_members_reaches_one_after_another(
        rolled, paper, lines):
    """The replicas first, each streaming again before the next; who was primary when it is not."""
    done, _ = rolled
    handover.roll_out(paper, say=lines.append)
    assert done == ["whole?", "postgis1", "c1", "whole?", "postgis3", "c3", "whole?",
                    "switchover", "postgis2", "c2", "whole?"]
    assert [line.split(":")[0] for line in lines] == ["postgis1", "postgis3", "postgis2"]


def test_no_member_is_touched_that_is_as_the_stack_file_says(rolled, paper, lines):
    done, new = rolled
    new.update(("postgis1", "postgis2", "postgis3"))
    handover.roll_out(paper, say=lines.append)
    assert done == ["whole?", "postgis1", "postgis3"] and lines == [], "asked, and not replaced"


def test_a_roll_out_that_was_interrupted_goes_on_with_who_was_left_out(rolled, paper, lines):
    done, new = rolled
    new.update(("postgis1", "postgis3"))
    handover.roll_out(paper, say=lines.append)
    assert done[3:] == ["switchover", "postgis2", "c2", "whole?"]


def test_a_database_that_is_not_whole_is_not_waited_for_for_ever(rolled, paper, lines,
                                                                 monkeypatch):
    """A new image may be what mends it."""
    done, _ = rolled

    def broken(ask, what, **how):
        raise handover.WaitTimeout(f"{what}: not there after 60 s (no primary)")
    monkeypatch.setattr(handover, "until", broken)
    handover.roll_out(paper, say=lines.append)
    assert done == [] and "all at once" in lines[0]


def test_a_lab_without_members_is_simply_deployed(pis, paper, lines):
    pis.answer("docker", "ps")
    handover.roll_out(paper, say=lines.append)
    assert lines == []
