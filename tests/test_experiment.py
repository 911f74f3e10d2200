"""Probes and a fault on one clock, without a cluster: what is asked, kept, and healed."""

import asyncio
import dataclasses
import json
import os
import threading

import pandas as pd
import pytest

from gislab import (
    cluster,
    experiment,
    faults,
    history,
    journal,
    outage,
    postgis,
    probe,
    reads,
    run,
    settings,
)
from gislab.wait import NotYet, WaitTimeout


class Answers:
    """A question that is always answered, except while the lab is broken."""

    timeout = 0.3

    def __init__(self, lab_is_whole, first=None):
        self.whole, self.first, self.held = lab_is_whole, first, []

    async def ask(self, number):
        if not self.whole[0]:
            raise probe.Failed("planted")
        if self.first is not None and number >= 0:
            self.held.append(self.row(number))
        return ""

    def row(self, number):
        return None if self.first is None else self.first + number

    async def close(self):
        pass


@pytest.fixture
def bench(tmp_path, monkeypatch, pis):
    """A lab of one switch: `whole[0]`. Returns (lab, whole, fault, writes held)."""
    pis.answer("perl", out="1.00\tvip\t\there\n")
    pis.answer("sh", "-c", out="r:5000/gislab/haproxy:a sha256:1111")
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    lab = settings.make({"map_server": "mapserver"})
    whole = [True]
    writer = Answers(whole, first=1000)
    monkeypatch.setattr(probe, "vip", lambda lab, *, warm, **how: probe.Probes(
        {"maps": Answers(whole), "sql_write": writer}, rate=50, warm=warm))
    monkeypatch.setattr(experiment, "first_row", lambda lab: 1000)
    monkeypatch.setattr(experiment, "final_reads", lambda lab, first, end: history.reads(
        {reader: dict.fromkeys(writer.held, 1) for reader in READERS}))

    def make(lab, heals_itself=False):
        def hit(lab, target):
            whole[0] = False

        def mend(lab, target):
            whole[0] = True
        return faults.Fault(lab, "power_cut", "planted fault", "#000000", (),
                            lambda lab: faults.Target("pi1", "", "the switch"), hit, mend)
    monkeypatch.setitem(faults.ALL, "power_cut", make)
    return lab, whole, make(lab), writer


READERS = ("primary postgis1", "replica postgis2", "replica postgis3")
QUICK = dict(before=0.5, during=0.4, after=0.3, recovery=0.3, say=lambda text: None)


class Hangs(Answers):
    """One question is never answered; those before and after it are, at once."""

    timeout = 1.5

    async def ask(self, number):
        if number == 10:
            await asyncio.sleep(self.timeout)
            raise probe.Failed("no answer in time")
        return ""


def waited_for_the_one_that_hangs(lane, calm: float) -> float:
    """Return how long after it was sent the lane is called recovered, seconds."""
    noted = []
    with probe.Probes({"maps": lane([True])}, rate=50) as probes:
        probes.watch(calm)
        experiment.recovered(probes, 10, lambda *event: noted.append(event), steady=0.3)
        over = probes.now()
    bad = probes.samples().query("outcome != 'ok'")
    assert len(bad) == 1 and not noted
    return over - bad["sent"].iloc[0]


def test_nothing_has_recovered_before_what_was_asked_is_answered():
    """The rest succeeds; the fault would be undone, and the failure counted as its lasting end."""
    assert 1.4 < waited_for_the_one_that_hangs(Hangs, 0.4) < 2.5


class Late(Hangs):
    """While one late answer is waited for, another question begins to hang."""

    async def ask(self, number):
        if number == 20:
            await asyncio.sleep(0.4)
        return await super().ask(number - 20)  # the 30th hangs


def test_what_begins_to_hang_while_an_answer_is_waited_for_is_seen_too():
    assert waited_for_the_one_that_hangs(Late, 0.5) > Late.timeout


def test_an_experiment_keeps_samples_events_and_rows_on_one_clock(bench, tmp_path):
    lab, whole, fault, writer = bench
    measured = experiment.measure(lab, fault, **QUICK, folder=tmp_path / "run")
    kinds = measured.events["kind"].tolist()
    assert kinds[:3] == ["strike", "struck", "not recovered"] and "undone" in kinds
    assert measured.events["t"].is_monotonic_increasing
    strike, undone = measured.at("strike"), measured.at("undone")
    bad = measured.samples[measured.samples["outcome"] != "ok"]
    assert len(bad) and bad["sent"].between(strike - 0.05, undone + 0.05).all()
    o = outage.of(measured, "maps")
    assert o.recovered and 0.4 < o.outage < 2 + (undone - strike)
    assert outage.writes(measured).readers == READERS
    assert outage.writes(measured).safe and outage.writes(measured).acknowledged > 10
    assert measured.settings["kind"] == "virtual" and measured.settings["fault"] == "power_cut"
    kept = run.load(tmp_path / "run")
    assert len(kept.samples) == len(measured.samples)
    assert kept.settings["images"] == {"haproxy": "a@sha256:1111"}
    assert set(kept.system["node"]) == {"pi1", "pi2", "pi3"}
    assert kept.system["t"].between(0, kept.samples["sent"].max() + 1).all()
    assert 0 <= kept.settings["lateness"]["median"] < 1
    assert kept.settings["recovery"] == 0.3 and kept.settings["lanes"] == list(probe.LANES)


def test_a_lab_that_is_slow_to_begin_with_is_measured_once_it_answers_steadily(
        bench, tmp_path):
    """Else its first failures would be those of the fault, which had not struck yet."""
    lab, whole, fault, writer = bench
    whole[0] = False
    threading.Timer(1.0, lambda: whole.__setitem__(0, True)).start()
    measured = experiment.measure(lab, fault, **QUICK, folder=tmp_path / "run")
    before = measured.samples[measured.samples["sent"] < measured.at("strike") - 0.05]
    assert len(before) > 20 and set(before["outcome"]) == {"ok"}
    assert outage.writes(measured).safe, "what was written to be warm is no row of the run"


def test_nothing_is_broken_in_a_lab_that_does_not_answer(bench, monkeypatch):
    lab, whole, fault, writer = bench
    whole[0] = False
    fault.hit = lambda lab, target: pytest.fail("it was struck")
    monkeypatch.setattr(probe, "WARM", 0.5)
    with pytest.raises(WaitTimeout, match="maps, sql_write.*before it is measured; see: gislab"):
        experiment.measure(lab, fault, **QUICK)


def test_a_planted_loss_and_an_unknown_that_did_happen_are_told(bench, tmp_path, monkeypatch):
    lab, whole, fault, writer = bench
    monkeypatch.setattr(experiment, "final_reads", lambda lab, first, end: history.reads(
        {"primary postgis1": dict.fromkeys(writer.held[1:], 1) | {5: 1}}))
    measured = experiment.measure(lab, fault, **QUICK, folder=tmp_path / "run")
    found = outage.writes(measured)
    assert found.lost == (writer.held[0],) and found.unexpected == (5,) and not found.safe


def test_rows_that_nobody_can_read_are_an_error_and_the_samples_are_kept(
        bench, tmp_path, monkeypatch):
    lab, *_, fault, _ = bench

    def silent(lab, first, end):
        raise WaitTimeout("every member to tell its rows: not there after 60 s (postgis3 behind)")
    monkeypatch.setattr(experiment, "final_reads", silent)
    with pytest.raises(experiment.ExperimentError, match="postgis3 behind.*cannot be told"):
        experiment.measure(lab, fault, **QUICK, folder=tmp_path / "run")
    kept = run.load(tmp_path / "run")
    assert len(kept.samples) and not outage.writes(kept).safe


@pytest.fixture
def members(paper, monkeypatch):
    """Three members with what each answers; nothing is under way, all have replayed."""
    answers = {"postgis1": "7|1\n8|2", "postgis2": "7|1\n8|2", "postgis3": ""}
    monkeypatch.setattr(reads, "_quiet", lambda lab: None)
    monkeypatch.setattr(postgis, "replayed", lambda lab: None)
    monkeypatch.setattr(postgis, "primary", lambda lab: "postgis2")
    monkeypatch.setattr(postgis, "each", lambda lab, query: pd.DataFrame(
        [(m, "pi1", answer) for m, answer in answers.items()],
        columns=["member", "node", "answer"]))
    return answers


def test_every_member_is_read_and_an_empty_one_is_a_reader_too(members, paper):
    found = experiment.final_reads(paper, 0, 10, timeout=0)
    assert found == [(None, 0, "replica postgis1"), (7, 1, "replica postgis1"),
                     (8, 2, "replica postgis1"), (None, 0, "primary postgis2"),
                     (7, 1, "primary postgis2"), (8, 2, "primary postgis2"),
                     (None, 0, "replica postgis3")]


@pytest.mark.parametrize("answer", ["psql: error: connection refused", None])
def test_a_member_that_does_not_tell_its_rows_is_waited_for_and_named(members, paper, answer):
    if answer is None:
        del members["postgis3"]
    else:
        members["postgis3"] = answer
    with pytest.raises(WaitTimeout, match="connection refused|2 of 3 members"):
        experiment.final_reads(paper, 0, 10, timeout=0)


def test_the_rows_are_not_read_while_a_write_is_under_way(members, paper, monkeypatch):
    def busy(lab):
        raise NotYet("1 writes are under way")
    monkeypatch.setattr(reads, "_quiet", busy)
    with pytest.raises(WaitTimeout, match="under way"):
        experiment.final_reads(paper, 0, 10, timeout=0)


def test_the_table_of_writes_can_hold_doubles():
    """A unique number would turn a write that was sent twice into an error that nobody sees."""
    columns = experiment.TABLE.split(";")[0]
    assert "primary key" not in columns and "unique" not in experiment.TABLE


def test_an_interrupted_experiment_undoes_its_fault(bench, monkeypatch):
    lab, whole, fault, writer = bench

    def interrupted(*_):
        assert not whole[0]
        raise KeyboardInterrupt
    monkeypatch.setattr(experiment, "recovered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiment.measure(lab, fault, **QUICK)
    assert whole[0] and experiment.heal(lab, say=lambda text: None) is None


def test_the_fault_of_a_killed_driver_is_healed_by_the_next_command(bench):
    lab, whole, fault, writer = bench
    fault.aim()
    fault.remember()
    fault.strike()  # and here the driver was killed
    said = []
    assert experiment.heal(lab, say=said.append) == "power_cut"
    assert whole[0] and "left behind on pi1" in said[0]
    assert experiment.heal(lab, say=said.append) is None and len(said) == 1


@pytest.mark.parametrize("name", ["pi_power_cut", "unplugged"])
def test_the_journal_of_a_real_pi_that_somebody_gave_back_is_closed(
        monkeypatch, tmp_path, pis, name):
    """Nobody is asked for what is done already, and the lab's commands work again."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    lab = settings.make({"kind": "pi", "subnet": "192.168.1.0/24", "map_server": "mapserver",
                         "ssh_key": "/nowhere/key", "machines": [
                             {"name": f"pi{i}", "address": f"192.168.1.1{i}"} for i in (1, 2, 3)]})
    pis.answer("docker", "info", out="26.1.5")
    fault = faults.named(lab, name)
    fault.target = faults.Target("pi2", "", "pi2")
    fault.remember()
    assert experiment.heal(lab, say=lambda text: None) == name
    assert experiment.heal(lab, say=lambda text: None) is None


STEPS = ("remembered", "striking", "struck", "in the block", "undoing", "undone")


@pytest.mark.parametrize("step", STEPS)
def test_a_driver_that_is_killed_at_any_step_of_a_fault_leaves_a_lab_that_heals(
        bench, tmp_path, monkeypatch, step):
    """Killed as by SIGKILL: no `finally` runs in it. What it broke is a file in its place."""
    lab, whole, fault, writer = bench
    switch = tmp_path / "broken"

    def die(here):
        if here == step and os.getpid() != parent:
            os._exit(9)

    def hit(lab, target):
        die("striking")
        switch.touch()
        die("struck")

    def mend(lab, target):
        die("undoing")
        switch.unlink(missing_ok=True)
        die("undone")

    def planted(lab):
        return dataclasses.replace(fault, hit=hit, mend=mend, target=None)
    monkeypatch.setitem(faults.ALL, "power_cut", planted)
    parent = os.getpid()
    driver = os.fork()
    if not driver:
        note = {"strike": "remembered", "struck": "in the block"}
        with experiment.broken(lab, planted(lab), lambda kind, what: die(note.get(kind)),
                               say=lambda text: None):
            pass
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(driver, 0)[1]) == 9
    assert switch.exists() is (step in ("struck", "in the block", "undoing"))
    assert experiment.heal(lab, say=lambda text: None) == "power_cut"
    assert not switch.exists() and experiment.heal(lab, say=lambda text: None) is None


def test_a_fault_whose_driver_lives_is_left_to_it(bench):
    """`gislab status` in a second shell must not mend what the first one measures."""
    lab, whole, fault, writer = bench
    said = []
    with experiment.broken(lab, fault, lambda *_: None, say=lambda text: None):
        assert experiment.heal(lab, say=said.append) is None and not whole[0]
        assert (lab.home / "fault.json").exists() and "an experiment is at work" in said[0]
    assert whole[0] and experiment.heal(lab, say=said.append) is None and len(said) == 1


def test_a_second_experiment_strikes_nothing_while_the_first_is_at_work(bench, tmp_path):
    lab, whole, fault, writer = bench
    other = faults.named(lab, "power_cut")
    other.find = lambda lab: pytest.fail("it was aimed, which may move the primary")
    with experiment.broken(lab, fault, lambda *_: None, say=lambda text: None):
        with pytest.raises(experiment.AtWork, match="wait for its end, or stop it"):
            experiment.measure(lab, other, **QUICK)
        with pytest.raises(experiment.AtWork), experiment.broken(lab, other, lambda *_: None):
            pytest.fail("it was struck")
    experiment.alone(lab)


def test_a_fault_that_its_driver_undid_meanwhile_is_not_undone_again(bench, monkeypatch):
    lab, whole, fault, writer = bench
    fault.remember()
    claimed = journal.claimed

    def late(lab):
        journal.forget(lab)
        return claimed(lab)
    monkeypatch.setattr(journal, "claimed", late)
    assert experiment.heal(lab, say=lambda text: pytest.fail(text)) is None


def test_a_journal_that_was_cut_off_is_no_riddle(bench):
    lab, *_ = bench
    (lab.home / "fault.json").write_text(json.dumps({"fault": "power_cut"})[:-5])
    assert experiment.heal(lab, say=lambda text: None) is None


@pytest.fixture
def standing(bench, monkeypatch):
    """The lab of one switch, whole whenever it is asked; `ready` counts how often it was."""
    lab, *_ = bench
    ready = []
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: ready.append(how))
    return lab, ready


def test_trials_begin_in_a_lab_that_is_whole_before_and_after_it_has_settled(standing, tmp_path):
    lab, ready = standing
    said = []
    runs = experiment.repeat(lab, "power_cut", 2, settle=0.1, folder=tmp_path / "series",
                             **{**QUICK, "before": 0.2, "say": said.append})
    assert [r.settings["trial"] for r in runs] == [1, 2] and len(ready) == 4
    moments = {r.settings["before"] for r in runs}
    assert len(moments) == 2 and all(0.2 <= m < 1.2 for m in moments)
    assert {r.settings["seed"] for r in runs} == {1}
    assert [len(r.samples) for r in run.load_all(tmp_path / "series")] == [
        len(r.samples) for r in runs]
    assert "2 of 2 trials are kept in" in said[-1]


def test_an_interrupted_series_keeps_its_trials_and_goes_on_from_there(
        standing, tmp_path, monkeypatch):
    lab, _ = standing
    measure, said, measured = experiment.measure, [], []

    def once(*words, folder, **how):
        measured.append(folder.name)
        if measured == ["001", "002"]:
            raise KeyboardInterrupt
        return measure(*words, folder=folder, **how)
    monkeypatch.setattr(experiment, "measure", once)
    how = {**QUICK, "before": 0.1, "say": said.append, "folder": tmp_path / "series"}
    with pytest.raises(KeyboardInterrupt):
        experiment.repeat(lab, "power_cut", 2, settle=0.1, **how)
    assert "1 of 2 trials are kept in" in said[-1] and "it goes on from there" in said[-1]
    runs = experiment.repeat(lab, "power_cut", 2, settle=0.1, **how)
    assert measured == ["001", "002", "002"] and len(runs) == 2


def test_a_trial_whose_rows_cannot_be_read_is_a_result_and_not_the_end(
        standing, tmp_path, monkeypatch):
    lab, _ = standing

    def silent(lab, first, end):
        raise WaitTimeout("every member to tell its rows: not there")
    monkeypatch.setattr(experiment, "final_reads", silent)
    runs = experiment.repeat(lab, "power_cut", 2, settle=0.1, folder=tmp_path / "series",
                             **{**QUICK, "before": 0.1})
    assert len(runs) == 2
    assert outage.writes_table(runs)["lost"].tolist() == ["not known"] * 2


def test_trials_of_another_fault_are_not_mixed_in(standing, tmp_path):
    lab, _ = standing
    run.make([], settings={"fault": "unplugged"}).save(tmp_path / "series" / "001")
    with pytest.raises(experiment.ExperimentError, match="is a run of unplugged"):
        experiment.repeat(lab, "power_cut", 1, folder=tmp_path / "series", say=lambda text: None)


def test_trials_that_were_measured_otherwise_are_not_mixed_in(standing, tmp_path):
    lab, _ = standing
    how = {**QUICK, "before": 0.1, "settle": 0.1, "folder": tmp_path / "series"}
    experiment.repeat(lab, "power_cut", 1, **how)
    with pytest.raises(experiment.ExperimentError, match="002 was not .* other rate; take"):
        experiment.repeat(lab, "power_cut", 2, **how, rate=20)


def test_what_leaves_open_which_pi_it_strikes_strikes_each_in_its_turn(
        standing, tmp_path, monkeypatch):
    lab, _ = standing
    planted, picks = faults.ALL["power_cut"], []

    def any_pi(lab, pick=0):
        picks.append(pick)
        return dataclasses.replace(planted(lab), name="pi_power_cut")
    monkeypatch.setitem(faults.ALL, "pi_power_cut", any_pi)
    experiment.repeat(lab, "pi_power_cut", 2, settle=0.1, folder=tmp_path / "series",
                      **{**QUICK, "before": 0.1})
    assert picks[1:] == [0, 1], "the first was only asked for its name"
