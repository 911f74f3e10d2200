"""The container engine: what is said where there is none, and what a killed one leaves."""

import os
from pathlib import Path

import pytest

from gislab import engine, wait
from gislab.shell import Result


def test_an_engine_that_does_not_answer_is_one_error_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(engine.EngineError, match="gislab doctor"):
        engine.client()


def test_a_named_engine_is_never_replaced_by_one_of_ours(monkeypatch, tmp_path):
    """Who says DOCKER_HOST means that engine; starting another would hide the mistake."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    monkeypatch.setattr(engine, "install", lambda *_, **__: pytest.fail("installed an engine"))
    monkeypatch.setattr(engine, "_start", lambda *_: pytest.fail("started an engine"))
    with pytest.raises(engine.EngineError, match="unset DOCKER_HOST"):
        engine.ensure()


def test_who_may_not_install_is_told_what_to_type(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(engine.EngineError, match="sudo apt-get install qemu-user-static"):
        engine.install("qemu-user-static")


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A Debian without an engine, and we are root: what is installed, and what is run, on it."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine, "_debian_like", lambda: True)
    monkeypatch.setattr(engine.shutil, "which", lambda program: None)
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(engine, "SYSTEMD", tmp_path / "system")
    monkeypatch.setattr(engine, "DATA", tmp_path / "engine")
    did, units = [], {"docker.service": 0}
    monkeypatch.setattr(engine, "install", lambda *names, say: did.append(" ".join(names)))
    monkeypatch.setattr(engine, "_start", lambda say: did.append("an engine of our own"))

    def run(self, words, **how):
        if words[:2] != ["systemctl", "cat"]:
            did.append(" ".join(words))
            return Result(tuple(words), 0, "", "")
        return Result(tuple(words), units.get(words[2], 1), "", "")
    monkeypatch.setattr(engine.Local, "run", run)

    def client():
        if did[-1:] not in (["systemctl start docker"], ["an engine of our own"]):
            raise engine.EngineError("nothing listens at its socket")
        return "the client"
    monkeypatch.setattr(engine, "client", client)
    return did, units


INSTALLED = ["docker.io", "iptables", "docker-cli"]


def test_where_systemd_runs_the_packages_own_service_is_the_engine(fresh):
    """apt has started it; a second engine would take its socket, with another data folder."""
    did, _ = fresh
    engine.SYSTEMD.mkdir()
    assert engine.ensure(say=lambda text: None) == "the client"
    assert did == [*INSTALLED, "systemctl start docker"]


@pytest.mark.parametrize("systemd", [False, True])
def test_an_engine_of_our_own_is_started_where_there_is_no_service(fresh, systemd):
    did, units = fresh
    if systemd:
        engine.SYSTEMD.mkdir()
        units.clear()
    assert engine.ensure(say=lambda text: None) == "the client"
    assert did == [*INSTALLED, "an engine of our own"]


def test_the_pid_of_a_killed_engine_is_forgotten(tmp_path):
    """Its number may belong to another program by now, which dockerd would respect for ever."""
    pidfile = tmp_path / "dockerd.pid"
    pidfile.write_text(str(os.getpid()))  # a program that runs, and is no dockerd
    engine._forget_dead(pidfile, "dockerd")
    assert not pidfile.exists()


def test_the_pid_of_a_running_engine_is_kept(tmp_path):
    pidfile = tmp_path / "dockerd.pid"
    pidfile.write_text(str(os.getpid()))
    engine._forget_dead(pidfile, Path("/proc/self/comm").read_text().strip())
    assert pidfile.exists()


def test_a_machine_runs_its_own_programs():
    assert engine.emulates(engine.native())


@pytest.mark.live
def test_the_engine_that_answers_is_taken(the_engine):
    assert the_engine.ping() and engine.client().version()["ApiVersion"] >= "1.41"
