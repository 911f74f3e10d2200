"""Checks say what is right, or raise a short error that ends with the next command to type."""

import invented
import pandas as pd
import pytest

from gislab import check, cluster, run, settings, stack, swarm, vip

LAB = settings.make({"map_server": "mapserver"})


def swarm_of(*managers, state="Ready"):
    return pd.DataFrame({"node": [f"pi{i + 1}" for i in range(len(managers))],
                         "state": state, "manager": managers})


def test_three_ready_managers_are_right(monkeypatch, capsys):
    monkeypatch.setattr(swarm, "status", lambda lab: swarm_of("Leader", "Reachable", "Reachable"))
    check.swarm(LAB)
    assert "ok: 3 Pis are Ready, all of them managers, pi1 leads" in capsys.readouterr().out


@pytest.mark.parametrize("table", [
    swarm_of("Leader", "Reachable", "-"),
    swarm_of("Leader", "Reachable", "Reachable", state="Down"),
    swarm_of("Reachable", "Reachable", "Reachable")])
def test_a_swarm_that_is_not_whole_fails_and_says_what_to_type(monkeypatch, table):
    monkeypatch.setattr(swarm, "status", lambda lab: table)
    with pytest.raises(check.CheckFailed, match="Next: gislab up"):
        check.swarm(LAB)


def test_two_holders_of_the_vip_are_a_failure(monkeypatch):
    monkeypatch.setattr(stack, "services", lambda lab: [{"Name": "gis_x", "Replicas": "3/3"}])
    monkeypatch.setattr(vip, "holders", lambda lab: ["pi1", "pi2"])
    with pytest.raises(check.CheckFailed, match="held by .'pi1', 'pi2'."):
        check.stack(LAB)


def test_a_missing_task_is_named(monkeypatch):
    monkeypatch.setattr(stack, "services", lambda lab: [{"Name": "gis_x", "Replicas": "2/3"}])
    with pytest.raises(check.CheckFailed, match="gis_x 2/3"):
        check.stack(LAB)


def test_map_servers_with_different_catalogs_fail(monkeypatch):
    table = pd.DataFrame({"answers": ["yes", "yes"], "catalog": ["a", "b"]})
    monkeypatch.setattr(cluster, "map_servers", lambda lab: table)
    with pytest.raises(check.CheckFailed, match="different catalogs"):
        check.maps(LAB)


def written(outcome="ok", rows=((1, 1),)):
    return run.make([("sql_write", 0.0, 0.01, outcome, "", 1),
                     ("sql_write", 1.0, 0.01, "ok", "", 2)],
                    settings={"fault": "power_cut"}, rows=[*rows, (2, 1)])


def test_no_lost_write_says_how_many_were_acknowledged(capsys):
    check.no_lost_writes([written()])
    assert "ok: power_cut: 2 acknowledged writes, 0 lost" in capsys.readouterr().out


def test_an_unanswered_write_that_happened_is_told_and_right(capsys):
    check.no_lost_writes(written("unknown"))
    assert "1 of 1 unanswered ones did happen" in capsys.readouterr().out


@pytest.mark.parametrize("broken, said", [
    (written(rows=()), "1 acknowledged writes are lost"),
    (written(rows=[(1, 2)]), "1 rows are there more than once"),
    (written("failed"), "1 rows are there that were refused")])
def test_a_broken_promise_fails(broken, said):
    with pytest.raises(check.CheckFailed, match=said):
        check.no_lost_writes(broken)


def test_a_failed_map_and_a_lane_that_did_not_recover_fail():
    bad = run.make([("maps", 0.0, 0.01, "ok"), ("maps", 1.0, 0.01, "failed")],
                   settings={"fault": "x"})
    with pytest.raises(check.CheckFailed, match="1 of 2 questions to maps failed"):
        check.no_failed(bad)
    with pytest.raises(check.CheckFailed, match="maps did not recover"):
        check.recovered(bad)
    with pytest.raises(check.CheckFailed, match="was not asked"):
        check.no_failed(bad, "features")


def test_a_single_point_of_failure_is_named_and_its_absence_told(capsys):
    from test_census import judged

    check.no_single_point_of_failure([judged(), judged(bad=range(20, 30))])
    assert "ok: 2 things died, and each was survived" in capsys.readouterr().out
    with pytest.raises(check.CheckFailed, match="consul of pi1: a single point of failure for "
                       "maps, sql_write. Next: look at plot.timeline"):
        check.no_single_point_of_failure([judged(), judged(back=False)])
    with pytest.raises(check.CheckFailed, match="no run is there"):
        check.no_single_point_of_failure([])


def test_who_took_over_from_one_that_was_alive_is_named(capsys):
    check.no_false_failover(invented.one("cpu_full", vip=None, lock=None))
    assert "ok: cpu_full: VIP and primary stayed" in capsys.readouterr().out
    for how, said in (({"vip": 0.7}, "VIP moved from pi1 to pi2"),
                      ({"lock": 1.4}, "primary moved from postgis1 to postgis2")):
        with pytest.raises(check.CheckFailed, match=said):
            check.no_false_failover(invented.one("cpu_full", **{"vip": None, "lock": None, **how}))
    with pytest.raises(check.CheckFailed, match="nobody told who held the VIP"):
        check.no_false_failover(invented.one("cpu_full", seen=False))
