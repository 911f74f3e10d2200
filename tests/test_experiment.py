"""Probes and a fault on one clock, without a cluster: what is asked, kept, and healed."""

import json

import pytest

from gislab import experiment, faults, outage, probe, run, settings


class Answers:
    """A question that is always answered, except while the lab is broken."""

    timeout = 0.3

    def __init__(self, lab_is_whole, first=None):
        self.whole, self.first, self.held = lab_is_whole, first, []

    async def ask(self, number):
        if not self.whole[0]:
            raise probe.Failed("planted")
        if self.first is not None:
            self.held.append(self.row(number))
        return ""

    def row(self, number):
        return None if self.first is None else self.first + number

    async def close(self):
        pass


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A lab of one switch: `whole[0]`. Returns (lab, whole, fault, writes held)."""
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
    lab = settings.make({"map_server": "mapserver"})
    whole, writer = [True], Answers([True], first=1000)
    writer.whole = whole
    monkeypatch.setattr(probe, "vip", lambda lab, **how: probe.Probes(
        {"maps": Answers(whole), "sql_write": writer}, rate=50))
    monkeypatch.setattr(experiment, "_first_row", lambda lab: 1000)
    monkeypatch.setattr(experiment, "_rows", lambda lab, first: [(r, 1) for r in writer.held])

    def make(lab, heals_itself=False):
        def hit(lab, target):
            whole[0] = False

        def mend(lab, target):
            whole[0] = True
        return faults.Fault(lab, "power_cut", "planted fault", "#000000", (),
                            lambda lab: faults.Target("pi1", "", "the switch"), hit, mend)
    monkeypatch.setitem(faults.ALL, "power_cut", make)
    return lab, whole, make(lab), writer


QUICK = dict(before=0.5, during=0.4, after=0.3, recovery=0.3, say=lambda text: None)


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
    assert outage.writes(measured).safe and outage.writes(measured).acknowledged > 10
    assert measured.settings["kind"] == "virtual" and measured.settings["fault"] == "power_cut"
    kept = run.load(tmp_path / "run")
    assert len(kept.samples) == len(measured.samples)


def test_a_planted_loss_and_an_unknown_that_did_happen_are_told(bench, tmp_path, monkeypatch):
    lab, whole, fault, writer = bench
    monkeypatch.setattr(experiment, "_rows",
                        lambda lab, first: [(r, 1) for r in writer.held[1:]] + [(5, 1)])
    measured = experiment.measure(lab, fault, **QUICK, folder=tmp_path / "run")
    found = outage.writes(measured)
    assert found.lost == (writer.held[0],) and found.unexpected == (5,) and not found.safe


def test_an_interrupted_experiment_undoes_its_fault(bench, monkeypatch):
    lab, whole, fault, writer = bench

    def interrupted(*_):
        assert not whole[0]
        raise KeyboardInterrupt
    monkeypatch.setattr(experiment, "_recovered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        experiment.measure(lab, fault, **QUICK)
    assert whole[0] and experiment.heal(lab, say=lambda text: None) is None


def test_the_fault_of_a_killed_driver_is_healed_by_the_next_command(bench):
    lab, whole, fault, writer = bench
    fault.aim()
    experiment._remember(lab, fault)
    fault.strike()  # and here the driver was killed
    said = []
    assert experiment.heal(lab, say=said.append) == "power_cut"
    assert whole[0] and "left behind on pi1" in said[0]
    assert experiment.heal(lab, say=said.append) is None and len(said) == 1


def test_a_journal_that_was_cut_off_is_no_riddle(bench):
    lab, *_ = bench
    (lab.home / "fault.json").write_text(json.dumps({"fault": "power_cut"})[:-5])
    assert experiment.heal(lab, say=lambda text: None) is None
