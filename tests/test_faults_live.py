"""Faults on the standing lab: what a client sees of them, and that everything comes back."""

import pytest

from gislab import check, cluster, experiment, faults, outage, postgis, probe, run, stack, vip

pytestmark = [pytest.mark.live, pytest.mark.timeout(300, func_only=True)]
QUICK = dict(before=2, after=2)


def measured(lab, fault, tmp_path, **how):
    return experiment.measure(lab, fault, folder=tmp_path / "run", **{**QUICK, **how})


def promise_kept(run):
    """No acknowledged write lost, none doubled or unexpected, and every lane is back."""
    writes = outage.writes(run)
    assert writes.safe and writes.acknowledged > 20, writes
    assert len(writes.readings) == 3, "not every member was read"
    assert all(outage.of(run, p).recovered for p in run.probes), outage.table(run).to_string()


def test_a_killed_map_server_costs_no_failed_map(whole, tmp_path):
    run = measured(whole, "map_server_killed", tmp_path, rate=20, lanes=("maps",))
    maps = outage.of(run, "maps")
    assert maps.failed + maps.unknown == 0 and maps.asked > 50


def test_the_vip_answers_again_after_its_haproxy_is_killed(whole, tmp_path):
    holder = vip.holder(whole)
    run = measured(whole, "haproxy_killed", tmp_path)
    promise_kept(run)
    assert outage.of(run, "maps").outage < 3
    assert vip.holders(whole) != [holder], "the VIP stayed with the Pi whose HAProxy died"


def test_no_acknowledged_write_is_lost_when_the_primarys_postmaster_is_killed(whole, tmp_path):
    former = postgis.primary(whole)
    run = measured(whole, "primary_killed", tmp_path)
    promise_kept(run)
    assert postgis.primary(whole) != former
    assert outage.of(run, "maps").outage < 3


def test_a_pi_whose_power_was_cut_comes_back_into_everything(whole, tmp_path):
    """The VIP answers again while the Pi is dark; then it takes up all its duties unaided."""
    fault = faults.power_cut(whole)
    node = fault.aim().node
    run = measured(whole, fault, tmp_path)
    promise_kept(run)
    assert outage.of(run, "maps").outage < 5 and outage.of(run, "sql_write").outage < 20
    assert run.at("not recovered") is None
    status = cluster.status(whole)  # measure has waited until all was whole
    row = status.nodes[status.nodes["node"] == node].iloc[0]
    assert row["state"] == "Ready" and row["manager"] in ("Reachable", "Leader")
    check.stack(whole)  # a Consul server that returns has its vote again within seconds
    for service in ("consul", "pgpool", "haproxy", "keepalived"):
        assert node in [n.name for n, _ in stack.containers(whole, service)], service
    members = postgis.members(whole)
    assert (members["state"] == "streaming").sum() == 2


LONG = (("primary_frozen", 60), ("primary_paused", 60), ("link_cut", 15), ("ring_cut", 10),
        ("consul_leader_lost", 5), ("primary_and_standby_dark", 10))


@pytest.mark.parametrize("name, during", [
    ("primary_frozen", 10), ("primary_paused", 10), ("primary_cut_off", 15),
    ("primary_deaf", 15), ("primary_mute", 15), ("consul_majority_lost", 15),
    *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)])
def test_no_acknowledged_write_is_lost_and_no_former_primary_acknowledges(
        whole, tmp_path, name, during):
    """Whatever is frozen, cut or lost; and once it is undone, the lab is whole by itself."""
    run = measured(whole, name, tmp_path, during=during, recovery=1, after=1,
                   lanes=("sql_read", "sql_write", "write_primary"))
    promise_kept(run)


@pytest.mark.long
def test_with_two_of_three_pis_dark_a_write_is_refused_with_a_named_error(whole, tmp_path):
    run = measured(whole, "primary_and_standby_dark", tmp_path, during=12, recovery=1, after=1,
                   lanes=("sql_write", "write_primary"))
    promise_kept(run)
    struck, undo = run.at("struck"), run.at("undo")
    dark = run.samples[run.samples["sent"].between(struck + 2, undo - 2)]
    assert len(dark) > 20 and "ok" not in set(dark["outcome"]), "acknowledged by one Pi alone"
    assert (dark["detail"].str.len() > 0).all()


def test_the_fault_of_a_killed_driver_is_undone_by_the_next_command(whole):
    """A driver that dies leaves a dark Pi behind; the next command brings it back."""
    fault = faults.power_cut(whole)
    fault.aim()
    fault.remember()
    fault.strike()
    assert experiment.heal(whole) == "power_cut"
    cluster.ready(whole, timeout=5)


def test_a_calm_lab_answers_every_question_on_every_lane(whole):
    lanes = (*probe.LANES, "features")
    first = experiment.first_row(whole)
    with probe.vip(whole, lanes=lanes, first=first) as probes:
        probes.watch(3)
    samples = probes.samples()
    bad = samples[samples["outcome"] != "ok"]
    assert bad.empty, bad[["probe", "detail"]].drop_duplicates().to_string()
    assert samples.groupby("probe").size().min() > 20
    rows = experiment.final_reads(whole, first, first + 2 * probe.HALF)
    found = outage.writes(run.make(samples, rows=rows))
    assert found.safe and found.acknowledged == samples["row"].notna().sum()
    assert len(found.readings) == 3
