"""The verbs of a shell: each does one thing, and says in one line what is wrong."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import invented
import pandas as pd
import psycopg
import pytest

from gislab import cli, doctor, nodes, report, settings
from gislab.shell import Result
from gislab.wait import WaitTimeout

VERBS = ("doctor", "up", "status", "down", "images", "publish", "catalog", "rollback",
         "seed", "refresh", "scale", "drain", "activate", "heal", "power-cut", "power-on",
         "unplug", "plug", "notebooks", "experiment", "show", "switchover", "rolling-restart")
REAL = """
kind = "pi"
subnet = "192.168.1.0/24"
ssh_key = "/nowhere/key"
machines = [{name = "pi1", address = "192.168.1.11"}, {name = "pi2", address = "192.168.1.12"},
            {name = "pi3", address = "192.168.1.13"}]
"""


@pytest.fixture(autouse=True)
def home(paper, tmp_path, monkeypatch):
    monkeypatch.delenv("GISLAB_LAB", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def real(tmp_path):
    (tmp_path / "real.toml").write_text(REAL)
    return ["--lab", str(tmp_path / "real.toml")]


def wide(monkeypatch) -> None:
    monkeypatch.setattr(cli.CONSOLE, "width", 200, raising=False)


def one_line(capsys) -> str:
    """Return the one line that was said about a mistake."""
    said = capsys.readouterr().err.strip()
    assert said.startswith("gislab: ") and "Traceback" not in said and "\n" not in said
    return said


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    words = capsys.readouterr().out.split("positional arguments")[1].split()
    assert ended.value.code == 0 and set(VERBS) <= set(words)


def test_every_verb_has_a_help_of_its_own(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, "--help"])
        assert ended.value.code == 0 and capsys.readouterr().out


def test_without_a_verb_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert ended.value.code == 2 and "usage: gislab" in capsys.readouterr().err


def test_a_wrong_setting_is_one_line_and_an_exit_code(tmp_path, capsys):
    (tmp_path / "lab.toml").write_text('vip = "10.0.0.1"\n')
    assert cli.main(["status"]) == 1
    assert "lab.toml: vip = '10.0.0.1': is outside the subnet" in one_line(capsys)


def test_a_settings_file_that_is_not_there_is_one_line(home, capsys):
    assert cli.main(["--lab", "gone.toml", "up"]) == 1
    assert f"'{home}/gone.toml': cannot be read (No such file or directory)" in one_line(capsys)


def test_a_pi_that_is_not_there_is_answered_with_those_that_are(capsys):
    assert cli.main(["power-cut", "pi9"]) == 1
    assert one_line(capsys) == ("gislab: no machine 'pi9' in this lab; there are pi1, pi2, pi3")


def test_the_power_of_a_real_pi_is_cut_by_hand(real, capsys, monkeypatch):
    answers = iter([True, False])
    monkeypatch.setattr(cli.nodes, "get", lambda lab, name: nodes.Node(name, "", None))
    monkeypatch.setattr(nodes.Node, "answers", lambda node: next(answers))
    assert cli.main([*real, "power-cut", "pi1"]) == 0
    assert "pi1 is a real Pi: pull the power plug of pi1 now" in capsys.readouterr().out
    assert next(answers, "asked until it was silent") == "asked until it was silent"


@pytest.mark.parametrize("words, where", [
    (["notebooks"], {"lab.toml": ""}), (["notebooks"], {"class.toml": "class.toml"}),
    (["--lab", "class.toml", "notebooks"], {"class.toml": ""})])
def test_the_notebooks_mean_the_same_files_as_the_command(tmp_path, monkeypatch, words, where):
    """They run in a folder of their own, where a relative path leads elsewhere."""
    (name, given), = where.items()
    (tmp_path / name).write_text('name = "classroom"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GISLAB_LAB", given)
    monkeypatch.setenv("GISLAB_HOME", "home")
    monkeypatch.setenv("GISLAB_GEOSERVER_WAR", "geoserver.war")
    told = []

    def write(lab, **how):
        told.append((lab.name, *map(os.environ.get, (
            "GISLAB_LAB", "GISLAB_HOME", "GISLAB_GEOSERVER_WAR"))))
    monkeypatch.setattr(report, "write", write)
    cli.main(words)
    assert told == [("classroom", *(str(tmp_path / file) for file in (
        name, "home", "geoserver.war")))]


def test_a_catalog_that_cannot_be_read_is_one_line(tmp_path, capsys):
    """Before anything is asked or touched."""
    assert cli.main(["publish", "gone.yml"]) == 1
    assert one_line(capsys) == "gislab: gone.yml: cannot be read (No such file or directory)"
    (tmp_path / "bad.yml").write_text("layers: {x: {table: x}}\n")
    assert cli.main(["publish", "bad.yml"]) == 1
    assert one_line(capsys) == "gislab: bad.yml: layers.x has no title"


def test_a_pi_that_is_not_there_is_not_drained(capsys):
    assert cli.main(["drain", "pi9"]) == 1
    assert one_line(capsys) == "gislab: no machine 'pi9' in this lab; there are pi1, pi2, pi3"


@pytest.mark.parametrize("error", [WaitTimeout("the database: not there after 300 s (x)"),
                                   RuntimeError("gone"), ValueError("bad"),
                                   PermissionError(13, "Permission denied", "reports")])
def test_a_bad_day_is_one_line_and_an_exit_code(monkeypatch, capsys, error):
    def fail(lab, say):
        raise error
    monkeypatch.setattr(cli.cluster, "down", fail)
    assert cli.main(["down"]) == 1
    assert one_line(capsys) == f"gislab: {error}"


def test_a_database_that_goes_away_is_one_line_that_says_where_to_look(monkeypatch, capsys):
    def fail(lab, say):
        raise psycopg.OperationalError("server closed the connection\nThis probably means")
    monkeypatch.setattr(cli.cluster, "down", fail)
    assert cli.main(["down"]) == 1
    assert one_line(capsys) == ("gislab: the database: server closed the connection; look at it "
                                "with: gislab status")


def test_a_mistake_in_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli.cluster, "down", lambda lab, say: undefined_name)  # noqa: F821
    with pytest.raises(NameError):
        cli.main(["down"])


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupt(lab, say):
        raise KeyboardInterrupt
    monkeypatch.setattr(cli.cluster, "down", interrupt)
    assert cli.main(["down"]) == 130
    assert "stopped; nothing is lost: the same command goes on" in capsys.readouterr().out


def test_a_ctrl_c_that_comes_while_an_object_is_taken_apart_counts(monkeypatch):
    """Python ignores what is raised there: in `gislab up`, when a pool of connections closed."""
    class Interrupted:
        def __del__(self):
            raise KeyboardInterrupt

    def work(lab, say):
        Interrupted()
        time.sleep(5)
    monkeypatch.setattr(cli.cluster, "down", work)
    former = signal.signal(signal.SIGINT, signal.default_int_handler), sys.unraisablehook
    try:
        assert cli.main(["down"]) == 130
    finally:
        signal.signal(signal.SIGINT, former[0])
    assert sys.unraisablehook is former[1]


def test_the_doctor_ends_with_1_when_something_is_missing(monkeypatch, capsys):
    wide(monkeypatch)
    findings = [doctor.Finding("memory", "4.5 GB free", "1.0 GB free", False,
                               "3.5 GB are missing")]
    monkeypatch.setattr(doctor, "examine", lambda lab: findings)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "MISSING" in said and "3.5 GB are missing" in said
    findings[0] = doctor.Finding("memory", "4.5 GB free", "8.0 GB free", True)
    assert cli.main(["doctor"]) == 0


def test_up_stops_before_anything_is_built_on_a_machine_that_is_not_ready(monkeypatch, capsys):
    monkeypatch.setattr(cli.engine, "ensure", lambda say: None)
    monkeypatch.setattr(doctor, "examine", lambda lab: [
        doctor.Finding("disk", "12 GB free", "3 GB free", False, "9 GB are missing")])
    monkeypatch.setattr(cli.cluster, "up", lambda lab, say: pytest.fail("it went on"))
    assert cli.main(["up"]) == 1
    out = capsys.readouterr()
    assert "disk: needed 12 GB free, found 3 GB free; 9 GB are missing" in out.out
    assert "not ready for the lab" in out.err


def test_status_names_the_lab_the_vip_and_the_map_server(monkeypatch, capsys):
    wide(monkeypatch)
    table = pd.DataFrame({"node": ["pi1"], "vip": ["holds it"]})
    members = pd.DataFrame({"member": ["postgis1"], "role": ["leader"], "state": ["running"]})
    monkeypatch.setattr(cli.cluster, "status", lambda lab: cli.cluster.Status(
        lab, table, members, pd.DataFrame({"map server": ["m"]})))
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out
    assert "lab gislab (virtual), VIP 172.30.16.100, maps by mapserver" in said
    assert "holds it" in said and "postgis1" in said
    assert "one member is left, writes are refused" in said


def test_planned_work_on_the_database_takes_a_member_or_an_image(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cli.experiment, "heal", lambda lab, say: None)
    monkeypatch.setattr(cli.postgis, "switchover", lambda lab, to, say: asked.append(to))
    monkeypatch.setattr(cli.postgis, "rolling_restart", lambda lab, image, say: asked.append(image)
                        or pd.DataFrame({"member": ["postgis1"], "seconds": [7.5]}))
    assert [cli.main(words) for words in (
        ["switchover"], ["switchover", "--to", "postgis3"], ["rolling-restart"],
        ["rolling-restart", "--image", "here/postgis:2"])] == [0] * 4
    assert asked == [None, "postgis3", None, "here/postgis:2"]
    assert "7.5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["switchover", "--to", "postgis9"])
    assert "postgis1, postgis2, postgis3" in capsys.readouterr().err.replace("'", "")


def test_what_was_done_is_said_in_the_past_tense(monkeypatch, capsys):
    monkeypatch.setattr(cli.nodes.virtual, "plug", lambda lab, name: None)
    assert cli.main(["plug", "pi2"]) == 0
    assert capsys.readouterr().out == "pi2: plug: done\n"


@pytest.fixture
def saved(tmp_path):
    """Two series that differ by a second, as folders."""
    for name, slower in (("old", 0.0), ("new", 1.0)):
        for number, one in enumerate(invented.series(7, slower=slower, seed=len(name)), 1):
            one.save(tmp_path / name / f"{number:03d}")
    return tmp_path


def test_a_saved_series_is_told_and_drawn_without_a_lab(saved, monkeypatch, capsys):
    wide(monkeypatch)
    assert cli.main(["show", str(saved / "old")]) == 0
    said = capsys.readouterr().out
    assert "median [s]" in said and "inside" in said and "write_primary" in said
    for table in ("how long", "as predicted", "writes"):
        assert f"{table}: virtual lab (virtual Pis), maps by MapServer" in said
    assert len(list((saved / "old" / "figures").glob("*.png"))) == 4
    assert cli.main(["show", str(saved / "old" / "001")]) == 0
    assert "serve again [s]" in capsys.readouterr().out


def test_outages_that_became_longer_are_an_exit_code(saved, monkeypatch, capsys):
    wide(monkeypatch)
    old, new = str(saved / "old"), str(saved / "new")
    assert cli.main(["show", new, "--against", old]) == 1
    assert "slower" in capsys.readouterr().out
    assert cli.main(["show", old, "--against", new]) == 0
    assert "faster" in capsys.readouterr().out


def test_a_folder_without_runs_is_one_line(tmp_path, capsys):
    assert cli.main(["show", str(tmp_path)]) == 1
    assert "holds no run; measure one" in one_line(capsys)


def test_an_experiment_is_repeated_as_often_as_asked_and_told(monkeypatch, capsys, tmp_path):
    wide(monkeypatch)
    asked = {}

    def repeat(lab, fault, n, **how):
        asked.update(how, fault=fault, n=n)
        return invented.series(n)
    monkeypatch.setattr(cli.experiment, "repeat", repeat)
    folder = tmp_path / "trials"
    words = ["experiment", "power_cut", "--trials", "3", "--during", "60", "--folder", str(folder)]
    assert cli.main(words) == 0
    assert (asked["fault"], asked["n"], asked["folder"]) == ("power_cut", 3, folder)
    assert asked["during"] == 60
    assert "too few" in capsys.readouterr().out and (folder / "figures" / "ecdf.png").exists()


@pytest.mark.parametrize("words", [
    "status", "publish maps.yml", "rollback 1", "seed places", "refresh", "scale mapserver 4",
    "backup", "drain pi1", "activate pi1", "rolling-restart", "torture", "notebooks"])
def test_what_needs_a_whole_lab_first_undoes_the_fault_that_was_left_behind(
        words, monkeypatch, capsys):
    def heal(lab, say):
        raise RuntimeError("healed first")
    monkeypatch.setattr(cli.experiment, "heal", heal)
    assert cli.main(words.split()) == 1
    assert one_line(capsys) == "gislab: healed first"


@pytest.mark.parametrize("words", ["doctor", "down", "power-on pi1", "plug pi1", "show kept"])
def test_what_needs_no_whole_lab_does_not_wait_for_one(words):
    assert not cli._parser().parse_args(words.split()).heals


def test_faults_are_listed_with_what_one_should_see_and_nothing_is_mended(monkeypatch, capsys):
    monkeypatch.setattr(cli.experiment, "heal", lambda lab, say: pytest.fail("it was asked only"))
    assert cli.main(["experiment", "--list"]) == 0
    said = capsys.readouterr().out
    assert "unplugged: cable pulled: VIP and primary (touches vip, maps, sql)" in said
    assert said.count("    see: ") == said.count("; on real Pis: ") == len(cli.faults.ALL)


@pytest.mark.parametrize("words, told", [
    (["service_frozen", "--service", "pgpool", "--pi", "pi2"], "pgpool on pi2 frozen"),
    (["pi_power_cut", "--pi", "pi3"], "power cut: pi3"),
    (["power_cut", "--force"], "power cut: VIP and primary")])
def test_a_fault_is_told_what_it_leaves_open(monkeypatch, tmp_path, words, told):
    made = []

    def repeat(lab, fault, n, **how):
        made.append(fault(lab))
        raise KeyboardInterrupt
    monkeypatch.setattr(cli.experiment, "repeat", repeat)
    monkeypatch.setattr(cli.experiment, "heal", lambda lab, say: None)
    said = []
    monkeypatch.setattr(cli, "_say", said.append)
    assert cli.main(["experiment", *words, "--folder", "kept"]) == 130
    assert made[0].title == told and made[0].force is ("--force" in words)
    assert (f"gislab experiment {words[0]} --trials 1 {' '.join(words[1:])} --during 3 --folder"
            in said[-1])


def test_of_the_set_up_of_2016_nothing_is_left_to_choose(monkeypatch, capsys):
    monkeypatch.setattr(cli.experiment, "heal", lambda lab, say: None)
    assert cli.main(["experiment", "power_cut", "--setup", "2016", "--pi", "pi1"]) == 1
    assert "--setup 2016 leaves nothing to choose" in one_line(capsys)


def test_an_experiment_that_is_interrupted_says_how_it_goes_on(monkeypatch, capsys, tmp_path):
    def interrupt(*_, **how):
        raise KeyboardInterrupt
    monkeypatch.setattr(cli.experiment, "repeat", interrupt)
    assert cli.main(["experiment", "power_cut", "--trials", "9", "--folder", "kept"]) == 130
    assert ("gislab experiment power_cut --trials 9 --during 3 --folder kept"
            in " ".join(capsys.readouterr().out.split()))


def test_an_experiment_on_the_set_up_of_2016_is_made_while_that_stands(
        monkeypatch, capsys, tmp_path):
    done = []

    @contextlib.contextmanager
    def standing(lab, say):
        done.append("up")
        yield
        done.append("down")
    monkeypatch.setattr(cli.setup2016, "standing", standing)
    monkeypatch.setattr(cli.experiment, "repeat", lambda lab, fault, n, **how: done.append(fault)
                        or invented.two_setups(1, (fault,))[1:])
    words = ["experiment", "power_cut", "--setup", "2016", "--folder", str(tmp_path / "kept")]
    assert cli.main(words) == 0  # though writes are on one server only
    assert done == ["up", "power_cut", "down"]
    said = capsys.readouterr().out
    assert "how long" in said and "as predicted" not in said


def test_up_leaves_a_lab_alone_on_which_another_program_has_the_set_up_of_2016(
        monkeypatch, capsys):
    def busy(lab, say):
        raise cli.setup2016.InUse("another program has the set-up of 2016 standing")
    monkeypatch.setattr(cli.engine, "ensure", lambda **how: None)
    monkeypatch.setattr(cli.doctor, "examine", lambda lab: [])
    monkeypatch.setattr(cli.experiment, "heal", busy)
    monkeypatch.setattr(cli.cluster, "up", lambda lab, say: pytest.fail("it was touched"))
    assert cli.main(["up"]) == 1 and "another program" in one_line(capsys)


def test_up_leaves_a_lab_alone_that_another_program_breaks_at_this_moment(
        monkeypatch, capsys, paper):
    """It would give a Pi its power back in the middle of an outage that is measured."""
    fault = cli.faults.named(paper, "power_cut")
    fault.target = cli.faults.Target("pi1", "", "pi1")
    fault.hit = fault.mend = lambda lab, target: None
    monkeypatch.setattr(cli.engine, "ensure", lambda **how: None)
    monkeypatch.setattr(cli.doctor, "examine", lambda lab: [])
    monkeypatch.setattr(cli.cluster, "up", lambda lab, say: pytest.fail("it was touched"))
    with cli.experiment.broken(paper, fault, lambda *_: None, say=lambda text: None):
        assert cli.main(["up"]) == 1
    assert "an experiment is at work" in capsys.readouterr().err


@pytest.mark.parametrize("power", [True, False])
def test_up_undoes_a_fault_before_it_begins_or_once_the_pis_have_power(
        monkeypatch, paper, pis, power):
    """Waiting for Pis that are all dark would be three minutes of nothing."""
    done = []
    cli.journal.remember(paper, {"fault": "power_cut"})
    if not power:
        pis.answer("true", out=Result((), 255, "", "no route to host"))
    monkeypatch.setattr(cli.engine, "ensure", lambda **how: None)
    monkeypatch.setattr(cli.doctor, "examine", lambda lab: [])
    monkeypatch.setattr(cli.experiment, "heal", lambda lab, say: done.append("heal"))
    monkeypatch.setattr(cli.cluster, "up", lambda lab, say: done.append("up"))
    assert cli.main(["up"]) == 0
    assert done == (["heal", "up"] if power else ["up", "heal"])


def test_an_unknown_fault_is_answered_with_those_that_there_are(capsys):
    assert cli.main(["experiment", "earthquake"]) == 1
    assert "no fault 'earthquake'; there are switchover, " in one_line(capsys)


def test_the_command_is_installed_and_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "gislab.cli", "--help"], capture_output=True,
                          text=True, cwd=settings.PROJECT)
    assert done.returncode == 0 and "gislab up" not in done.stderr


def test_a_command_without_notebooks_does_not_wait_for_jupyters_libraries():
    done = subprocess.run([sys.executable, "-c", "import sys, gislab.cli; print(*sys.modules)"],
                          capture_output=True, text=True, cwd=settings.PROJECT, check=True)
    assert {"gislab.cli"} == {"gislab.cli", "nbformat", "papermill"} & set(done.stdout.split())
