"""The torture's sequence follows from its seed; its report tells every fault, and every loss."""

import json

import invented
import pytest

from gislab import (
    cli,
    cluster,
    experiment,
    faults,
    history,
    nodes,
    outage,
    postgis,
    probe,
    run,
    toll,
    torture,
    worldmap,
)
from gislab import settings as lab_settings
from gislab.wait import WaitTimeout

READERS = ("primary postgis1", "replica postgis2", "replica postgis3")


def test_the_same_seed_gives_the_same_faults_and_another_one_others():
    once = torture.schedule(7, 600)
    assert once == torture.schedule(7, 600) and once != torture.schedule(8, 600)
    longer = torture.schedule(7, 1200)
    assert longer[:len(once)] == once, "a longer torture begins with the shorter one"


def test_a_seed_means_the_same_tomorrow():
    """A report names its seed; so the sequence must not change with a version of anything."""
    assert torture.schedule(1, 1, ("primary_killed", "link_cut")) == (
        torture.Step("link_cut", 6.8, 8.8, 495), torture.Step("primary_killed", 5.2, 6.3, 788))


def test_every_fault_has_its_turn_before_any_comes_again():
    steps = torture.schedule(3, 1800)
    count = len(torture.HOLDS)
    assert len(steps) > 2 * count
    for begin in range(0, len(steps) - count + 1, count):
        assert {s.fault for s in steps[begin:begin + count]} == set(torture.HOLDS)
    assert sum(s.calm + s.hold for s in steps) >= 1800


def test_each_step_stays_within_its_bounds():
    for step in torture.schedule(5, 3000):
        least, most = torture.HOLDS[step.fault]
        assert least <= step.hold <= most and 3 <= step.calm <= 8


def test_the_torture_chooses_among_real_faults_and_those_of_the_issue_are_among_them():
    assert set(torture.HOLDS) <= set(faults.ALL) and set(torture.QUICK) <= set(torture.HOLDS)
    assert {"primary_killed", "power_cut", "pi_power_cut", "primary_frozen", "primary_cut_off",
            "primary_deaf", "primary_mute", "consul_majority_lost",
            "switchover"} <= set(torture.HOLDS)


def test_an_unknown_fault_is_answered_with_the_names_there_are():
    with pytest.raises(faults.FaultError, match="primary_killed"):
        torture.schedule(1, 60, ["earthquake"])


class Writer:
    """A write that is acknowledged by the primary of the moment, except while it is broken."""

    timeout = 0.3

    def __init__(self, state, first):
        self.state, self.first = state, first

    async def ask(self, number):
        if self.state["broken"]:
            raise probe.Unknown("planted")
        self.state["held"].append(self.row(number))
        return f"10.0.0.{self.state['line']} timeline {self.state['line']}"

    def row(self, number):
        return self.first + number

    async def close(self):
        pass


@pytest.fixture
def bench(tmp_path, monkeypatch, pis):
    """A lab of one switch. `state`: broken, the rows held, the timeline, what mending does."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    pis.answer("perl", out="1.00\tvip\t\there\n1.00\tserver\tprimary/postgis1\tUP\n")
    state = {"broken": False, "held": [], "line": 1, "mend": lambda: None, "struck": []}
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    monkeypatch.setattr(nodes, "alive", lambda lab: lab.machines)
    monkeypatch.setattr(experiment, "first_row", lambda lab: 1000)
    monkeypatch.setattr(experiment, "final_reads", lambda lab, first, end, **how: history.reads(
        {reader: {row: state["held"].count(row) for row in state["held"]}
         for reader in READERS[:3 if how.get("replicas", True) else 1]}))
    monkeypatch.setattr(postgis, "content_hash", lambda lab, table: dict.fromkeys(READERS, "ab"))
    monkeypatch.setattr(probe, "writers", lambda lab, **how: probe.Probes(
        {"sql_write": Writer(state, 1000), "write_primary": Writer(state, 5000)}, rate=50))
    monkeypatch.setattr(torture, "CALM", (0.2, 0.2))
    monkeypatch.setattr(torture, "REST", 0.2)
    monkeypatch.setattr(torture, "HOLDS", dict.fromkeys(torture.HOLDS, (0.2, 0.2)))

    def make(name):
        def hit(lab, target):
            state["broken"] = True
            state["struck"].append(name)

        def mend(lab, target):
            state["mend"]()
            state["broken"] = False
            state["line"] += 1
        return lambda lab, **choice: faults.Fault(
            lab, name, f"planted {name}", "#000000", (),
            lambda lab: faults.Target("pi1", "", f"the switch {choice}"), hit, mend)
    for name in ("primary_killed", "pi_power_cut"):
        monkeypatch.setitem(faults.ALL, name, make(name))
    return state


LAB = lab_settings.make({"map_server": "mapserver"})
NAMES = ("primary_killed", "pi_power_cut")
QUICK = dict(seconds=3, seed=4, names=NAMES, say=lambda text: None)


def test_a_torture_writes_all_the_time_and_reports_each_fault(bench, tmp_path):
    said = []
    ordeal = torture.inflict(LAB, **{**QUICK, "say": said.append}, folder=tmp_path / "r")
    planned = [s.fault for s in torture.schedule(4, 3, NAMES)]
    assert bench["struck"] == planned[:len(bench["struck"])] and len(bench["struck"]) >= 2
    assert ordeal.safe and ordeal.recovered and not ordeal.interrupted, ordeal.complaints
    assert ordeal.verdict.readers == READERS and ordeal.verdict.acknowledged > 20
    table = toll.steps(ordeal.run)
    assert len(table) == len(bench["struck"])
    assert table["outage [s]"].between(0.1, 2).all() and (table["unknown"] > 0).all()
    assert set(table["by itself"]) == {"no"}
    page = (tmp_path / "r" / "index.html").read_text()
    assert "SEED=4" in page and "planted primary_killed" in page and "none lost" in page
    kept = json.loads((tmp_path / "r" / "verdict.json").read_text())
    assert kept["seed"] == 4 and kept["safe"] and kept["read_from"] == list(READERS)
    again = run.load(tmp_path / "r")
    assert toll.summary(again, outage.writes(again)) == kept
    assert set(again.system["node"]) == {"pi1", "pi2", "pi3"}
    assert again.system["t"].between(0, again.samples["sent"].max() + 1).all()
    never = "never was more than one member counted as primary"
    assert kept["primaries"] == {"said": never, "two_counted": []}
    assert never in page and f"torture: {never}" in said
    assert any("to replay: make torture SECONDS=3 SEED=4" in line for line in said)


def test_a_fault_that_leaves_the_victim_open_is_told_whom_the_seed_picked(bench, tmp_path):
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    picks = [s.pick for s in torture.schedule(4, 3, NAMES) if s.fault == "pi_power_cut"]
    whom = ordeal.run.events.query("kind == 'strike' and fault == 'pi_power_cut'")["what"]
    assert whom.iloc[0] == f"the switch {{'pick': {picks[0]}}}"


@pytest.mark.parametrize("plant, said", [
    (lambda held: held.pop(3), "1 acknowledged writes are lost"),
    (lambda held: held.append(held[0]), "1 rows are there more than once"),
    (lambda held: held.append(9), "1 rows are there that were refused, or never sent")])
def test_a_planted_fault_of_the_database_is_found_and_named(bench, tmp_path, monkeypatch,
                                                            plant, said):
    bench["mend"] = lambda: plant(bench["held"]) if len(bench["struck"]) == 1 else None
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert not ordeal.safe and said in ordeal.complaints[0]
    assert "class=\"failed\"" in (tmp_path / "r" / "index.html").read_text()


def test_a_primary_that_goes_on_beside_its_successor_is_found(bench, tmp_path):
    def back():
        bench["line"] = 4 - 2 * len(bench["struck"])  # 3 after the first, 1 after the second
    bench["mend"] = back
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert any("replaced primary" in line for line in ordeal.complaints)


def watched(acks, *lines):
    """A torture's run: writes that were acknowledged at t by a server; what HAProxies counted."""
    samples = [("sql_write", t, 0.01, "ok", f"{server} timeline {line}", n)
               for n, (t, server, line) in enumerate(acks)]
    return run.make(samples, rows=[(n, 1, "primary") for n in range(len(acks))],
                    settings={"seed": 1, "seconds": 9}, system=[
                        (t, pi, "server", f"primary/{member}", state)
                        for t, pi, member, state in lines])


COUNTED = ((0.0, "pi1", "postgis1", "UP"), (0.0, "pi2", "postgis1", "UP"),
           (2.9, "pi2", "postgis1", "DOWN"), (3.0, "pi2", "postgis2", "UP"),
           (6.0, "pi1", "postgis1", "DOWN"))


def test_two_writable_primaries_at_a_time_are_a_failure_even_if_each_wrote_once_only():
    """The former one took a write that was sent when another was primary: no row need be lost,
    and no timeline go back, to tell that.
    """
    made = watched([(1, "10.0.0.1", 1), (4, "10.0.0.1", 1), (5, "10.0.0.2", 2)], *COUNTED)
    verdict = outage.writes(made)
    assert not verdict.forked
    complaint, = toll.complaints(made, verdict)
    assert complaint.startswith("two writable primaries") and "postgis1, postgis2" in complaint
    assert "10.0.0.1, 10.0.0.2" in complaint and complaint in toll.page(made, verdict)
    assert not toll.summary(made, verdict)["safe"]


def test_a_former_primary_that_is_counted_yet_and_acknowledges_nothing_is_told_and_no_failure():
    made = watched([(1, "10.0.0.1", 1), (2.8, "10.0.0.1", 1), (3.5, "10.0.0.2", 2)], *COUNTED)
    verdict = outage.writes(made)
    assert toll.complaints(made, verdict) == []
    assert "at most one writable primary" in toll.primaries(made)
    kept = toll.summary(made, verdict)["primaries"]["two_counted"]
    assert kept == [{"at [s]": 3.0, "for [s]": 3.0, "counted as primary": "postgis1, postgis2",
                     "acknowledged by": "10.0.0.2"}]


def test_a_torture_that_nobody_watched_does_not_claim_one_primary():
    made = watched([(1, "10.0.0.1", 1)])
    assert toll.complaints(made, outage.writes(made)) == []
    assert "not seen" in toll.primaries(made)
    assert toll.summary(made, outage.writes(made))["primaries"]["two_counted"] is None


def test_the_timeline_of_a_torture_shows_who_held_what():
    made = invented.one()
    picture, blind = toll.timeline(made), toll.timeline(invented.one(seen=False))
    assert len(picture.axes) == 2 and len(blind.axes) == 1
    shown = {t.get_text() for t in picture.axes[1].texts}
    assert {"pi1", "pi2", "postgis1", "postgis2"} <= shown
    assert "VIP: pi1, then pi2; primary: postgis1, then postgis2" in picture.alt
    assert len(picture.png()) > 5000


def test_without_one_acknowledged_write_nothing_was_tested(bench, tmp_path):
    bench["broken"] = True
    ordeal = torture.inflict(LAB, **{**QUICK, "seconds": 0}, folder=tmp_path / "r")
    assert not ordeal.safe and "nothing was tested" in ordeal.complaints[0]


def test_members_with_different_content_are_no_success(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(postgis, "content_hash", lambda lab, table: {"postgis1": "a",
                                                                     "postgis2": "b"})
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert not ordeal.safe and "content differs: postgis1 a, postgis2 b" in ordeal.complaints[0]


def test_a_lab_that_does_not_come_back_is_a_result_and_the_sequence_goes_on(bench, tmp_path):
    times = []

    def late():
        times.append(1)
        if len(times) == 1:
            raise WaitTimeout("the database: not there after 180 s (1 of 2 replicas streaming)")
    bench["mend"] = late
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert not ordeal.recovered and ordeal.safe and len(bench["struck"]) >= 2
    assert toll.steps(ordeal.run)["whole after [s]"].iloc[0] == "not recovered"
    assert "1 of 2 replicas streaming" in (tmp_path / "r" / "index.html").read_text()


def test_a_lab_that_never_comes_back_ends_the_sequence_and_is_reported(bench, tmp_path,
                                                                       monkeypatch):
    def never():
        raise WaitTimeout("the database: not there after 180 s")
    bench["mend"] = never
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert len(bench["struck"]) == 1 and not ordeal.recovered
    assert "did not become whole" in ordeal.run.settings["ended"]


def test_members_that_cannot_be_read_are_a_failure_and_the_primary_is_read_at_least(
        bench, tmp_path, monkeypatch):
    whole = experiment.final_reads

    def partly(lab, first, end, replicas=True, **how):
        if replicas:
            raise WaitTimeout("every member to tell its rows: not there (postgis3 behind)")
        return whole(lab, first, end, replicas=False)
    monkeypatch.setattr(experiment, "final_reads", partly)
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert ordeal.verdict.readers == READERS[:1] and not ordeal.safe
    assert "postgis3 behind" in ordeal.complaints[0]


def test_ctrl_c_undoes_the_fault_and_reports_what_was_found_so_far(bench, tmp_path, monkeypatch):
    watch = probe.Probes.watch

    def interrupted(probes, seconds):
        watch(probes, seconds)
        if bench["broken"]:
            raise KeyboardInterrupt
    monkeypatch.setattr(probe.Probes, "watch", interrupted)
    ordeal = torture.inflict(LAB, **QUICK, folder=tmp_path / "r")
    assert ordeal.interrupted and not bench["broken"] and ordeal.safe
    assert experiment.heal(LAB, say=lambda text: None) is None
    assert len(toll.steps(ordeal.run)) == 1 and (tmp_path / "r" / "index.html").exists()


def test_the_shell_says_by_its_exit_code_that_something_was_lost(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(torture, "REPORTS", tmp_path)
    words = ["torture", "--seconds", "1", "--seed", "2", "--faults", *NAMES]
    assert cli.main(words) == 0
    bench["mend"] = lambda: bench["held"].pop(0)
    assert cli.main(words) == 1


def test_a_report_of_a_torture_without_a_fault_can_be_read():
    made = run.make([("sql_write", 0.0, 0.01, "ok", "10.0.0.1 timeline 1", 1)],
                    rows=[(1, 1, "primary")], settings={"seed": 1, "seconds": 5})
    assert toll.complaints(made, outage.writes(made)) == []
    assert "Torture, seed 1" in toll.page(made, outage.writes(made))


def test_the_map_shows_what_is_lost_and_says_so_when_nothing_is():
    lost = run.make([("sql_write", i, 0.01, "ok", "", i) for i in range(4)],
                    rows=[(1, 1, "primary"), (2, 2, "primary")])
    attempts, verdict = history.attempts(lost.samples), outage.writes(lost)
    picture = worldmap.draw(history.places(verdict, attempts))
    assert picture.alt == "Map of the world: 2 lost; 1 doubled"
    drawn = {c.get_label(): len(c.get_offsets()) for c in picture.axes[0].collections
             if ":" in str(c.get_label())}
    assert drawn == {"lost: 2": 2, "doubled: 1": 1}
    empty = worldmap.draw(history.places(verdict, attempts).iloc[:0])
    assert "nothing is lost" in empty.alt
    assert "nothing is lost" in empty.axes[0].texts[0].get_text() and len(empty.png()) > 5000
