"""The container engine: what is said where there is none, and what a killed one leaves."""

import os
from pathlib import Path

import pytest

from gislab import engine


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
