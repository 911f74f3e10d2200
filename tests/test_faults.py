"""Each fault breaks exactly what its name says, and is undone even when it is interrupted."""

import json
import os
import subprocess

import pandas as pd
import pytest
from recorded import node_ls, stand_in

from gislab import (
    blows,
    cluster,
    cuts,
    faults,
    journal,
    nodes,
    postgis,
    registry,
    settings,
    stack,
    vip,
    wait,
)
from gislab.shell import Recorded, Result, Unreachable

LAB = settings.make({"map_server": "mapserver"})
VIP_LINE = f"2: eth0    inet {LAB.vip}/32 scope global eth0\n"


@pytest.fixture
def pis(monkeypatch, tmp_path):
    """Three recorded Pis: pi1 holds the VIP, postgis1 is primary, every service on every Pi."""
    remotes = {}
    for i in (1, 2, 3):
        answers = {
            ("ip", "-o"): VIP_LINE if i == 1 else "", ("true",): "",
            ("docker", "kill"): "", ("docker", "exec"): "",
            ("docker", "stack", "services"): "\n".join(
                f'{{"Name": "gis_{s}", "Mode": "replicated", '
                '"Replicas": "3/3 (max 2 per node)"}'
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
    monkeypatch.setenv("GISLAB_HOME", str(tmp_path))
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


def sent(pis, *words):
    return [(name, c) for name, remote in pis.items() for c in remote.commands
            if c[:len(words)] == words]


@pytest.fixture
def wires(pis):
    """The recorded Pis, each with the hardware address 02:00:00:00:00:0<its number>."""
    for i, remote in enumerate(pis.values(), 1):
        remote.answers["sh", "-c"] = f"02:00:00:00:00:0{i}\n"
        remote.answers["sh", "-ec"] = ""
    return pis


def cut_by(pis):
    """Return Pi -> the numbers of the Pis whose packets it was told to drop."""
    return {name: [int(part[1]) for part in c[2].split("--mac-source 02:00:00:00:00:")[1:]]
            for name, c in sent(pis, "sh", "-ec")}


@pytest.mark.parametrize("name, drops", [
    ("primary_cut_off", {"pi1": [2, 3], "pi2": [1], "pi3": [1]}),
    ("primary_deaf", {"pi1": [2, 3]}),
    ("primary_mute", {"pi2": [1], "pi3": [1]}),
    ("link_cut", {"pi1": [2], "pi2": [1]}),
    ("ring_cut", {"pi1": [2], "pi2": [3], "pi3": [1]})])
def test_a_cut_drops_in_just_the_directions_of_its_name_and_is_mended_on_every_pi(
        wires, name, drops):
    with faults.named(LAB, name):
        assert cut_by(wires) == drops
        for remote in wires.values():
            remote.commands.clear()
    mended = sent(wires, "sh", "-c")
    assert [pi for pi, _ in mended] == ["pi1", "pi2", "pi3"]
    for _, command in mended:
        assert "-D PREROUTING -j GISLAB" in command[2] and "-X GISLAB" in command[2]


def test_the_rules_of_a_cut_begin_to_count_all_at_once(wires):
    with faults.primary_deaf(LAB):
        [(_, command)] = sent(wires, "sh", "-ec")
    steps = command[2].split("; ")
    assert steps[-1] == "iptables -w -t raw -I PREROUTING -j GISLAB"
    assert all("PREROUTING" not in step or "-D" in step for step in steps[:-1])


def test_in_a_ring_of_five_each_hears_a_majority_and_no_two_the_same():
    five = settings.make({"map_server": "mapserver", "pis": 5})
    grudge = cuts.ring(five)
    heard = [frozenset(grudge) - set(dropped) for dropped in grudge.values()]
    assert all(len(h) == 3 for h in heard) and len(set(heard)) == 5


def test_a_pi_that_does_not_answer_is_asked_again_until_its_cut_is_mended(wires, monkeypatch):
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)
    answers = iter([Result((), 255, "", "no route"), ""])
    run = wires["pi2"].run

    def late(args, **how):
        answer = next(answers, "")
        if answer:
            raise Unreachable("pi2", answer)
        return run(args, **how)
    monkeypatch.setattr(wires["pi2"], "run", late)
    cuts.mend(LAB)
    assert len(sent(wires, "sh", "-c")) == 3


def test_the_frozen_primary_is_stopped_inside_its_container_and_goes_on(pis):
    with faults.primary_frozen(LAB):
        [(pi, command)] = sent(pis, "docker", "exec")
        assert pi == "pi1" and "kill -STOP" in command[-1] and command[2] == "postgis1-on-pi1"
    assert "kill -CONT" in sent(pis, "docker", "exec")[-1][1][-1]


def test_a_frozen_container_is_the_primarys_and_all_that_is_frozen_there_goes_on(pis):
    pis["pi1"].answers["docker", "pause"] = pis["pi1"].answers["sh", "-c"] = ""
    with faults.primary_paused(LAB):
        assert sent(pis, "docker", "pause") == [("pi1", ("docker", "pause", "postgis1-on-pi1"))]
    [(_, command)] = sent(pis, "sh", "-c")
    assert "status=paused" in command[2] and "unpause" in command[2]


@pytest.mark.parametrize("name, struck", [
    ("consul_leader_lost", ["pi2"]), ("consul_majority_lost", ["pi1", "pi2"])])
def test_consuls_leader_is_frozen_and_with_it_as_many_as_make_the_majority(
        pis, monkeypatch, name, struck):
    monkeypatch.setattr(cluster, "consul_peers", lambda lab: {
        "pi1": "server", "pi2": "leader", "pi3": "server"})
    for pi, remote in pis.items():
        remote.answers["docker", "ps", "-q", "--no-trunc", "--filter",
                       "label=com.docker.swarm.service.name=gis_consul"] = f"consul-on-{pi}"
        remote.answers["docker", "pause"] = remote.answers["sh", "-c"] = ""
    with faults.named(LAB, name):
        assert sorted(pi for pi, _ in sent(pis, "docker", "pause")) == struck
    assert sorted(pi for pi, _ in sent(pis, "sh", "-c")) == struck


def test_without_a_leader_consul_is_not_struck(monkeypatch, pis):
    monkeypatch.setattr(cluster, "consul_peers", lambda lab: {"pi1": "server", "pi2": "server"})
    with pytest.raises(faults.FaultError, match="gislab status"):
        faults.consul_leader_lost(LAB).aim()


def test_primary_and_synchronous_replica_go_dark_and_both_come_back(pis, power, monkeypatch):
    monkeypatch.setattr(postgis, "members", lambda lab: pd.DataFrame({
        "member": ["postgis1", "postgis2", "postgis3"], "node": ["pi1", "pi2", "pi3"],
        "role": ["leader", "replica", "quorum_standby"]}))
    with faults.primary_and_standby_dark(LAB):
        assert sorted(power) == [("power_cut", "pi1"), ("power_cut", "pi3")]
    assert sorted(power[2:]) == [("power_on", "pi1"), ("power_on", "pi3")]


@pytest.mark.parametrize("pick, pi", [(0, "pi1"), (2, "pi3"), (4, "pi2")])
def test_any_pi_may_lose_its_power_and_the_same_number_means_the_same_one(pis, power, pick, pi):
    with faults.named(LAB, "pi_power_cut", pick=pick):
        assert power == [("power_cut", pi)]
    assert power[-1] == ("power_on", pi)


def test_every_processor_is_kept_busy_and_the_busy_end_even_if_nobody_undoes_it(pis):
    for remote in pis.values():
        remote.answers["bash", "-c"] = remote.answers["sh", "-c"] = ""
    with faults.cpu_full(LAB):
        started = sent(pis, "bash", "-c")
        assert [pi for pi, _ in started] == ["pi1", "pi2", "pi3"]
        assert all("nproc" in c[2] and "timeout 900" in c[2] for _, c in started)
    assert len(sent(pis, "sh", "-c")) == 3


def test_a_fault_in_a_with_is_in_the_journal_for_as_long_as_it_lasts(pis, power):
    """A kernel that dies in the middle leaves word: the next command finds what to undo."""
    with faults.power_cut(LAB):
        assert journal.left(LAB)["fault"] == "power_cut" and journal.left(LAB)["target"] == {
            "node": "pi1", "container": "", "what": "pi1 with the VIP and postgis1", "others": []}
        with pytest.raises(journal.AtWork), faults.power_cut(LAB):
            pytest.fail("two at a time")
    assert journal.left(LAB) == {}


def test_a_fault_that_could_not_be_undone_stays_in_the_journal(pis, power, monkeypatch):
    def broken_switch(lab, name):
        raise nodes.NodeError("still dark")
    monkeypatch.setattr(nodes, "power_on", broken_switch)
    with pytest.raises(nodes.NodeError), faults.power_cut(LAB):
        pass
    assert journal.left(LAB)["fault"] == "power_cut"


def test_what_a_fault_leaves_open_is_told_where_it_is_given_something_else():
    with pytest.raises(faults.FaultError, match="power_cut does not know all of pi; it leaves"):
        faults.named(LAB, "power_cut", pi="pi2")
    with pytest.raises(faults.FaultError, match="leaves open: service, pi"):
        faults.named(LAB, "service_killed", pick=1)


def frozen(pis):
    for i, remote in enumerate(pis.values(), 1):
        remote.answers["docker", "pause"] = remote.answers["sh", "-c"] = ""
        remote.answers["docker", "ps", "-q", "--no-trunc", "--filter",
                       "label=com.docker.swarm.service.name=gis_pgpool"] = f"pgpool-on-pi{i}"
    return lambda: [(pi, c[-1]) for pi, c in sent(pis, "docker", "pause")]


@pytest.mark.parametrize("choice, victim", [
    ({}, ("pi3", "haproxy-on-pi3")),  # where the VIP is
    ({"service": "keepalived"}, ("pi3", "keepalived-on-pi3")),
    ({"service": "pgpool"}, ("pi1", "pgpool-on-pi1")),
    ({"service": "mapserver", "pi": "pi2"}, ("pi2", "mapserver-on-pi2")),
    ({"service": "haproxy", "pi": "pi2"}, ("pi2", "haproxy-on-pi2"))])
def test_any_service_can_be_frozen_on_any_pi_and_goes_on(pis, choice, victim):
    pis["pi1"].answers["ip", "-o"], pis["pi3"].answers["ip", "-o"] = "", VIP_LINE
    struck = frozen(pis)
    with faults.named(LAB, "service_frozen", **choice) as fault:
        assert struck() == [victim] and fault.target.node == victim[0]
    [(pi, command)] = sent(pis, "sh", "-c")
    assert pi == victim[0] and "unpause" in command[2]


@pytest.mark.parametrize("pis_there, few", [(3, 1), (5, 2), (7, 3)])
def test_halves_are_cut_from_each_other_both_ways_and_whole_in_themselves(pis_there, few):
    lab = settings.make({"map_server": "mapserver", "pis": pis_there})
    grudge = cuts.halves(lab, "pi2")
    small = [name for name in grudge if len(grudge[name]) == max(map(len, grudge.values()))
             and "pi2" not in grudge[name]]
    assert "pi2" in small and len(small) == few
    assert all(set(grudge[name]) == set(grudge) - set(small) for name in small)
    assert all(set(grudge[name]) == set(small) for name in set(grudge) - set(small))


def test_a_lossy_network_loses_by_chance_and_in_every_direction(wires):
    with faults.lossy(LAB):
        assert cut_by(wires) == {"pi1": [2, 3], "pi2": [1, 3], "pi3": [1, 2]}
        for _, command in sent(wires, "sh", "-ec"):
            assert command[2].count("--mode random --probability 0.1 -j DROP") == 2
    assert len([c for _, c in sent(wires, "sh", "-c") if "-X GISLAB" in c[2]]) == 3


@pytest.fixture
def managed(pis):
    for remote in pis.values():
        remote.answers["docker", "node", "ls"] = node_ls("pi2", "pi1", "pi3")
    return pis


@pytest.mark.parametrize("name, dark", [
    ("swarm_leader_lost", ["pi2"]), ("swarm_majority_lost", ["pi1", "pi2"])])
def test_the_leader_of_the_swarm_goes_dark_and_with_it_as_many_as_make_the_majority(
        managed, power, name, dark):
    with faults.named(LAB, name):
        assert sorted(power) == [("power_cut", pi) for pi in dark]
    assert sorted(power[len(dark):]) == [("power_on", pi) for pi in dark]


def test_the_registry_is_frozen_where_it_is_and_goes_on(pis, monkeypatch):
    done = []
    monkeypatch.setattr(registry, "pause", lambda lab: done.append("frozen"))
    monkeypatch.setattr(registry, "unpause", lambda lab: done.append("goes on"))
    with faults.registry_lost(LAB) as fault:
        assert done == ["frozen"] and fault.target.node == "this machine"
    assert done == ["frozen", "goes on"] and sent(pis, "docker") == []


def allow(pis, limit: int) -> None:
    """Have each service be allowed so many bytes of memory, and every change of that succeed."""
    for remote in pis.values():
        remote.answers["docker", "service", "inspect"] = str(limit)
        remote.answers["docker", "update"] = remote.answers["bash", "-c"] = ""


def test_a_map_server_has_a_quarter_of_its_memory_and_then_all_that_its_service_allows(pis):
    allow(pis, 768 << 20)
    with faults.memory_limit(LAB):
        [(pi, command)] = sent(pis, "bash", "-c")
        assert pi == "pi1" and "for part in 25 " in command[2]
        assert command[3:] == ("squeeze", "mapserver-on-pi1", str(6 << 20))
    [(pi, command)] = sent(pis, "docker", "update")
    assert pi == "pi1" and command[3] == "805306368" and command[-1] == "mapserver-on-pi1"


def test_any_service_may_be_short_of_memory_and_has_its_own_limit_back(pis):
    allow(pis, 256 << 20)
    with faults.named(LAB, "memory_limit", service="haproxy", pi="pi2") as fault:
        assert fault.title == "haproxy on pi2 short of memory" and "sql" in fault.touches
        [(pi, command)] = sent(pis, "bash", "-c")
        assert pi == "pi2" and command[4] == "haproxy-on-pi2"
    asked = sent(pis, "docker", "service", "inspect")[-1][1]
    assert "gis_haproxy" in asked
    [(pi, command)] = sent(pis, "docker", "update")
    assert pi == "pi2" and command[3] == str(256 << 20) and command[-1] == "haproxy-on-pi2"


@pytest.mark.parametrize("used, least, limit", [
    (100_000_000, 0, 25_000_000), (100_000_000, 60_000_000, 70_000_000),
    (4_000_000, 0, 6 << 20)])  # Docker takes no smaller one
def test_a_service_has_the_least_limit_that_is_taken_and_somebody_who_wants_as_much(
        pis, tmp_path, used, least, limit):
    allow(pis, 64 << 20)
    with faults.named(LAB, "memory_limit", service="keepalived"):
        [(_, command)] = sent(pis, "bash", "-c")
    told = tmp_path / "told"
    stand_in(tmp_path / "docker", f"#!/bin/sh\necho \"$@\" >> {told}\n"
             f"[ $1 = update ] || {{ echo {used}; exit; }}; [ $3 -ge {least} ]\n")
    subprocess.run(command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True)
    said = told.read_text()
    update, hungry = said[said.rindex("update --memory"):].split("\n", 1)
    assert update == f"update --memory {limit} --memory-swap {limit} keepalived-on-pi1"
    assert hungry.startswith("exec --privileged --user 0 keepalived-on-pi1 sh -c ")
    assert f"head -c {limit} /dev/zero | tail -c {limit}" in hungry


def test_a_limit_that_cannot_be_had_is_told_in_dockers_words(pis, tmp_path):
    allow(pis, 64 << 20)
    with faults.memory_limit(LAB):
        [(_, command)] = sent(pis, "bash", "-c")
    stand_in(tmp_path / "docker", "#!/bin/sh\n[ $1 = update ] || { echo 90000000; exit; }; "
             "echo no such limit >&2; exit 1\n")
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
                          capture_output=True, text=True)
    assert done.returncode == 1 and "no such limit" in done.stderr


def test_what_fills_a_disk_is_removed_and_only_a_disk_of_a_size_is_filled(pis, tmp_path):
    with faults.disk_full(LAB):
        [(_, command)] = sent(pis, "docker", "exec")
    assert sent(pis, "docker", "exec")[-1][1][-3:] == ("rm", "-f", "/run/gislab/full")
    script = command[-1].replace("/run/gislab/full", str(tmp_path / "full"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1 and "no size" in done.stderr and list(tmp_path.glob("full")) == []


def silent(pis, *names):
    for name in names:
        pis[name].answers["true",] = Result((), 255, "", "no route")


@pytest.mark.parametrize("name, refused", [
    ("map_server_killed", True), ("pi_power_cut", True), ("cpu_full", True), ("ring_cut", True)])
def test_what_would_leave_no_majority_is_refused_unless_forced(wires, power, name, refused):
    """One Pi is silent already: whoever strikes another one may have to mend the lab by hand."""
    silent(wires, "pi2")
    with pytest.raises(faults.FaultError, match="pi2 does not answer.*--force"), \
            faults.named(LAB, name):
        pytest.fail("it was struck")
    assert power == [] and kills(wires) == [] and journal.left(LAB) == {}
    assert faults.named(LAB, name, force=True).aim().node == "pi1"


def test_the_pi_that_is_silent_anyway_may_be_struck(pis, power):
    silent(pis, "pi2")
    assert faults.named(LAB, "pi_power_cut", pi="pi2").aim().node == "pi2"


def test_every_fault_says_what_one_should_see_and_how_it_is_undone():
    told = faults.table(LAB)
    assert told["fault"].tolist() == list(faults.ALL) and told["fault"].is_unique
    assert (told.drop(columns="fault").map(len) > 2).all(axis=None)
    by_hand = told[told["on real Pis"] != "the same"]["fault"]
    assert set(by_hand) == {name for name in faults.ALL if faults.named(LAB, name).mend in (
        blows.give_power, blows.plug)}


def test_every_fault_is_tried_on_a_standing_lab():
    """`Each fault of the catalog was injected and undone by a live test`: none is forgotten."""
    from test_faults_live import TRIED
    assert set(faults.ALL) == set(TRIED)


def test_the_docs_tell_of_each_fault_what_the_program_does():
    text = (settings.PROJECT / "docs" / "faults.md").read_text()
    for line in faults.table(LAB).itertuples(index=False):
        assert "| " + " | ".join([f"`{line[0]}`", *line[1:]]) + " |" in text, line[0]


def test_the_journal_holds_all_that_the_undoing_needs():
    """A target goes through JSON and comes back as good as it was."""
    target = faults.Target("pi1", "abc", "pi1 and more", ("pi2",))
    again = faults.Target(**json.loads(json.dumps(vars(target))))
    assert list(again.nodes) == ["pi1", "pi2"] and again.container == "abc"
