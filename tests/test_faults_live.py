"""Faults on the standing lab: what a client sees of them, and that everything comes back."""

import threading
import time

import pytest

from gislab import (
    check,
    cluster,
    delay,
    experiment,
    faults,
    history,
    nodes,
    outage,
    postgis,
    probe,
    run,
    stack,
    swarm,
    vip,
)
from gislab.wait import NotYet, until

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


SESSION = """export PGPASSWORD=$(cat /run/secrets/gis_password) PGAPPNAME=left_behind
    echo 'select 1 \\watch i=0.1' | timeout 30 psql -qAt -h "$VIP" -p "$PORT_PRIMARY" -U gis gis
    echo "ended with $?" """


def test_a_session_of_the_former_holders_containers_ends_when_the_vip_leaves(whole):
    """The next holder knows nothing of it: a reset tells so, not the wait for a lost answer."""
    former = vip.holder(whole)
    (node, pgpool), = (pair for pair in stack.containers(whole, "pgpool")
                       if pair[0].name == former)
    (_, keepalived), = (pair for pair in stack.containers(whole, "keepalived")
                        if pair[0].name == former)
    ended = []

    def ask() -> None:
        out = node.docker("exec", pgpool, "sh", "-c", SESSION, timeout=60)
        ended.append((time.monotonic(), out.splitlines()[-1]))
    session = threading.Thread(target=ask)
    session.start()

    def open_() -> None:
        with postgis.connect(whole, port=whole.ports.primary) as connection:
            if not connection.execute("select 1 from pg_stat_activity where "
                                      "application_name = 'left_behind'").fetchone():
                raise NotYet("not yet open")
    until(open_, what="the session", timeout=20)
    node.docker("kill", "-s", "TERM", keepalived)

    def gone() -> float:
        if vip.holder(whole) in (None, former):
            raise NotYet("not yet moved")
        return time.monotonic()
    moved = until(gone, what="another holder of the VIP", timeout=10, every=0.1)
    session.join()
    (at, said), = ended
    assert said == "ended with 2" and at - moved < 3, f"{said} after {at - moved:.1f} s"
    cluster.ready(whole, timeout=30)


def back(run, lane):
    """Return when the first answer came after the lane's last failure: it is right again.

    A write that waits gets through without any failure, so the successor's answer is awaited.
    """
    asked = run.samples[run.samples["probe"] == lane]
    bad = asked[asked["outcome"] != "ok"]["sent"].max()  # NaN: none
    later = asked[(asked["outcome"] == "ok") & ~(asked["sent"] <= bad)
                  & (asked["sent"] > run.at("strike"))]
    if lane in outage.LAYERS["writes"]:
        later = history.attempts(later)
        later = later[later["timeline"] == later["timeline"].max()]
    return (later["sent"] + later["took"]).min()


def test_no_acknowledged_write_is_lost_when_the_primarys_postmaster_is_killed(whole, tmp_path):
    """And Pgpool is right again, for writes and for reads, within a second of the primary."""
    former = postgis.primary(whole)
    # At ten a second on two slow cores, what is measured is how long the questions themselves
    # keep both waiting: Pgpool was up to 2.4 s behind then, and 0.2 s with five.
    run = measured(whole, "primary_killed", tmp_path, rate=5)
    promise_kept(run)
    assert postgis.primary(whole) != former
    assert outage.of(run, "maps").outage < 3
    direct = back(run, "write_primary")
    for lane in ("sql_write", "sql_read"):
        assert back(run, lane) - direct < 1, outage.table(run).to_string()


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
    assert run.at("undone") - run.at("undo") < 60, "whole again, from when it had power"
    assert len(set(postgis.content_hash(whole, "lab.writes").values())) == 1


LONG = (("primary_frozen", 60), ("primary_paused", 60), ("link_cut", 15), ("ring_cut", 10),
        ("consul_leader_lost", 5), ("primary_and_standby_dark", 10), ("primary_deaf", 15),
        ("primary_mute", 15))


@pytest.mark.parametrize("name, during", [
    ("primary_frozen", 10), ("primary_paused", 10), ("primary_cut_off", 15),
    ("consul_majority_lost", 15),
    *(pytest.param(*case, marks=pytest.mark.long) for case in LONG)])
def test_no_acknowledged_write_is_lost_and_no_former_primary_acknowledges(
        whole, tmp_path, name, during):
    """Whatever is frozen, cut or lost; and once it is undone, the lab is whole by itself."""
    run = measured(whole, name, tmp_path, during=during, recovery=1, after=1,
                   lanes=("sql_read", "sql_write", "write_primary"))
    promise_kept(run)


@pytest.mark.long
def test_nobody_takes_over_while_every_processor_is_busy(whole, tmp_path):
    """A false failover is as bad as a slow one."""
    run = measured(whole, "cpu_full", tmp_path, during=120, recovery=30)
    promise_kept(run)
    check.no_false_failover(run)


@pytest.mark.long
def test_with_two_of_three_pis_dark_a_write_is_refused_with_a_named_error(whole, tmp_path):
    run = measured(whole, "primary_and_standby_dark", tmp_path, during=12, recovery=1, after=1,
                   lanes=("sql_write", "write_primary"))
    promise_kept(run)
    struck, undo = run.at("struck"), run.at("undo")
    dark = run.samples[run.samples["sent"].between(struck + 2, undo - 2)]
    assert len(dark) > 20 and "ok" not in set(dark["outcome"]), "acknowledged by one Pi alone"
    assert (dark["detail"].str.len() > 0).all()


# What no test above strikes: for how many seconds it lasts, what it leaves open, and the longest
# outage of a lane that it may cost; of a lane that is not named, none is asked for.
OTHERS = {
    "switchover": (3, {}, {"sql_write": 10, "maps": 1}),
    "keepalived_killed": (3, {}, {"maps": 3}),
    "primary_container_killed": (5, {}, {"sql_write": 15, "maps": 3}),
    "pi_power_cut": (10, {"pick": 2}, {"maps": 5, "sql_write": 25}),
    "unplugged": (15, {}, {"maps": 5, "sql_write": 25}),
    "cpu_full": (10, {}, {}),
    "network_halves": (15, {}, {}),
    "swarm_leader_lost": (10, {}, {"maps": 5, "sql_write": 25}),
    "registry_lost": (5, {}, {"maps": 1, "sql_write": 1}),
    "lossy": (10, {}, {}),
    "slow": (10, {}, {}),
    "memory_limit": (10, {}, {"sql_write": 1}),
    "disk_full": (10, {}, {"maps": 1, "sql_write": 1}),
}
SERVICES = (("service_killed", "haproxy"), ("service_killed", "pgpool"),
            ("service_killed", "consul"), ("service_frozen", "haproxy"),
            ("service_frozen", "keepalived"), ("service_frozen", "pgpool"),
            ("service_frozen", "mapserver"))
DARK = ("primary_and_standby_dark", "swarm_majority_lost")
# every fault that some test of this file strikes; test_faults.py compares it with the catalog
TRIED = {*OTHERS, *DARK, *(name for name, _ in (*SERVICES, *LONG)), "map_server_killed",
         "haproxy_killed", "primary_killed", "power_cut", "primary_frozen", "primary_paused",
         "primary_cut_off", "primary_deaf", "primary_mute", "consul_majority_lost"}


def some(cases, *short):
    """Return cases, of which all but the short ones wait for --long."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)),
                         marks=() if case in short else pytest.mark.long) for case in cases]


@pytest.mark.parametrize("name", some(OTHERS, "keepalived_killed", "lossy"))
def test_a_fault_costs_no_more_than_it_may_and_the_lab_is_whole_after_it(whole, tmp_path, name):
    during, choice, most = OTHERS[name]
    run = measured(whole, faults.named(whole, name, **choice), tmp_path, during=during,
                   recovery=1 if name in ("network_halves", "lossy", "slow") else 40)
    promise_kept(run)
    for lane, seconds in most.items():
        assert outage.of(run, lane).outage <= seconds, outage.table(run).to_string()
    cluster.ready(whole, timeout=15)


@pytest.mark.parametrize("name, service", some(SERVICES, ("service_frozen", "haproxy")))
def test_any_service_may_be_killed_or_frozen(whole, tmp_path, name, service):
    run = measured(whole, faults.named(whole, name, service=service), tmp_path, during=8,
                   recovery=5)
    promise_kept(run)
    assert service in run.settings["title"] and service in run.settings["target"]


@pytest.mark.long
@pytest.mark.parametrize("service", ["consul", "haproxy", "keepalived", "pgpool", "postgis1"])
def test_a_service_that_ran_out_of_memory_is_back_within_a_minute(whole, tmp_path, service):
    before = _ended_by_the_kernel(whole, service)
    run = measured(whole, faults.named(whole, "memory_limit", service=service), tmp_path,
                   during=10, recovery=5)
    promise_kept(run)
    assert _ended_by_the_kernel(whole, service) - before, "nothing was ended"
    assert run.at("undone") - run.at("strike") < 60


def _ended_by_the_kernel(lab, service) -> set[str]:
    """Return those of a service's containers in which the kernel ended a process for memory."""
    found = ("for c in $(docker ps -aq --filter "
             f"label=com.docker.swarm.service.name=gis_{service}); do docker inspect --format "
             "'{{if .State.OOMKilled}}{{.Id}}{{end}}' $c; done")
    return {word for node in nodes.all(lab) for word in node.run(["sh", "-c", found]).out.split()}


LISTEN = """my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 7171, ReuseAddr => 1) or die;
    my $c = $s->accept; 1 while sysread $c, my $b, 65536; print $c "k" """
SEND = """my $c = IO::Socket::INET->new("$ARGV[0]:7171") or die; print $c "x" x 500_000;
    $c->flush; $c->shutdown(1); sysread $c, my $b, 1"""


def transfer(lab) -> float:
    """Return the seconds that half a megabyte takes from one Pi to another."""
    one, two, *_ = nodes.all(lab)
    perl = ["timeout", "30", "perl", "-MIO::Socket::INET", "-e"]
    listening = threading.Thread(target=two.run, args=([*perl, LISTEN],))
    listening.start()

    def send() -> float:
        start = time.monotonic()
        done = one.run([*perl, SEND, two.address], check=False)
        if done.code:
            raise NotYet(done.err)
        return time.monotonic() - start
    took = until(send, what="a listener", timeout=20)
    listening.join()
    return took


def test_a_slow_network_makes_answers_late_and_loses_no_write(whole, tmp_path):
    """The means is told with the run: not every kernel has netem."""
    run = measured(whole, "slow", tmp_path, during=8, recovery=1, lanes=("maps", "sql_write"))
    promise_kept(run)
    assert any(told in run.settings["target"] for told in delay.TOLD.values())
    before = transfer(whole)
    with faults.slow(whole):
        meanwhile = transfer(whole)
    assert meanwhile > before + 0.3 and meanwhile > transfer(whole) + 0.3


def test_a_fault_is_refused_while_another_pi_is_dark(whole):
    """Beyond repair is what two Pis of three may be; `force` is the word for wanting it."""
    with faults.named(whole, "pi_power_cut", pick=2), \
            pytest.raises(faults.FaultError, match="does not answer.*--force"):
        faults.pi_power_cut(whole, pick=1).aim()
    cluster.ready(whole, timeout=15)


@pytest.mark.long
def test_the_swarm_has_its_quorum_again_when_its_managers_have_power(whole, tmp_path):
    run = measured(whole, "swarm_majority_lost", tmp_path, during=10, recovery=1)
    promise_kept(run)
    swarm.ready(whole, timeout=15)


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
