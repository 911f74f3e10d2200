"""The Swarm: one leads, the others join, and what is done already is not done again."""

import pandas
import pytest
from recorded import node_ls

from gislab import cluster, nodes, swarm, wait
from gislab.shell import CommandFailed, Result

INFO = ("docker", "info", "--format", "{{.Swarm.LocalNodeState}}")
LS = ("docker", "node", "ls")
LABEL = ("docker", "node", "inspect")
HAPROXY = ("docker", "ps", "-q", "--no-trunc")
NO_MANAGER = Result((), 1, "", "Error response from daemon: This node is not a swarm manager.")


WHOLE = pandas.DataFrame([("postgis1", "leader", "running"),
                          ("postgis2", "replica", "starting"),
                          ("postgis3", "quorum_standby", "streaming")],
                         columns=["member", "role", "state"])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Ask again at once, and give up soon."""
    monkeypatch.setattr(wait.time, "sleep", lambda seconds: None)


@pytest.fixture
def fresh(pis):
    pis.answer(*INFO, out="inactive")
    pis.answer(*LS, out=NO_MANAGER)
    pis.answer("docker", "swarm", "init")
    pis.answer("docker", "swarm", "join")
    return pis


@pytest.fixture
def standing(pis):
    pis.answer(*INFO, out="active")
    pis.answer(*LS, out=node_ls("pi1", "pi2", "pi3"))
    pis.answer(*LABEL, out="")
    pis.answer("docker", "node", "update")
    pis.answer("docker", "swarm", "join-token", out="SWMTKN-1-secret")
    return pis


def hearing(change):
    """Return a `say`, after whose first word something has changed, and what it heard."""
    told = []

    def say(text):
        told.append(text)
        change()
    return say, told


def test_the_first_pi_leads_a_new_swarm_from_its_own_address(paper, fresh):
    swarm.init(paper, say=lambda text: None)
    (name, command), = fresh.sent("docker", "swarm")
    assert name == "pi1" and "init --advertise-addr 172.30.16.11 " in command


def test_a_swarm_that_stands_on_any_pi_is_not_made_again(paper, fresh):
    fresh[2].answers[INFO] = "active"
    told = []
    swarm.init(paper, say=told.append)
    assert fresh.sent("docker", "swarm") == [] and told == ["swarm: stands already"]


def test_the_others_join_the_leader_as_managers(paper, standing):
    for pi in standing[1:]:
        pi.answers[INFO] = "inactive"
        pi.answers["docker", "swarm", "join"] = ""
    told = []
    swarm.join(paper, say=told.append)
    joins = standing.sent("docker", "swarm", "join")
    assert [name for name, _ in joins] == ["pi2", "pi3"]
    assert joins[0][1].endswith("--advertise-addr 172.30.16.12 --token SWMTKN-1-secret "
                                "172.30.16.11:2377")
    assert standing.sent("docker", "swarm", "join-token", "-q", "manager")
    assert told == ["pi2: joined as manager", "pi3: joined as manager"]
    assert "secret" not in " ".join(told)


def test_a_second_join_sends_nothing_that_changes(paper, standing):
    swarm.join(paper, say=lambda text: pytest.fail(text))
    assert standing.sent("docker", "swarm") == []


def test_a_pi_that_was_left_a_worker_is_made_a_manager_again(paper, standing):
    """Whoever had it register anew was killed on the way."""
    standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3", workers=["pi3"]))
    standing.answer("docker", "node", "promote")
    say, told = hearing(lambda: standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3")))
    swarm.join(paper, say=say)
    assert standing.sent("docker", "node", "promote") == [("pi1", "docker node promote pi3")]
    assert told == ["pi3: is a manager again"]


def test_a_pi_that_still_looks_for_its_swarm_is_waited_for(paper, standing):
    standing[1].answers[INFO] = "pending"
    say, told = hearing(lambda: standing.answer(*INFO, out="active"))
    swarm.join(paper, say=say)
    assert told == ["waiting for pi2 to be back in its Swarm: it looks for the other managers"]
    assert standing.sent("docker", "swarm") == []


def test_after_a_power_cut_of_all_an_election_is_waited_for(paper, standing):
    leaderless = Result((), 1, "", "Error response from daemon: rpc error: code = Unknown desc = "
                        "The swarm does not have a leader.")
    standing.answer(*LS, out=leaderless)
    say, told = hearing(lambda: standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3")))
    swarm.join(paper, say=say)
    assert told[0].startswith("waiting for a Swarm with a leader: no Pi answers as a manager")


@pytest.mark.parametrize("state", ["error", "locked"])
def test_a_pi_that_lost_its_swarm_is_named_with_the_remedy(paper, standing, state):
    standing[2].answers[INFO] = state
    with pytest.raises(swarm.SwarmError, match=f"pi3: its Swarm state is {state}; on that Pi: "
                       "docker swarm leave --force, then gislab up"):
        swarm.join(paper, say=lambda text: None)


def test_a_pi_that_does_not_answer_is_named(paper, fresh):
    fresh[1].answers[INFO] = Result((), 1, "", "Cannot connect to the Docker daemon")
    with pytest.raises(swarm.SwarmError, match="(?s)pi2 does not answer.*run: gislab up"):
        swarm.init(paper, say=lambda text: None)


def test_each_pi_is_labelled_for_its_database_member_once(paper, standing):
    swarm.label(paper, say=lambda text: None)
    assert [c for _, c in standing.sent("docker", "node", "update")] == [
        f"docker node update --label-add gislab.postgis={i} pi{i}" for i in (1, 2, 3)]
    standing.forget()
    for i in (1, 2, 3):
        standing.answer(*LABEL, f"pi{i}", out=str(i))
    swarm.label(paper, say=lambda text: pytest.fail(text))
    assert standing.sent("docker", "node", "update") == []


def test_the_status_has_a_row_for_every_pi_of_the_lab(paper, standing):
    standing.answer(*LS, out=node_ls("pi1", "pi2", down=["pi2"]))
    table = swarm.status(paper).set_index("node")
    assert table.state.to_dict() == {"pi1": "Ready", "pi2": "Down", "pi3": "not in the Swarm"}
    assert table.manager.to_dict() == {"pi1": "Leader", "pi2": "Unreachable", "pi3": "-"}


def test_a_swarm_that_is_not_whole_is_told_by_its_number(paper, standing):
    standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3", down=["pi3"]))
    with pytest.raises(TimeoutError, match=r"the Swarm: .*only 2 of 3 managers Ready"):
        swarm.ready(paper, timeout=0)


def test_a_swarm_without_a_leader_at_this_moment_is_asked_again(paper, standing):
    """A Pi that has just got its power back must not end the wait at once."""
    standing.answer(*LS, out=NO_MANAGER)
    say, told = hearing(lambda: standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3")))
    swarm.ready(paper, say=say)
    assert told == ["waiting for the Swarm: no Pi answers as a manager of the Swarm; "
                    "run: gislab up"]


CONTROL = ("docker", "info", "--format", "{{.Swarm.ControlAvailable}}")


def _lost(standing) -> None:
    standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3", lost=["pi3"]))
    standing[2].answers[CONTROL] = "false"
    for verb in ("demote", "promote"):
        standing.answer("docker", "node", verb, "pi3")


def test_a_pi_that_swarm_has_lost_sight_of_registers_anew_when_it_did_not_by_itself(
        paper, standing, monkeypatch):
    _lost(standing)
    monkeypatch.setattr(swarm, "PATIENCE", 0)
    told = []
    with pytest.raises(TimeoutError, match="only 2 of 3 managers Ready"):
        swarm.ready(paper, say=told.append, timeout=0.01)
    orders = [command for _, command in standing.sent("docker", "node") if " ls " not in command]
    assert orders == ["docker node demote pi3", "docker node promote pi3"]
    assert "pi3: Swarm calls it Down, though it answers; it registers anew" in told


def test_nobody_is_a_worker_for_good_and_no_pi_without_power_is_touched(paper, standing):
    _lost(standing)
    standing[2].answers[CONTROL] = Result((), 1, "", "Cannot connect to the Docker daemon")
    with pytest.raises(CommandFailed):
        swarm.register_anew(paper, say=lambda text: None)
    assert standing.sent("docker", "node", "promote") == [("pi1", "docker node promote pi3")]
    standing.forget()
    standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3", down=["pi3"]))
    assert swarm.register_anew(paper) == [] and not standing.sent("docker", "node", "demote")


def test_a_pi_is_drained_and_waited_for(paper, standing, monkeypatch):
    """Both Swarm and the Pi itself say that nothing runs there any more."""
    monkeypatch.setattr(swarm.members, "members", lambda lab: WHOLE)
    monkeypatch.setattr(swarm.handover, "switchover", lambda *_, **__: pytest.fail("no need"))
    standing.answer("docker", "node", "ps", out="")
    standing.answer("docker", "ps", out="")
    standing.answer(*HAPROXY, out="h1")
    standing.answer("docker", "exec", "h1")
    told = []
    swarm.drain(paper, "pi2", say=told.append)
    assert [c for _, c in standing.sent("docker", "node", "update")] == [
        "docker node update --availability drain pi2"]
    assert told == ["pi2: drained, it runs nothing of the lab"]
    states = [c.split("replicas/postgis2 state ")[1].split()[0]
              for _, c in standing.sent("docker", "exec", "h1") if "set server" in c]
    assert sorted(states) == ["drain"] * 3 + ["ready"] * 3
    standing.answer("docker", "ps", out="gis_mapserver.1.x")
    with pytest.raises(TimeoutError, match=r"pi2 to be empty: .*\(1 tasks still stop\)"):
        swarm.drain(paper, "pi2", say=told.append, timeout=0)


def test_the_primarys_pi_is_drained_when_another_one_leads(paper, standing, monkeypatch):
    """And readers leave the one that is to lead before its promotion would cut them off."""
    done = []
    monkeypatch.setattr(swarm.members, "members", lambda lab: WHOLE)
    monkeypatch.setattr(swarm, "_haproxies", lambda lab, order: done.append(order) or [])
    monkeypatch.setattr(swarm.handover, "switchover", lambda lab, to, say: done.append(to))
    standing.answer("docker", "node", "ps", out="")
    standing.answer("docker", "ps", out="")
    swarm.drain(paper, "pi1", say=lambda text: None)
    assert [order for order in done if order != "show stat"] == [
        "set server replicas/postgis3 state drain", "postgis3",
        "set server replicas/postgis3 state ready", "set server replicas/postgis1 state drain",
        "set server replicas/postgis1 state ready"]


def test_who_still_reads_from_a_pi_is_counted_over_every_haproxy(paper, standing):
    standing.answer(*HAPROXY, out="h1")
    standing.answer("docker", "exec", "h1", out="# pxname,svname,qcur,qmax,scur\n"
                    "replicas,postgis1,0,0,7,9\nreplicas,postgis2,0,0,2,9\nstats,BACKEND,0,0,,")
    with pytest.raises(wait.NotYet, match="6 connections"):
        swarm._unread(paper, "postgis2")
    standing.answer("docker", "exec", "h1",
                    out="replicas,postgis1,0,0,7,9\nreplicas,postgis2,0,0,0,9")
    swarm._unread(paper, "postgis2")


def test_a_second_pi_is_not_drained(paper, standing):
    """Two of three away: neither Consul nor the database would have a majority."""
    standing.answer(*LS, out=node_ls("pi1", "pi2", "pi3").replace(
        '"Active","EngineVersion":"26.1.5+dfsg1","Hostname":"pi3"',
        '"Drain","EngineVersion":"26.1.5+dfsg1","Hostname":"pi3"'))
    with pytest.raises(swarm.SwarmError, match="pi2 cannot be drained while pi3 does not serve: "
                       ".*no majority. Run: gislab activate pi3"):
        swarm.drain(paper, "pi2")
    assert standing.sent("docker", "node", "update") == []


def test_a_drained_pi_takes_services_again(paper, standing):
    swarm.activate(paper, "pi2", say=lambda text: None)
    assert standing.sent("docker", "node", "update")[0][1].endswith("--availability active pi2")


@pytest.mark.live
def test_every_pi_of_the_lab_is_a_manager(whole):
    table = swarm.status(whole)
    assert table.state.tolist() == ["Ready"] * 3
    assert sorted(table.manager) == ["Leader", "Reachable", "Reachable"]


@pytest.mark.live
def test_a_pi_registers_anew_and_what_runs_there_goes_on(whole, monkeypatch):
    """As if Swarm had lost sight of one, which cannot be had at will."""
    seen = swarm.status(whole)
    name = seen[seen.manager == "Reachable"].node.iloc[0]
    seen.loc[seen.node == name, "state"] = "Down"
    lost = nodes.get(whole, name)
    runs = lost.docker("ps", "--quiet", "--filter", "label=com.docker.swarm.task.id")
    with monkeypatch.context() as blind:
        blind.setattr(swarm, "status", lambda lab: seen)
        assert swarm.register_anew(whole) == [name]
    swarm.ready(whole, timeout=40)
    assert lost.docker("ps", "--quiet", "--filter", "label=com.docker.swarm.task.id") == runs
    cluster.ready(whole, timeout=60)
