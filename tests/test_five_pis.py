"""More than three Pis: everybody is a manager and a Consul server, three hold the database."""

import json
import re

import pytest
from recorded import Pis

from gislab import cuts, members, nodes, registry, settings, stack, swarm, wait
from gislab.shell import Recorded, Result

INFO = ("docker", "info", "--format", "{{.Swarm.LocalNodeState}}")


def listed(lab, drained=()):
    return "\n".join(json.dumps({
        "Hostname": m.name, "Status": "Ready", "ManagerStatus": "Reachable" if n else "Leader",
        "Availability": "Drain" if m.name in drained else "Active", "EngineVersion": "26.1.5"})
        for n, m in enumerate(lab.machines))


@pytest.fixture(params=[5, 7])
def lab(request, paper):
    return settings.make({"pis": request.param, "map_server": "mapserver"})


@pytest.fixture
def many(lab, monkeypatch):
    """As many Pis as the lab has, on a Swarm without a stack, that only remember."""
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(registry, "trust", lambda _, node: None)
    remotes = Pis(Recorded({("true",): ""}, name=m.name) for m in lab.machines)
    monkeypatch.setattr(nodes, "all", lambda lab: [
        nodes.Node(m.name, m.address, r) for m, r in zip(lab.machines, remotes, strict=True)])
    for words, out in ((("docker", "node", "ls"), listed(lab)), (("docker", "node"), ""),
                       (("docker", "secret"), ""), (("sh", "-c"), ""), (("env",), ""),
                       (("docker", "service", "inspect"), Result((), 1, "", "no such service")),
                       (("docker", "swarm"), "SWMTKN-1-secret"), (INFO, "inactive")):
        remotes.answer(*words, out=out)
    return remotes


def test_all_of_them_join_the_first_as_managers(lab, many):
    many[0].answers[INFO] = "active"
    swarm.join(lab, say=lambda text: None)
    assert [pi for pi, _ in many.sent("docker", "swarm", "join", "--advertise-addr")] == [
        m.name for m in lab.machines[1:]]
    assert len(many.sent("docker", "swarm", "join-token", "-q", "manager")) == len(many) - 1


def test_each_is_labelled_and_three_of_the_labels_hold_the_database(lab, many):
    swarm.label(lab, say=lambda text: None)
    given = {words.split()[-1]: words.split("=")[1].split()[0]
             for _, words in many.sent("docker", "node", "update")}
    assert given == {m.name: str(n) for n, m in enumerate(lab.machines, 1)}
    text = (stack.FOLDER / stack.FILE).read_text()
    wanted = re.findall(r"gislab\.postgis == (\d)", text)
    held = [pi for pi, label in given.items() if label in wanted]
    assert held == ["pi1", "pi2", "pi3"] == [members.pi(lab, m) for m in settings.MEMBERS]
    assert members.on(lab, "pi4") not in settings.MEMBERS


def test_the_stack_knows_all_of_them(lab, many):
    """Consul waits for so many servers, and Keepalived sends its adverts to so many."""
    stack.deploy(lab, say=lambda text: None)
    (_, words), = many.sent("env")
    assert f"NODES={settings.peers(lab)} " in words


def test_a_majority_stays_whatever_is_drained(lab, many):
    spare = (len(lab.machines) - 1) // 2
    away = [m.name for m in lab.machines[-spare:]]
    many.answer("docker", "node", "ls", out=listed(lab, drained=away[1:]))
    swarm._check_majority(lab, away[0])
    many.answer("docker", "node", "ls", out=listed(lab, drained=away))
    with pytest.raises(swarm.SwarmError, match="would be no majority"):
        swarm._check_majority(lab, "pi1")


def test_two_members_of_the_database_stay_whatever_is_drained(lab, many):
    """Of five Pis two may go, but not both from the three that the database is on."""
    many.answer("docker", "node", "ls", out=listed(lab, drained=["pi2"]))
    with pytest.raises(swarm.SwarmError, match="pi1 cannot be drained while pi2 .* one member of "
                       "the database would be left.*gislab activate pi2"):
        swarm._check_majority(lab, "pi1")
    swarm._check_majority(lab, "pi4")


def test_in_a_ring_no_two_hear_the_same_majority(lab):
    grudge = cuts.ring(lab)
    count = len(lab.machines)
    assert {len(dropped) for dropped in grudge.values()} == {(count - 1) // 2}
    assert len({frozenset(dropped) for dropped in grudge.values()}) == count
    assert not [name for name, dropped in grudge.items() if name in dropped]
