"""The doctor tells what is needed, what is there and what to do, and changes nothing."""

import pytest

from gislab import doctor, engine, images, settings, virtual
from gislab.shell import CommandFailed, Result

WHAT = ["Python", "container engine", "kernel", "capabilities", "memory", "disk", "subnet",
        "programs", "ARM emulation", "Debian mirror"]


@pytest.fixture(autouse=True)
def bare(monkeypatch, paper):
    """A machine without an engine and without a network."""
    def none(timeout=0):
        raise engine.EngineError("no Docker engine answers; run: gislab doctor")

    def unreachable(url, timeout):
        raise doctor.requests.ConnectionError("no network")
    monkeypatch.setattr(engine, "client", none)
    monkeypatch.setattr(doctor.requests, "head", unreachable)


def test_every_line_says_what_is_needed_and_what_is_there(paper):
    findings = doctor.examine(paper)
    assert [f.what for f in findings] == WHAT
    assert all(f.needed and f.found for f in findings)


def test_what_is_missing_comes_with_what_to_do(paper, monkeypatch):
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    missing = {f.what: f.remedy for f in doctor.examine(paper) if not f.ok}
    assert {"container engine", "Debian mirror"} <= set(missing) and all(missing.values())


def test_an_engine_that_is_too_old_comes_with_what_to_do(paper, monkeypatch):
    """As Docker 19.03 tells its version, shortened."""
    def answers(version, api):
        return type("Client", (), {"version": lambda self: {"Version": version,
                                                            "ApiVersion": api}})
    monkeypatch.setattr(engine, "client", answers("19.03.15", "1.40"))
    old = doctor._engine(paper)
    assert not old.ok and old.found == "Docker 19.03.15"
    assert old.remedy == "apt-get install docker.io (20.10 or later)"
    monkeypatch.setattr(engine, "client", answers("20.10.0", "1.41"))
    assert doctor._engine(paper).ok and doctor._engine(paper).remedy == ""


def test_the_table_calls_things_ok_note_or_missing():
    rows = doctor.table([doctor.Finding("a", "1", "1", True),
                         doctor.Finding("b", "1", "0", True, "could be better"),
                         doctor.Finding("c", "1", "0", False, "install c")])
    assert rows.verdict.tolist() == ["ok", "note", "MISSING"]
    assert list(rows) == ["what", "needed", "found", "verdict", "to do"]


def test_missing_memory_and_disk_are_told_in_gigabytes(paper, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_PER_PI", 10_000)
    monkeypatch.setattr(doctor, "DISK", 10**7)
    memory, disk = doctor._memory(paper), doctor._disk(paper)
    assert not memory.ok and "GB are missing" in memory.remedy and "30000.0 GB" in memory.needed
    assert not disk.ok and "GB are missing: docker system prune" in disk.remedy


def test_a_lab_that_stands_has_its_memory_and_its_subnet_already(paper, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_PER_PI", 10_000)
    monkeypatch.setattr(virtual, "leftovers", lambda lab: ["container gislab-pi1"])
    paper.home.mkdir(exist_ok=True)
    assert doctor._memory(paper).ok and doctor._subnet(paper).found == "the lab's own"


def test_a_subnet_that_this_machine_uses_is_told(paper, monkeypatch):
    line = "2: eth0    inet 172.30.16.77/20 brd 172.30.31.255 scope global eth0"
    monkeypatch.setattr(virtual.Local, "run",
                        lambda self, words, **how: Result(tuple(words), 0, line, ""))
    found = doctor._subnet(paper)
    assert not found.ok and "eth0 has 172.30.16.77/20" in found.remedy
    assert 'subnet = "172.30.17.0/24"' in found.remedy


def test_who_has_every_image_needs_no_mirror(paper, monkeypatch):
    """`make lab` goes on in a train; what is not built yet still needs the network."""
    monkeypatch.setattr(images, "lacking", lambda lab: [])
    found = doctor._packages(paper)
    assert found.ok and found.found == "not reachable, every image is at hand"
    monkeypatch.setattr(images, "lacking", lambda lab: ["pgpool"])
    assert not doctor._packages(paper).ok


def test_missing_programs_are_named_and_do_not_stop_the_doctor(paper, monkeypatch, tmp_path):
    def absent(self, words, **how):
        raise CommandFailed("this machine", Result(tuple(words), 127, "", "not installed"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(virtual.Local, "run", absent)
    found = {f.what: f for f in doctor.examine(paper)}
    assert not found["programs"].ok and "ssh-keygen" in found["programs"].found
    assert "apt-get install openssh-client" in found["programs"].remedy


def test_real_pis_need_little_of_the_laptop():
    real = settings.make({"kind": "pi", "ssh_key": "k", "machines": [
        {"name": f"pi{i}", "address": f"172.30.16.1{i}"} for i in (1, 2, 3)]})
    assert doctor._memory(real).needed == "2.0 GB free" and doctor._subnet(real).ok


@pytest.mark.live
def test_a_machine_on_which_the_lab_stands_lacks_nothing(lab, monkeypatch):
    monkeypatch.undo()
    wrong = [f for f in doctor.examine(lab) if not f.ok]
    assert wrong == []
