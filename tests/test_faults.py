"""Each fault breaks exactly what its name says, and is undone even when it is interrupted."""

import pandas as pd
import pytest

from gislab import cluster, faults, nodes, postgis, settings, stack, vip
from gislab.shell import Recorded

LAB = settings.make({"map_server": "mapserver"})
VIP_LINE = f"2: eth0    inet {LAB.vip}/32 scope global eth0\n"


@pytest.fixture
def pis(monkeypatch):
    """Three recorded Pis: pi1 holds the VIP, postgis1 is primary, every service on every Pi."""
    remotes = {}
    for i in (1, 2, 3):
        answers = {
            ("ip", "-o"): VIP_LINE if i == 1 else "",
            ("docker", "kill"): "", ("docker", "exec"): "",
            ("docker", "stack", "services"): "\n".join(
                f'{{"Name": "gis_{s}", "Replicas": "3/3 (max 2 per node)"}}'
                for s in ("mapserver", "haproxy", "keepalived")),
            ("docker", "node", "ls"): "x",
        }
        for service in ("mapserver", "haproxy", "keepalived", f"postgis{i}"):
            answers["docker", "ps", "-q", "--no-trunc", "--filter",
                    f"label=com.docker.swarm.service.name=gis_{service}"] = f"{service}-on-pi{i}"
        answers["docker", "ps"] = ""
        remotes[f"pi{i}"] = Recorded(answers, name=f"pi{i}")
    monkeypatch.setattr(nodes, "all", lambda lab: [
        nodes.Node(m.name, m.address, remotes[m.name]) for m in lab.machines])
    monkeypatch.setattr(postgis, "primary", lambda lab: "postgis1")
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    return remotes


@pytest.fixture
def power(monkeypatch):
    """The verbs of power and cable, written down instead of done."""
    done = []
    for verb in ("power_cut", "power_on", "unplug", "plug"):
        monkeypatch.setattr(nodes, verb, lambda lab, name, verb=verb: done.append((verb, name)))
    return done


def kills(pis):
    return [(name, c[-1]) for name, remote in pis.items() for c in remote.commands
            if c[:2] == ("docker", "kill")]


@pytest.mark.parametrize("name, victim", [
    ("map_server_killed", ("pi1", "mapserver-on-pi1")),
    ("haproxy_killed", ("pi1", "haproxy-on-pi1")),
    ("keepalived_killed", ("pi1", "keepalived-on-pi1")),
    ("primary_container_killed", ("pi1", "postgis1-on-pi1"))])
def test_a_killed_container_is_the_one_and_only_victim(pis, name, victim):
    with faults.named(LAB, name) as fault:
        assert kills(pis) == [victim]
        assert fault.target.node == victim[0]
    assert kills(pis) == [victim]


def test_the_victim_is_on_the_pi_that_holds_the_vip_now(pis):
    pis["pi1"].answers["ip", "-o"], pis["pi3"].answers["ip", "-o"] = "", VIP_LINE
    assert vip.holder(LAB) == "pi3"
    with faults.haproxy_killed(LAB):
        assert kills(pis) == [("pi3", "haproxy-on-pi3")]


def test_the_postmaster_alone_is_killed_and_patroni_lives(pis):
    with faults.primary_killed(LAB):
        pass
    [command] = [c for c in pis["pi1"].commands if c[:2] == ("docker", "exec")]
    assert "kill -9 $(head" in command[-1] and "postmaster.pid" in command[-1]
    assert kills(pis) == []


@pytest.mark.parametrize("name, broken, mended", [
    ("power_cut", "power_cut", "power_on"), ("unplugged", "unplug", "plug")])
def test_the_pi_with_vip_and_primary_is_taken_and_given_back(pis, power, name, broken, mended):
    with faults.named(LAB, name):
        assert power == [(broken, "pi1")]
    assert power == [(broken, "pi1"), (mended, "pi1")]


def test_a_primary_elsewhere_is_first_moved_to_the_holder_of_the_vip(pis, power, monkeypatch):
    now, moved = ["postgis2"], []
    monkeypatch.setattr(postgis, "primary", lambda lab: now[0])
    monkeypatch.setattr(postgis, "members", lambda lab: pd.DataFrame(
        {"member": ["postgis1", "postgis2"], "node": ["pi1", "pi2"]}))

    def switchover(lab, to, say):
        moved.append(to)
        now[0] = to
    monkeypatch.setattr(postgis, "switchover", switchover)
    assert faults.power_cut(LAB).aim().node == "pi1"
    assert moved == ["postgis1"] and power == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_a_fault_is_undone_when_the_cell_is_interrupted(pis, power, interrupt):
    with pytest.raises(interrupt), faults.power_cut(LAB):
        raise interrupt
    assert power == [("power_cut", "pi1"), ("power_on", "pi1")]


def test_a_fault_that_was_interrupted_while_breaking_is_undone_too(pis, power, monkeypatch):
    def cut(lab, name):
        power.append(("power_cut", name))
        raise KeyboardInterrupt
    monkeypatch.setattr(nodes, "power_cut", cut)
    with pytest.raises(KeyboardInterrupt), faults.power_cut(LAB):
        pass
    assert power[-1] == ("power_on", "pi1")


def test_undoing_twice_or_before_anything_broke_does_no_harm(pis, power):
    fault = faults.power_cut(LAB)
    fault.undo()
    assert power == []
    fault.aim()
    fault.undo()
    fault.undo()
    assert power == [("power_on", "pi1")] * 2


def test_nobody_with_the_vip_is_an_error_with_a_remedy(pis):
    pis["pi1"].answers["ip", "-o"] = ""
    with pytest.raises(faults.FaultError, match="no Pi holds the VIP.*gislab status"):
        faults.haproxy_killed(LAB).aim()


def test_an_unknown_fault_is_answered_with_the_names_there_are():
    with pytest.raises(faults.FaultError, match="power_cut"):
        faults.named(LAB, "earthquake")


def test_every_fault_has_a_colour_of_its_own():
    made = [make(LAB) for make in faults.ALL.values()]
    assert len({f.colour for f in made}) == len(made)
    assert [f.name for f in made] == list(faults.ALL) and stack.NAME == "gis"
