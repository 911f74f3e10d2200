"""The whole lab: everything is there, a second `up` changes nothing, `status` tells it all."""

import httpx
import pandas as pd
import pytest

from gislab import backup, cluster, consul, nodes, stack, vip, wait
from gislab.wait import NotYet


def test_parts_that_do_not_answer_are_shown_as_such(paper, pis, monkeypatch):
    """Status is most wanted when something is broken."""
    def broken(*_):
        raise NotYet("no answer")
    monkeypatch.setattr(cluster.swarm, "status", lambda lab: pd.DataFrame(
        {"node": ["pi1", "pi2", "pi3"], "address": "x", "state": "Ready",
         "availability": "Active", "manager": "Reachable", "engine": "26.1"}))
    monkeypatch.setattr(cluster.stack, "tasks", lambda lab: pd.DataFrame(
        columns=["service", "node", "state", "since", "error"]))
    for module, name in ((cluster.vip, "holder"), (cluster.postgis, "members"),
                         (cluster.stack, "containers"), (cluster, "consul_peers")):
        monkeypatch.setattr(module, name, broken)
    now = cluster.status(paper)
    assert now.nodes.consul.tolist() == ["absent"] * 3 and now.nodes.vip.tolist() == [""] * 3
    assert now.database.empty and now.maps.empty
    assert "lab gislab (virtual), VIP 172.30.16.100, maps by mapserver" in str(now)


def test_a_part_that_never_answers_is_named_after_the_wait(paper, monkeypatch):
    def unelected(lab):
        raise NotYet("3 of 3 servers, no leader")
    monkeypatch.setattr(cluster.swarm, "whole", lambda lab: None)
    monkeypatch.setattr(cluster, "_tasks_run", lambda lab: None)
    monkeypatch.setattr(cluster, "_consul_whole", unelected)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(wait.time, "monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError, match="Consul: .*3 of 3 servers, no leader"):
        cluster.ready(paper, say=lambda text: None, timeout=0)


def test_consuls_servers_are_told_by_what_they_are_in_it(paper, monkeypatch):
    """Three that vote, one of them the leader, are whole; one that has just come back is not."""
    servers = [{"Node": f"pi{n}", "Leader": n == 2, "Voter": n != 3} for n in (1, 2, 3)]
    monkeypatch.setattr(consul.Consul, "ask", lambda self, method, path: {
        ("GET", "operator/raft/configuration"): httpx.Response(200, json={"Servers": servers}),
    }[method, path])
    assert cluster.consul_peers(paper) == {"pi1": "server", "pi2": "leader", "pi3": "no vote"}
    with pytest.raises(NotYet, match="2 of 3 servers vote, one leads"):
        cluster._consul_whole(paper)
    servers[2]["Voter"] = True
    cluster._consul_whole(paper)


def test_down_forgets_how_the_lab_stood_and_keeps_its_keys(paper, monkeypatch):
    """A restore that was left behind must not go on in the database of the next `up`."""
    monkeypatch.setattr(cluster.images.engine, "ensure", lambda say: None)
    monkeypatch.setattr(cluster.virtual, "down", lambda lab, say: None)
    keys = {"id_ed25519", "id_ed25519.pub", "id_backup", "registry-172.30.16.5.key"}
    notes = {"known_hosts", "map_server", "fault.json", "fault.lock"}
    for name in keys | notes:
        (paper.home / name).write_text("x")
    backup._journal(paper).write_text('{"to": "latest", "member": "postgis2", "restored": true}')
    paper.secret("gis_password")
    assert backup.unfinished(paper)
    cluster.down(paper, say=lambda text: None)
    assert {path.name for path in paper.home.iterdir()} == keys | {"secrets"}
    assert backup.unfinished(paper) is None


@pytest.mark.parametrize("outdated", [True, False])
def test_members_are_rolled_before_a_changed_stack_is_deployed(paper, monkeypatch, outdated):
    """The deployment itself would restart all three at once."""
    done = []
    monkeypatch.setattr(cluster.stack, "outdated", lambda lab: outdated)
    monkeypatch.setattr(cluster.handover, "roll_out", lambda lab, say: done.append("roll"))
    monkeypatch.setattr(cluster.stack, "deploy", lambda lab, say: done.append("deploy"))
    for module, name in ((cluster.catalog, "allow"), (cluster, "ready"),
                         (cluster.durability, "apply"), (cluster.scram, "apply")):
        monkeypatch.setattr(module, name, lambda lab, **how: None)
    cluster.serve(paper)
    assert done == ["roll"] * outdated + ["deploy"]


@pytest.fixture(scope="module")
def now(lab):
    cluster.ready(lab)
    return cluster.status(lab)


@pytest.mark.live
def test_three_pis_are_ready_managers_and_consul_servers_and_one_holds_the_vip(now):
    assert now.nodes.state.tolist() == ["Ready"] * 3
    assert sorted(now.nodes.manager) == ["Leader", "Reachable", "Reachable"]
    assert sorted(now.nodes.consul) == ["leader", "server", "server"]
    assert sorted(now.nodes.vip) == ["", "", "holds it"]


@pytest.mark.live
def test_one_primary_and_two_streaming_replicas_at_least_one_synchronous(now):
    roles = now.database.role.tolist()
    assert len(roles) == 3 and roles.count("leader") == 1
    assert (now.database.state == "streaming").sum() == 2
    # quorum: any one of the two acknowledges, so both may become primary without a loss
    assert set(roles) & {"sync_standby", "quorum_standby"}


@pytest.mark.live
def test_pgpool_haproxy_and_keepalived_run_on_every_pi(now):
    for runs in now.nodes.runs:
        assert {"consul", "pgpool", "haproxy", "keepalived"} <= set(runs.split(", "))


@pytest.mark.live
def test_three_map_servers_answer_with_one_catalog(now):
    assert now.maps.answers.tolist() == ["yes"] * 3
    assert now.maps.catalog.nunique() == 1 and now.maps.catalog[0] != "-"
    assert set(now.maps["map server"].str.split().str[0]) == {now.lab.serves}


@pytest.mark.live
def test_the_status_is_one_page_and_holds_no_secret(now):
    page = str(now) + now._repr_html_()
    assert f"maps by {now.lab.serves}" in page
    secrets = [path.read_text() for path in (now.lab.home / "secrets").iterdir()]
    assert not [value for value in secrets if value in page]


@pytest.mark.live
def test_a_second_up_changes_nothing_and_says_so(whole):
    def containers():
        return sorted(word for node in nodes.all(whole)
                      for word in node.docker("ps", "-q", "--no-trunc").split())
    before, told = containers(), []
    cluster.up(whole, say=told.append)
    assert containers() == before
    assert "nothing was changed" in told[-1] and f"stack {stack.NAME}: unchanged" in told


@pytest.mark.live
def test_one_pi_and_only_one_holds_the_vip(whole):
    assert len(vip.holders(whole)) == 1
