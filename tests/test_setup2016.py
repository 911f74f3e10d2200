"""The set-up of 2016 takes the place of ours and gives it back, whatever happens in between."""

import dataclasses
import fcntl
import re
import subprocess

import httpx
import pytest
import yaml
from recorded import node_ls

from gislab import (
    catalog,
    cluster,
    durability,
    experiment,
    faults,
    faults2016,
    images,
    nodes,
    question,
    reads,
    registry,
    scram,
    setup2016,
    stack,
    vip,
    wait,
    wars,
)
from gislab.shell import Result
from gislab.stack import compose

TEXT = (stack.FOLDER / setup2016.FILE).read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
OWN = sorted(stack.FOLDER.glob("2016-*"))
READY = setup2016.ready  # recorded Pis go without


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)


@pytest.fixture
def swarm(pis, monkeypatch):
    """A Swarm that holds whatever it was told to deploy; `said` is what the lab was told."""
    monkeypatch.setattr(registry, "trust", lambda _, node: None)
    for ready in (cluster, setup2016):
        monkeypatch.setattr(ready, "ready", lambda lab, **how: None)
    monkeypatch.setattr(catalog, "allow", lambda lab, **how: None)
    for settled in (durability, scram):
        monkeypatch.setattr(settled, "apply", lambda lab, **how: None)
    pis.answer("docker", "node", "ls", out=node_ls("pi1", "pi2", "pi3"))
    pis.answer("docker", "service", "inspect", out=Result((), 1, "", "no such service"))
    for words in (("docker", "secret"), ("docker", "stack", "rm"), ("docker", "network"),
                  ("docker", "volume"), ("docker", "service", "update"), ("docker", "ps"),
                  ("docker", "kill"), ("sh", "-c"), ("env",)):
        pis.answer(*words)
    return pis


def quiet(text):
    pass


def swaps(pis):
    """Return the removals and deployments, in order, of the Pi that was told them."""
    found = []
    for command in pis[0].commands:
        if command[:3] == ("docker", "stack", "rm"):
            found.append("rm")
        if command[0] == "env":
            found.append(command[command.index("--compose-file") + 1])
    return found


def test_ours_is_removed_and_comes_back_at_the_end(paper, swarm):
    with setup2016.standing(paper, say=quiet):
        assert swaps(swarm) == ["rm", "2016.yml"] and setup2016.stands(paper)
    assert swaps(swarm) == ["rm", "2016.yml", "rm", "gis.yml"] and not setup2016.stands(paper)
    assert experiment.heal(paper, say=quiet) is None and len(swaps(swarm)) == 4


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, RuntimeError])
def test_ours_comes_back_when_the_cell_is_interrupted(paper, swarm, interrupt):
    with pytest.raises(interrupt), setup2016.standing(paper, say=quiet):
        raise interrupt
    assert swaps(swarm)[-2:] == ["rm", "gis.yml"] and not setup2016.stands(paper)


def test_ours_comes_back_when_the_other_does_not_come_up(paper, swarm, monkeypatch):
    def never(lab, **how):
        raise wait.WaitTimeout("maps at the VIP: not there after 240 s")
    monkeypatch.setattr(setup2016, "ready", never)
    with pytest.raises(TimeoutError, match="maps at the VIP"), \
            setup2016.standing(paper, say=quiet):
        pytest.fail("it does not stand")
    assert swaps(swarm)[-2:] == ["rm", "gis.yml"]


@pytest.mark.parametrize("step", ["_clear", "deploy", "ready", "block", "lights_on", "serve"])
def test_a_program_killed_at_any_step_is_healed_by_the_next_command(
        paper, swarm, monkeypatch, step):
    """Killed: nothing of its own runs any more, and its lock is gone."""
    class Killed(BaseException):
        pass

    def die(*args, **how):
        raise Killed
    home = cluster if step == "serve" else stack if step == "deploy" else setup2016
    with monkeypatch.context() as patch:
        if step != "block":
            patch.setattr(home, step, die)
        if step not in ("lights_on", "serve"):
            patch.setattr(setup2016, "restore", lambda lab, **how: None)
        with pytest.raises(Killed), setup2016.standing(paper, say=quiet):
            if step == "block":
                raise Killed
    assert setup2016.stands(paper)
    told = []
    assert setup2016.heal(paper, say=told.append) is True
    assert told[0] == "the set-up of 2016 was left behind; putting ours back"
    assert swaps(swarm)[-1] == "gis.yml" and not setup2016.stands(paper)


def test_a_measurement_within_it_does_not_put_ours_back(paper, swarm):
    with setup2016.standing(paper, say=quiet):
        assert experiment.heal(paper, say=quiet) is None
        assert swaps(swarm) == ["rm", "2016.yml"]


def test_another_program_that_has_it_standing_is_left_alone(paper, swarm):
    with (paper.home / "setup.json").open("a") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        for verb in (setup2016.heal, experiment.heal):
            with pytest.raises(setup2016.InUse, match="wait for its end, or stop it"):
                verb(paper, say=quiet)
        with pytest.raises(setup2016.InUse), setup2016.standing(paper, say=quiet):
            pytest.fail("it does not stand twice")
    assert swaps(swarm) == [] and setup2016.stands(paper)


def test_what_it_has_written_is_removed_before_and_after_and_our_data_is_not(paper, swarm):
    with setup2016.standing(paper, say=quiet):
        pass
    removed = swarm.sent("docker", "volume", "rm")
    assert sorted(pi for pi, _ in removed) == ["pi1", "pi1", "pi2", "pi2", "pi3", "pi3"]
    assert {command.split()[-1] for _, command in removed} == {"gis_postgis2016"}


def test_the_next_stack_waits_until_the_network_of_the_last_is_gone(paper, swarm):
    answers = iter(["3f1c", ""])
    run = swarm[1].run

    def late(args, **how):
        if tuple(args[:2]) == ("docker", "network"):
            swarm[1].answers["docker", "network"] = next(answers, "")
        return run(args, **how)
    swarm[1].run = late
    told = []
    with setup2016.standing(paper, say=told.append):
        pass
    assert "waiting for the stack's network to be gone: pi2 still has the network" in told


def test_a_lab_with_geoserver_has_the_image_of_mapserver_before_anything_is_taken_away(
        paper, swarm, monkeypatch):
    ours = dataclasses.replace(paper, map_server="geoserver")
    monkeypatch.setattr(wars, "identity", lambda lab: "a WAR")
    given = []
    for module, name in ((images, "build"), (registry, "push"), (registry, "pull")):
        monkeypatch.setattr(module, name, lambda lab, say, name=name: given.append(
            (name, lab.serves, swaps(swarm))))
    with setup2016.standing(ours, say=quiet):
        assert given == [(name, "mapserver", []) for name in ("build", "push", "pull")]
    theirs, back = [command for _, command in swarm.sent("env")]
    assert f"IMAGE_MAPSERVER={registry.reference(paper, 'mapserver')}" in theirs
    assert f"IMAGE_MAPSERVER={registry.reference(ours, 'geoserver')}" in back


# --- what stands ------------------------------------------------------------------------------


def test_everything_that_its_stack_file_asks_for_is_given(paper, swarm):
    with setup2016.standing(paper, say=quiet):
        command = swarm.sent("env")[0][1]
    asked = set(re.findall(r"\$\{([A-Z_0-9]+)(?!:-|[A-Z_0-9])", TEXT))
    assert "HASH_2016_GIS_MAP" in asked and asked <= set(re.findall(r"(\w+)=", command))


def test_our_own_stack_knows_nothing_of_it():
    """A change of 2016's files changes no standing lab."""
    assert not [name for name in compose.files(stack.FILE) if name.startswith("2016")]
    assert set(compose.files("2016.yml")) == {"2016.yml", *(path.name for path in OWN)}


def test_nothing_of_it_is_started_again_or_asked_for_its_health():
    assert len(SERVICES) == len(setup2016.wanted(type("Lab", (), {"machines": (1, 2, 3)})))
    for name, service in SERVICES.items():
        assert service["deploy"]["restart_policy"] == {"condition": "none"}, name
        assert service["healthcheck"] == {"disable": True}, name
        assert "sysctls" not in service, name


def test_every_file_of_it_says_where_the_original_is():
    for path in (stack.FOLDER / setup2016.FILE, *OWN):
        text = path.read_text()
        assert re.search(r"\w+/[\w.-]+:\d+|at 9f4131b", text), path.name


def test_each_setting_of_haproxy_and_pgpool_names_its_line():
    for name in ("2016-haproxy.cfg", "2016-pgpool.conf"):
        text = (stack.FOLDER / name).read_text().split("# The container's own")[0]
        bare = [line for line in text.splitlines() if line.startswith(("    ", "backend_host"))
                or " = " in line.split("#")[0]]
        bare = [line for line in bare if not re.search(r"#.*(\d|3\.3)|^    #|flag", line)]
        assert bare == [], name


def test_haproxy_checks_no_server_and_pgpool_no_database():
    haproxy = re.sub(r"#.*", "", (stack.FOLDER / "2016-haproxy.cfg").read_text())
    assert haproxy.count("server s") == 3 and not re.search(r"\bcheck\b|redispatch", haproxy)
    pgpool = (stack.FOLDER / "2016-pgpool.conf").read_text()
    assert re.search(r"^health_check_period = 0 ", pgpool, re.MULTILINE)
    assert "'native_replication'" in pgpool and "sr_check" not in pgpool


def test_keepalived_is_two_routers_that_track_nothing(tmp_path):
    """The script itself, with its two programs replaced, on the first Pi and on another."""
    for name, text in (("ip", 'echo "2: eth0    inet 172.30.16.12/24 scope"'),
                       ("keepalived", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n[ \"$2\" = addr ] && [ \"$3\" = del ] && exit\n"
                                     f"{text}\n")
        (tmp_path / name).chmod(0o755)
    script = (stack.FOLDER / "2016-keepalived.sh").read_text()
    script = script.replace("/run/keepalived.conf", str(tmp_path / "conf"))
    written = {}
    for pi in ("pi1", "pi2", "pi3"):
        subprocess.run(["bash", "-c", script], check=True, env={
            "PATH": f"{tmp_path}:/usr/bin:/bin", "NODE_NAME": pi, "VIP": "172.30.16.100",
            "NODES": "pi1=172.30.16.11 pi2=172.30.16.12 pi3=172.30.16.13"})
        text = (tmp_path / "conf").read_text()
        written[pi] = dict(line.split() for line in text.splitlines() if len(line.split()) == 2
                           and "{" not in line)
        assert "track" not in text and "nopreempt" in text and "172.30.16.100" in text
    assert [w["virtual_router_id"] for w in written.values()] == ["100", "101", "101"]
    assert [w["priority"] for w in written.values()] == ["100", "150", "150"]
    assert [w["state"] for w in written.values()] == ["MASTER", "BACKUP", "BACKUP"]
    assert {w["advert_int"] for w in written.values()} == {"5"}


@pytest.mark.parametrize("path", [p for p in OWN if p.suffix == ".sh"], ids=lambda p: p.name)
def test_each_script_is_correct_shell_and_stops_at_the_first_mistake(path):
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    assert "set -Eeuo pipefail" in path.read_text().splitlines()


def test_the_map_servers_publish_alive_and_nothing_else(paper):
    text = catalog.mapfile(paper)
    assert re.findall(r'^    NAME "(\w+)"$', text, re.MULTILINE)[-1] == "alive"
    assert text.count("CONNECTIONTYPE") == 1 and "@HERE@" not in text


# --- its faults -------------------------------------------------------------------------------


@pytest.fixture
def there(paper, swarm, monkeypatch, tmp_path):
    """The set-up of 2016 on recorded Pis: pi1 and pi3 hold the VIP, and pi3 answers."""
    where = {"consul": (1,), "postgis1": (1,), "postgis2": (3,), "mapserver1": (1,),
             "mapserver2": (2,), "mapserver3": (3,)}
    for number, remote in enumerate(swarm, 1):
        remote.answers["ip", "-o"] = f"eth0 inet {paper.vip}/32 " if number != 2 else ""
        remote.answers["sh", "-c"] = f"02:00:00:00:00:0{number}\n"
        for service in SERVICES:
            runs(swarm, service, number, f"{service}-on-pi{number}"
                 if number in where.get(service, (1, 2, 3)) else "")
    table = tmp_path / "arp"
    table.write_text("IP address  HW type  Flags  HW address  Mask  Device\n"
                     f"{paper.vip}  0x1  0x2  02:00:00:00:00:03  *  br-1\n")
    swarm.answer("docker", "service", "inspect", out="completed")
    monkeypatch.setattr(faults2016, "NEIGHBOURS", table)
    monkeypatch.setattr(setup2016, "_sql_answers", lambda lab: None)
    monkeypatch.setattr(setup2016, "_maps_answer", lambda lab: None)
    return swarm


def runs(pis, service, number, container):
    """Have a service run on a Pi in this container; "" for none."""
    pis[number - 1].answers["docker", "ps", "-q", "--no-trunc", "--filter",
                            f"label=com.docker.swarm.service.name=gis_{service}"] = container


def end(pis, service, *numbers):
    """Have a service run on these Pis no more."""
    for number in numbers:
        runs(pis, service, number, "")


@pytest.mark.parametrize("name, pi, container", [
    ("map_server_killed", "pi1", "mapserver1-on-pi1"),
    ("haproxy_killed", "pi3", "haproxy-on-pi3"),
    ("keepalived_killed", "pi3", "keepalived-on-pi3"),
    ("primary_killed", "pi1", "postgis1-on-pi1")])
def test_a_killed_container_is_the_one_and_only_victim(paper, there, name, pi, container):
    fault = faults2016.named(paper, name)
    fault.strike()
    assert there.sent("docker", "kill") == [(pi, f"docker kill --signal KILL {container}")]


def test_of_two_holders_the_one_is_struck_that_this_machine_reaches(paper, there):
    assert vip.holders(paper) == ["pi1", "pi3"]
    assert faults2016.answering(paper) == "pi3"
    faults2016.NEIGHBOURS.write_text("IP address  HW type\n")  # there is a router in between
    assert faults2016.answering(paper) == "pi1"


def test_a_power_cut_takes_the_vip_and_a_database_and_is_undone_by_hand(
        paper, there, monkeypatch):
    done = []
    for verb in ("power_cut", "power_on"):
        monkeypatch.setattr(nodes, verb, lambda lab, name, verb=verb: done.append((verb, name)))
    monkeypatch.setattr(nodes, "alive", lambda lab: nodes.all(lab)[:2])
    with faults2016.named(paper, "power_cut") as fault:
        assert fault.target.what == "pi3 with the VIP and postgis2"
    assert done == [("power_cut", "pi3"), ("power_on", "pi3")]


def test_they_are_called_and_coloured_as_ours():
    for name in faults2016.ALL:
        own, old = faults.named(None, name), faults2016.named(None, name)
        assert (old.name, old.title, old.colour) == (own.name, own.title, own.colour)
        assert old.setup == "2016" and own.setup == "" and old.mend is faults2016.by_hand
    with pytest.raises(faults.FaultError, match="no fault 'switchover' of the set-up of 2016"):
        faults2016.named(None, "switchover")


def test_what_ended_is_started_first_and_then_whoever_holds_on_to_it(paper, there):
    end(there, "mapserver1", 1)
    setup2016.start_again(paper, say=quiet)
    started = [command.split("_")[-1] for _, command in there.sent("docker", "service", "update")]
    assert started == ["mapserver1", "pgpool", "haproxy"]


def test_with_a_pgpool_its_sessions_are_gone_so_all_who_had_one_start_anew(paper, there):
    end(there, "pgpool", 3)
    setup2016.start_again(paper, say=quiet)
    started = [command.split("_")[-1] for _, command in there.sent("docker", "service", "update")]
    assert started == [*setup2016.LEAVES, "pgpool", "haproxy"]


def test_a_dead_door_alone_is_started_and_nobody_else(paper, there):
    end(there, "haproxy", 3)
    told = []
    setup2016.start_again(paper, say=told.append)
    assert [c.split("_")[-1] for _, c in there.sent("docker", "service", "update")] == ["haproxy"]
    assert told == ["started by hand: haproxy"]


def test_a_pgpool_that_has_given_up_a_server_that_lives_is_started_anew(
        paper, there, monkeypatch):
    """As after a power cut whose Pi came back before anybody looked."""
    def given_up(lab):
        raise wait.NotYet("pi1: its Pgpool has given up postgis2")
    monkeypatch.setattr(setup2016, "_sql_answers", given_up)
    setup2016.start_again(paper, say=quiet)
    assert [c.split("_")[-1] for _, c in there.sent("docker", "service", "update")] == ["pgpool"]


def test_where_what_ended_was_not_all_that_was_wrong_everything_is_started(
        paper, there, monkeypatch):
    """Clients that lost the VIP hold all places of a Pgpool, and the map servers wait for one."""
    end(there, "keepalived", 1)

    def started() -> list[str]:
        return [c.split("_")[-1] for _, c in there.sent("docker", "service", "update")]

    def ready(lab, say, timeout=240):
        if "pgpool" not in started():
            raise wait.WaitTimeout("maps through every HAProxy: not there after 60 s")
    monkeypatch.setattr(setup2016, "ready", ready)
    monkeypatch.setattr(nodes, "alive", nodes.all)
    faults2016.by_hand(paper, faults.Target("pi1", "c1", "keepalived on pi1"))
    assert started() == ["keepalived", *setup2016.LEAVES, "pgpool", "haproxy", "keepalived"]


def test_a_container_that_did_not_begin_is_started_by_hand(paper, there, monkeypatch):
    """Swarm was told to start none again, and an engine fails to start one now and then."""
    end(there, "keepalived", 3)
    monkeypatch.setattr(setup2016, "PATIENCE", 0)
    told = []

    def say(text):
        told.append(text)
        if text.startswith("started"):
            runs(there, "keepalived", 3, "new")
    READY(paper, say=say, timeout=9)
    assert told == ["waiting for all containers of 2016: keepalived",
                    "started by hand: keepalived"]
    end(there, "keepalived", 3)
    there.forget()
    with pytest.raises(wait.WaitTimeout, match="all containers of 2016: .*keepalived"):
        READY(paper, timeout=0)  # whoever asks for less does that himself
    assert there.sent("docker", "service", "update") == []


def test_maps_are_asked_of_every_haproxy_and_one_that_fails_is_named(paper, monkeypatch):
    """The VIP may move to any of them, and each has looked the map servers up by itself."""
    asked = []

    def get(url, **_):
        asked.append(httpx.URL(url).host)
        return httpx.Response(503 if asked[-1] == "172.30.16.13" else 200)
    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setattr(question, "png_fault", lambda *_: "")
    with pytest.raises(wait.NotYet, match="172.30.16.13: HTTP 503"):
        setup2016._maps_answer(paper)
    assert asked == ["172.30.16.100", "172.30.16.11", "172.30.16.12", "172.30.16.13"]


def test_where_nothing_has_ended_nothing_is_started(paper, there):
    setup2016.start_again(paper, say=quiet)
    assert there.sent("docker", "service", "update") == []


def test_a_fault_that_was_left_behind_with_the_set_up_goes_with_it(paper, there, monkeypatch):
    monkeypatch.setattr(nodes, "alive", nodes.all)
    fault = faults2016.named(paper, "haproxy_killed")
    (paper.home / "setup.json").write_text("{}")
    fault.remember()
    assert experiment.heal(paper, say=quiet) == "haproxy_killed"
    assert not (paper.home / "fault.json").exists() and not setup2016.stands(paper)
    assert swaps(there)[-1] == "gis.yml"


def test_a_fault_left_within_it_is_undone_by_hand_and_the_set_up_stays(
        paper, there, monkeypatch):
    undone = []
    monkeypatch.setitem(faults2016.ALL, "haproxy_killed", (None, None))
    monkeypatch.setattr(faults2016, "by_hand", lambda lab, target: undone.append(target.node))
    with setup2016.standing(paper, say=quiet):
        fault = faults2016.named(paper, "haproxy_killed")
        fault.target = faults.Target("pi3", "c3", "haproxy on pi3")
        fault.remember()
        assert experiment.heal(paper, say=quiet) == "haproxy_killed"
        assert undone == ["pi3"] and setup2016.stands(paper)


def test_while_it_stands_a_faults_name_means_its_own(paper, swarm):
    assert experiment._named(paper, "power_cut").setup == ""
    with setup2016.standing(paper, say=quiet):
        assert experiment._named(paper, "power_cut").setup == "2016"


# --- its rows ---------------------------------------------------------------------------------


@pytest.fixture
def two(there):
    """Both servers' containers, with a place for what psql answers."""
    for number, name in ((1, "postgis1"), (3, "postgis2")):
        there[number - 1].answers["docker", "ps"] = f"c{number} gis_{name}"
    there[1].answers["docker", "ps"] = ""

    def answer(first, second):
        there[0].answers["docker", "exec"], there[2].answers["docker", "exec"] = first, second
    return answer


def test_the_first_row_is_beyond_those_of_both_servers(paper, two, there):
    two("12", "500007")
    assert setup2016.first_row(paper) == 1_000_000
    assert "set role gis" in there[0].inputs[-1] and "lab.writes" in reads.TABLE
    two("12", Result((), 1, "", "could not connect"))
    with pytest.raises(setup2016.SetUpError, match="postgis2: could not connect"):
        setup2016.first_row(paper)


def test_what_one_server_missed_is_told_by_its_own_reading(paper, two):
    two("open|0\n7|1\n8|1\n9|2", "open|0\n7|1")
    rows = setup2016.final_reads(paper, 1, 10)
    assert [r for r in rows if r[0] is not None] == [
        (7, 1, "server postgis1"), (8, 1, "server postgis1"), (9, 2, "server postgis1"),
        (7, 1, "server postgis2")]


def test_rows_are_not_read_while_a_write_is_under_way_or_a_server_is_silent(paper, two):
    two("open|2\n7|1", "open|0\n7|1")
    with pytest.raises(TimeoutError, match="postgis1: writes under way: 2"):
        setup2016.final_reads(paper, 1, 10, timeout=0)
    two("open|0\n7|1", Result((), 1, "", "the database system is shutting down"))
    with pytest.raises(TimeoutError, match="postgis2: the database system is shutting down"):
        setup2016.final_reads(paper, 1, 10, timeout=0)


def test_the_lanes_are_those_that_there_was_a_way_for():
    assert set(setup2016.LANES) == {"maps", "features", "sql_read", "sql_write"}
