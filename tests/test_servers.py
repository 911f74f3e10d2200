"""What map servers hold is told by themselves; who cannot report is told, too."""

from __future__ import annotations

import time

import pytest
from recorded import Store

from gislab import catalog, cluster, consul, nodes, stack
from gislab.catalog import CatalogError, servers
from gislab.shell import Result
from gislab.wait import NotYet

ONE, TWO = ("pi1", "aaaaaaaaaaaa"), ("pi2", "bbbbbbbbbbbb")


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr(consul, "of", lambda lab: made)
    return made


def report(one, version=7, **more):
    return {"node": one[0], "id": one[1], "server": "mapserver", "version": version,
            "hash": "abc", "state": "holds", "wanted": version, "since": time.time(), "said": "",
            "done": "", "doing": ""} | more


def test_a_server_that_runs_and_does_not_report_is_listed_as_silent(store, paper):
    """Its version is not known; what is gone is not listed."""
    store.reports = [report(ONE)]
    table = catalog.status(paper, [ONE, TWO])
    assert table[["server", "node", "version"]].values.tolist() == [
        ["mapserver aaaaaaaaaaaa", "pi1", 7], ["mapserver bbbbbbbbbbbb", "pi2", "-"]]
    assert table["state"].tolist() == ["current", "silent: it runs, and does not report"]
    assert len(catalog.status(paper)) == len(catalog.status(paper, [ONE])) == 1


def test_publishing_waits_for_a_server_that_has_not_reported_yet(store, paper):
    """It may have begun just now; and a report of another version is not enough."""
    store.reports, said, looks = [report(ONE)], [], []

    def running():
        looks.append(len(store.reports))
        store.reports = [report(ONE), report(TWO, 6 if len(looks) == 1 else 7)]
        return [ONE, TWO, ("pi3", "cccccccccccc")][:2 if len(looks) > 1 else 3]
    with pytest.raises(CatalogError, match="pi2 mapserver bbbbbbbbbbbb stale: 7 is current"):
        servers.held(paper, 7, said.append, 2, running)
    assert looks == [1] and len(said) == 1
    store.reports = [report(ONE)]
    servers.held(paper, 7, said.append, 5, running)
    assert looks == [1, 1, 2] and "pi2: mapserver bbbbbbbbbbbb holds" in said[-1]


def test_a_server_that_stays_silent_is_named_and_not_waited_for_in_vain(store, paper,
                                                                        monkeypatch):
    """The others hold the version; that one serves what it had."""
    monkeypatch.setattr(servers, "HEARD", 1)
    store.reports, said = [report(ONE)], []
    begin = time.monotonic()
    with pytest.raises(CatalogError, match="version 7 is current, and pi2 bbbbbbbbbbbb does not "
                                           "report: it cannot reach Consul.*gislab status"):
        servers.held(paper, 7, said.append, 60, lambda: [ONE, TWO])
    assert 1 < time.monotonic() - begin < 10
    assert len(said) == 1 and "pi1: mapserver aaaaaaaaaaaa holds version 7" in said[0]


def test_without_the_pis_only_those_that_report_are_waited_for(store, paper):
    store.reports = [report(ONE)]
    servers.held(paper, 7, lambda text: None, 1)


def test_servers_that_run_are_known_by_the_names_that_they_report(paper, pis):
    """A container's host name is the first 12 digits of its id; a dark Pi has none."""
    pis.answer("docker", "ps", out="0123456789abcdef0123\n")
    pis[1].answers["docker", "ps"] = Result((), 255, "", "No route to host")
    assert stack.running(paper, "mapserver") == [("pi1", "0123456789ab"), ("pi3", "0123456789ab")]


def test_a_lab_is_not_up_while_a_server_is_silent(store, paper, monkeypatch):
    monkeypatch.setattr(stack, "running", lambda lab, service: [ONE, TWO])
    store.reports = [report(ONE)]
    with pytest.raises(NotYet, match="pi2 silent"):
        cluster._catalog_held(paper)
    store.reports.append(report(TWO))
    cluster._catalog_held(paper)


def test_a_lab_is_asked_again_when_a_pi_does_not_answer_at_this_moment(store, paper, monkeypatch):
    def fail(lab, service):
        raise nodes.NodeError("pi2 does not answer")
    monkeypatch.setattr(stack, "running", fail)
    with pytest.raises(NotYet, match="pi2 does not answer"):
        cluster._catalog_held(paper)
