"""Real Pis are left as they were found, and what could not be taken off them is named."""

import re
from dataclasses import replace

import pytest

from gislab import clearance, cluster, nodes, stack, wait
from gislab.shell import Result

WHERE = "192.168.1.2:5000"
NONE = Result((), 2, "", "ls: cannot access: No such file or directory")
DARK = Result((), 255, "", "No route to host")


@pytest.fixture(autouse=True)
def real(paper, pis, monkeypatch):
    """Three real Pis from which everything goes as it is told to."""
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(clearance.registry, "address", lambda lab: WHERE)
    for words in (("sh", "-c"), ("rm",), ("docker",)):
        pis.answer(*words)
    pis.answer("docker", "info", out="inactive")
    pis.answer("ls", out=NONE)
    pis.answer("docker", "image", "ls", out="debian:trixie-slim")
    return pis


def test_whatever_the_lab_has_put_on_a_pi_is_taken_off_it(paper, real):
    real.answer("docker", "image", "ls", out=f"debian:trixie-slim\n{WHERE}/gislab/consul:arm64-1")
    told = []
    clearance.clear(paper, say=told.append)
    for words in ("docker swarm leave --force", f"docker logout {WHERE}",
                  "docker volume rm --force " + " ".join(clearance.VOLUMES),
                  f"docker rmi --force {WHERE}/gislab/consul:arm64-1",
                  f"rm -rf {stack.ON_PI} /etc/docker/certs.d/{WHERE}"):
        assert [pi for pi, _ in real.sent(*words.split())] == ["pi1", "pi2", "pi3"], words
    assert not [c for _, c in real.sent("docker", "rmi") if "debian" in c]


def test_the_volumes_are_those_of_the_stack_files():
    named = []
    for path in stack.FOLDER.glob("*.yml"):
        section = re.search(r"^volumes:.*\n((?:  .*\n|\n)+)", path.read_text(), re.MULTILINE)[1]
        named += re.findall(r"^  (\w+):", section, re.MULTILINE)
    assert sorted(clearance.VOLUMES) == sorted(f"{stack.NAME}_{name}" for name in named)


def test_what_a_fault_has_left_is_undone_before_the_stack_is_removed(paper, real):
    """A Swarm that is cut apart has no manager that answers, and would keep its stack."""
    assert clearance.clear(paper, say=lambda text: None) == []
    for remote in real:
        sent = [" ".join(command) for command in remote.commands]
        cut, paused, leave = (next(i for i, c in enumerate(sent) if mark in c) for mark in (
            "iptables -w -t raw -D PREROUTING", "docker unpause", "docker swarm leave"))
        assert max(cut, paused) < leave
        removed = [i for i, c in enumerate(sent) if c.startswith("docker stack rm")]
        assert all(max(cut, paused) < i for i in removed)
    assert len(real.sent("docker", "stack", "rm")) == 1


@pytest.mark.parametrize("words, out, said", [
    (("docker", "volume", "ls"), "mine\ngis_postgis\n", "pi2 still holds volume gis_postgis"),
    (("docker", "info"), "active", "pi2 still holds its place in the Swarm"),
    (("ls",), "/opt/gislab/stack\n", "pi2 still holds folder /opt/gislab/stack"),
    (("docker", "image", "ls"), f"{WHERE}/gislab/pgpool:arm64-1",
     f"pi2 still holds image {WHERE}/gislab/pgpool:arm64-1"),
    (("rm",), Result((), 1, "", "Read-only file system"),
     "pi2 still holds what it did not tell (Read-only file system)"),
])
def test_what_is_left_is_named_with_its_pi(paper, real, words, out, said):
    real[1].answers[words] = out
    told = []
    assert clearance.clear(paper, say=told.append) == [said]
    assert [t for t in told if t.startswith("pi")] == [
        "pi1: nothing of the lab is left", said.replace("pi2 still", "pi2: still"),
        "pi3: nothing of the lab is left"]


def test_a_silent_pi_is_named_and_the_others_are_cleared_all_the_same(paper, real):
    real[2].answers = {("true",): DARK}
    assert clearance.clear(paper, say=lambda text: None) == ["pi3 does not answer"]
    assert [pi for pi, _ in real.sent("docker", "swarm", "leave")] == ["pi1", "pi2"]


def test_down_is_no_success_while_something_is_left_on_a_real_pi(paper, real, monkeypatch):
    monkeypatch.setattr(cluster.images.engine, "ensure", lambda say: None)
    done = []
    monkeypatch.setattr(cluster.virtual, "down", lambda lab, say: done.append("this machine"))
    lab = replace(paper, kind="pi")
    real[2].answers = {("true",): DARK}
    with pytest.raises(nodes.NodeError, match="not removed: pi3 does not answer. See to it, and "
                       "run: gislab down once more"):
        cluster.down(lab, say=lambda text: None)
    assert done == ["this machine"]
    real[2].answers = dict(real[1].answers)
    cluster.down(lab, say=lambda text: None)
