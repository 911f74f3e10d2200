"""Pis, real or virtual, are reached in the same way, and a silent one is told by its name."""

import stat

import pytest

from gislab import nodes, settings, wait
from gislab.shell import CommandFailed, Recorded, Result, Ssh, Unreachable

REAL = settings.make({"kind": "pi", "subnet": "192.168.1.0/24", "ssh_key": "/nowhere/key",
                      "machines": [{"name": f"pi{i}", "address": f"192.168.1.1{i}", "user": "pi"}
                                   for i in (1, 2, 3)]})
INFO = ("docker", "info")


class Dark(Recorded):
    """A Pi that does not answer over SSH, and why."""

    def run(self, args, *, input=None, check=True, timeout=60):
        raise Unreachable(self.name, Result(tuple(args), 255, "", self.answers["why"]))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    clock = iter(range(0, 100_000, 20))
    monkeypatch.setattr(wait.time, "monotonic", lambda: next(clock))


def test_each_pi_of_the_settings_is_a_node_and_none_is_asked_yet(paper):
    assert [(n.name, n.address) for n in nodes.all(paper)] == [
        ("pi1", "172.30.16.11"), ("pi2", "172.30.16.12"), ("pi3", "172.30.16.13")]
    assert nodes.get(paper, "pi2").address == "172.30.16.12"
    with pytest.raises(KeyError, match="no machine 'pi4' in this lab; there are pi1, pi2, pi3"):
        nodes.get(paper, "pi4")


def test_a_virtual_lab_makes_a_key_of_its_own_once(paper):
    key = nodes.private_key(paper)
    assert key.parent == paper.home and stat.S_IMODE(key.stat().st_mode) == 0o600
    assert nodes.public_key(paper).startswith("ssh-ed25519 ")
    before = key.read_bytes()
    assert nodes.private_key(paper).read_bytes() == before


def test_a_key_of_real_pis_is_never_made_but_asked_for(paper):
    with pytest.raises(nodes.NodeError, match="/nowhere/key does not exist; make it with: "
                       "ssh-keygen -t ed25519 -f /nowhere/key"):
        nodes.all(REAL)


class Handled(Recorded):
    """A real Pi that a hand reaches when somebody says so: it falls silent, or answers again."""

    def __init__(self, *, silent):
        super().__init__({("true",): "", INFO: "26.1.5"}, name="pi2")
        self.silent, self.told = silent, []

    def run(self, args, *, input=None, check=True, timeout=60):
        if self.silent:
            raise Unreachable(self.name, Result(tuple(args), 255, "", "No route to host"))
        return super().run(args, input=input, check=check, timeout=timeout)

    def hand(self, text):
        self.told.append(text)
        self.silent = not self.silent

    def listens(self, text):
        self.told.append(text)


def real(monkeypatch, **how):
    pi = Handled(**how)
    monkeypatch.setattr(nodes, "all", lambda lab: [
        nodes.Node(m.name, m.address, pi) for m in lab.machines])
    return pi


@pytest.mark.parametrize("verb, words, silent", [
    (nodes.power_cut, "pull the power plug of pi2", False),
    (nodes.power_on, "plug the power back into pi2", True),
    (nodes.unplug, "pull the network cable of pi2", False),
    (nodes.plug, "put the network cable back into pi2", True)])
def test_what_only_a_hand_can_do_to_a_real_pi_is_asked_for_and_waited_for(
        verb, words, silent, monkeypatch):
    pi = real(monkeypatch, silent=silent)
    with pytest.raises(KeyError):
        verb(REAL, "pi7")

    def once(text):
        (pi.listens if pi.told else pi.hand)(text)
    verb(REAL, "pi2", say=once)
    assert words in pi.told[0] and pi.told[0].startswith("pi2 is a real Pi")
    assert pi.silent is not silent and len(pi.told) == 2


@pytest.mark.parametrize("verb", [nodes.power_on, nodes.plug])
def test_of_a_real_pi_that_answers_nothing_is_asked(verb, monkeypatch):
    pi = real(monkeypatch, silent=False)
    verb(REAL, "pi2", say=pi.listens)
    assert pi.told == []


@pytest.mark.parametrize("verb, silent, error, words", [
    (nodes.power_cut, False, wait.WaitTimeout, "still answers: pull the power plug"),
    (nodes.plug, True, nodes.NodeError, "put the network cable back.*then run: gislab heal")])
def test_a_hand_that_never_comes_is_not_waited_for_without_end(
        verb, silent, error, words, monkeypatch):
    pi = real(monkeypatch, silent=silent)
    with pytest.raises(error, match=words):
        verb(REAL, "pi2", say=pi.listens)


def test_answers_come_in_the_order_of_the_pis(paper, pis):
    assert nodes.each(paper, lambda node: node.name) == ["pi1", "pi2", "pi3"]


def test_a_dark_pi_is_not_among_the_living(paper, pis):
    pis[1] = Dark({"why": "No route to host"}, name="pi2")
    assert [node.name for node in nodes.alive(paper)] == ["pi1", "pi3"]


def test_no_manager_is_an_error_with_the_next_command(paper, pis):
    pis.answer("docker", "node", "ls", out=Result((), 1, "", "not a swarm manager"))
    with pytest.raises(nodes.NodeError, match="no Pi answers as a manager of the Swarm; "
                       "run: gislab up"):
        nodes.manager(paper)


@pytest.fixture
def started(pis, monkeypatch):
    monkeypatch.setattr(nodes.virtual, "up", lambda lab, key, say: None)
    monkeypatch.setattr(nodes, "public_key", lambda lab: "key")
    pis.answer(*INFO, out="26.1.5")
    return pis


def test_up_ends_when_every_engine_answers(paper, started):
    assert [node.name for node in nodes.up(paper, say=lambda text: None)] == ["pi1", "pi2", "pi3"]


def test_a_pi_that_does_not_answer_is_named_after_the_wait(paper, started):
    started[1] = Dark({"why": "ssh: connect to host 172.30.16.12 port 22: No route to host"})
    with pytest.raises(TimeoutError, match="pi2 to answer over SSH: not there after 90 s"):
        nodes.up(paper, say=lambda text: None)


@pytest.mark.parametrize("why", ["pi@172.30.16.12: Permission denied (publickey).",
                                 "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"])
def test_a_pi_that_refuses_the_key_is_not_waited_for(paper, started, why):
    started[1] = Dark({"why": why})
    with pytest.raises(nodes.NodeError, match=r"pi2 \(172.30.16.12\) does not take the lab's SSH"):
        nodes.up(paper, say=lambda text: None)


def test_a_pi_without_docker_is_told_what_to_type(paper, started):
    started[2].answers[INFO] = Result((), 127, "", "docker: command not found")
    with pytest.raises(nodes.NodeError, match="pi3 has no Docker; on that Pi: sudo apt-get "
                       "install docker.io"):
        nodes.up(paper, say=lambda text: None)


def test_an_engine_that_still_starts_is_waited_for(paper, started):
    started[0].answers[INFO] = Result((), 1, "", "Cannot connect to the Docker daemon")
    told = []

    def say(text):
        told.append(text)
        started[0].answers[INFO] = "26.1.5"
    nodes.up(paper, say=say)
    assert told == ["waiting for pi1 to answer over SSH: its Docker engine is not running yet"]


@pytest.mark.live
def test_every_pi_answers_over_ssh_with_its_own_name(lab):
    for node in nodes.all(lab):
        assert node.run(["hostname"]).out.strip() == node.name
        assert node.docker("version", "--format", "{{.Server.Version}}")


@pytest.mark.live
def test_a_key_of_another_lab_opens_no_pi(lab, paper):
    stranger = Ssh(lab.machines[0], key=nodes.private_key(paper),
                   known_hosts=paper.home / "known_hosts")
    with pytest.raises(CommandFailed, match="Permission denied"):
        stranger.run(["true"])
