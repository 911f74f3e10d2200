"""Bad days: Ctrl-C in the middle, a half-built lab, a Pi that is dark. Nothing is lost."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from gislab import cluster, cuts, experiment, nodes, postgis, settings, virtual
from gislab.wait import NotYet, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(900, func_only=True)]


class Running:
    """A command of ours in a process of its own, whose words are read as they come."""

    def __init__(self, *words: str, lab_file=None):
        environment = {**os.environ, "GISLAB_LAB": str(lab_file or ""), "PYTHONUNBUFFERED": "1"}
        # a group of its own, as a shell gives it: Ctrl-C reaches its children, and not us
        self.process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=environment, start_new_session=True,
            # what a shell starts in the background does not hear Ctrl-C, nor do its children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said.append(line.rstrip())

    def says(self, words: str) -> None:
        """Wait until a line with `words` came; an AssertionError if it ended without."""
        def ask() -> None:
            if any(words in line for line in self.said):
                return
            assert self.process.poll() is None, "\n".join(self.said)
            raise NotYet(self.said[-1] if self.said else "nothing said yet")
        until(ask, what=f"the words {words!r}", timeout=240, every=0.1, progress=None)

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Wait for its end; return the exit code."""
        code = self.process.wait(timeout=300)
        self._reader.join(timeout=5)
        return code


@pytest.fixture
def torn(tmp_path, own_lab, lab_facts):
    """A lab of which nothing stands yet: the one that all live tests use from then on.

    If that one stands already, from --keep-lab, it is a small one, removed at the end.
    """
    facts = lab_facts
    if spare := bool(virtual.leftovers(own_lab)):
        facts = {"name": "gislab-torn", "subnet": "172.30.98.0/24", "map_server": "mapserver"}
    file = tmp_path / "lab.toml"
    file.write_text("".join(f'{key} = "{value}"\n' for key, value in facts.items()))
    made = settings.read(file)
    yield file, made
    if spare:
        cluster.down(made)
        assert virtual.leftovers(made) == []


def test_up_is_stopped_at_every_stage_and_goes_on_from_there(torn, lab_facts, request):
    """Ctrl-C leaves no riddle: each time one plain line; the same command finishes the rest."""
    file, made = torn
    for stage in ("pi2: made", "registry: has", "joined as manager", "stack gis: deployed"):
        up = Running("-m", "gislab.cli", "up", lab_file=file)
        up.says(stage)
        up.ctrl_c()
        assert up.end() == 130, "\n".join(up.said)
        assert up.said[-1].startswith("stopped; nothing is lost"), "\n".join(up.said)
        assert not any("Traceback" in line for line in up.said), "\n".join(up.said)
    last = Running("-m", "gislab.cli", "up", lab_file=file)
    assert last.end() == 0, "\n".join(last.said)
    assert "everything answers" in last.said[-1]
    cluster.ready(made, timeout=10)
    if made.name == lab_facts["name"]:
        request.getfixturevalue("lab")  # which removes it in the end


MEASURE = """
import sys
from gislab import experiment, settings
lab = settings.make({lab!r})
experiment.measure(lab, {fault!r}, before=1, during=60, folder=sys.argv[1])
"""


def dark(lab) -> list[str]:
    return [name for name, state in virtual.power(lab).items() if state != "running"]


def in_the_fault(lab, tmp_path, fault: str, broken) -> Running:
    """Start an experiment; return when its fault has really been made."""
    facts = {"name": lab.name, "subnet": lab.subnet}
    run = Running("-c", MEASURE.format(lab=facts, fault=fault), str(tmp_path / "run"))

    def ask() -> None:
        assert run.process.poll() is None, "\n".join(run.said)
        if not broken():
            raise NotYet("all is whole still")
    until(ask, what=f"the fault {fault}", timeout=120, every=0.2, progress=None)
    return run


def interrupted_in_the_fault(lab, tmp_path) -> Running:
    run = in_the_fault(lab, tmp_path, "power_cut", lambda: dark(lab))
    run.ctrl_c()
    return run


def test_a_killed_driver_leaves_its_fault_to_the_next_command(whole, tmp_path):
    """SIGKILL, as the kernel of a notebook may get it: nothing of it can undo anything."""
    def broken() -> int:
        return sum(cuts.cuts(whole).values())
    run = in_the_fault(whole, tmp_path, "link_cut", broken)
    os.killpg(run.process.pid, signal.SIGKILL)
    assert run.end() == -signal.SIGKILL and broken(), "it was undone by a dead program"
    assert experiment.heal(whole) == "link_cut"
    assert not broken() and experiment.heal(whole) is None
    cluster.ready(whole, timeout=10)


def test_ctrl_c_in_an_experiment_gives_the_pi_its_power_back(whole, tmp_path):
    run = interrupted_in_the_fault(whole, tmp_path)
    assert run.end() != 0
    assert any("undoing it" in line for line in run.said), "\n".join(run.said)
    assert dark(whole) == []
    assert experiment.heal(whole) is None, "the journal still names a fault that was undone"
    cluster.ready(whole, timeout=10)


def test_a_second_ctrl_c_stops_the_undoing_and_the_next_command_heals(whole, tmp_path):
    run = interrupted_in_the_fault(whole, tmp_path)
    run.says("undoing it")
    run.ctrl_c()
    assert run.end() != 0
    status = Running("-c", f"from gislab import experiment, settings; print(experiment.heal("
                           f"settings.make({{'name': {whole.name!r}, 'subnet': "
                           f"{whole.subnet!r}}})))")
    assert status.end() == 0 and "power_cut" in status.said[-1], "\n".join(status.said)
    assert dark(whole) == []
    cluster.ready(whole, timeout=10)


def test_up_gives_power_to_a_pi_that_lost_it_and_the_data_is_there(whole):
    """What a user does who finds a Pi dark: types the same command again."""
    with postgis.connect(whole, port=whole.ports.primary) as connection:
        connection.execute("create table if not exists lab.bad_day (id integer)")
        connection.execute("insert into lab.bad_day values (1)")
        rows = connection.execute("select count(*) from lab.bad_day").fetchone()
    nodes.power_cut(whole, "pi2")
    said: list[str] = []
    cluster.up(whole, say=said.append)
    assert "pi2: power is on again" in said, "\n".join(said)
    with postgis.connect(whole, port=whole.ports.primary) as connection:
        assert connection.execute("select count(*) from lab.bad_day").fetchone() == rows
