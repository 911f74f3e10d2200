"""The standing lab under random faults: nothing is lost, and what is planted is found."""

import json
import os
import signal
import subprocess
import sys

import pytest

from gislab import (
    cluster,
    cuts,
    experiment,
    faults,
    nodes,
    outage,
    postgis,
    probe,
    run,
    stack,
    toll,
    torture,
)
from gislab.wait import NotYet, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(900, func_only=True)]


def paused(lab) -> list[str]:
    """Name the Pis on which a container is frozen."""
    return [node.name for node in nodes.all(lab)
            if node.docker("ps", "-q", "--filter", "status=paused")]


def stopped(lab) -> str:
    """Return the state letters of all of PostgreSQL's processes, T being a stopped one."""
    script = ("for f in /proc/[0-9]*/stat; do read -r _ name state _ < $f; "
              "[ \"$name\" = '(postgres)' ] && printf $state; done; true")
    return "".join(node.docker("exec", container, "bash", "-c", script)
                   for member in ("postgis1", "postgis2", "postgis3")
                   for node, container in stack.containers(lab, member))


def test_a_short_torture_loses_nothing_and_names_its_seed(whole, tmp_path):
    ordeal = torture.inflict(whole, seconds=60, seed=11, names=torture.QUICK,
                             folder=tmp_path / "report")
    assert ordeal.safe, ordeal.complaints
    assert ordeal.recovered, ordeal.run.events.to_string()
    print(toll.primaries(ordeal.run))
    assert toll.rivals(ordeal.run) is not None, "nobody watched who was primary"
    verdict = ordeal.verdict
    assert verdict.acknowledged > 100 and len(verdict.readings) == 3
    assert len(set(ordeal.run.settings["hashes"].values())) == 1
    kept = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert kept["replay"] == "make torture SECONDS=60 SEED=11" and kept["faults"]
    assert cuts.cuts(whole) == dict.fromkeys(("pi1", "pi2", "pi3"), 0) and paused(whole) == []


def test_a_planted_loss_and_a_planted_double_are_found_on_every_member(whole):
    """The checker reads what is really there: without this its zeros would prove nothing."""
    first = experiment.first_row(whole)
    with probe.writers(whole, first=first) as probes:
        probes.watch(3)
    samples, end = probes.samples(), first + len(probes.lanes) * probe.HALF
    good = samples[samples["outcome"] == "ok"]["row"].astype(int).tolist()
    calm = outage.writes(run.make(samples, rows=experiment.final_reads(whole, first, end)))
    assert calm.safe and calm.acknowledged == len(good) > 40
    with postgis.connect(whole, port=whole.ports.primary) as connection:
        connection.execute("delete from lab.writes where id = %s", (good[0],))
        connection.execute("insert into lab.writes select * from lab.writes where id = %s",
                           (good[1],))
    found = outage.writes(run.make(samples, rows=experiment.final_reads(whole, first, end)))
    assert [r.lost for r in found.readings] == [(good[0],)] * 3
    assert found.doubled == (good[1],) and found.unexpected == () and not found.safe


def test_every_acknowledgement_names_a_server_and_the_timeline_of_today(whole):
    before = set(postgis.members(whole)["timeline"])
    with probe.writers(whole, first=experiment.first_row(whole)) as probes:
        probes.watch(2)
    samples = probes.samples()
    told = samples[samples["outcome"] == "ok"]["detail"].str.extract(r"timeline (\d+)$")[0]
    assert set(told.astype(int)) == before and len(before) == 1


def test_a_cut_is_one_way_where_it_is_asked_to_be_and_none_is_left(whole):
    one, two, three = nodes.all(whole)

    def talks(node, other) -> bool:  # TCP: it needs both directions
        return node.run(["timeout", "2", "bash", "-c", f": < /dev/tcp/{other.address}/22"],
                        check=False).code == 0
    counter = ["-p", "tcp", "--dport", "22", "-m", "mac", "--mac-source",
               cuts.hardware_address(one)]
    assert talks(one, two) and talks(two, three)
    try:
        cuts.cut(whole, cuts.deaf(whole, "pi1"))
        assert cuts.cuts(whole) == {"pi1": 2, "pi2": 0, "pi3": 0}
        two.run(["iptables", "-t", "raw", "-I", "PREROUTING", *counter])
        assert not talks(one, two) and not talks(two, one) and talks(two, three)
        seen = two.run(["iptables", "-t", "raw", "-L", "PREROUTING", "-vnx"]).out
        assert int(seen.splitlines()[2].split()[0]) > 0, f"nothing of pi1 arrived:\n{seen}"
    finally:
        two.run(["iptables", "-t", "raw", "-D", "PREROUTING", *counter], check=False)
        cuts.mend(whole)
    assert cuts.cuts(whole) == {"pi1": 0, "pi2": 0, "pi3": 0} and talks(one, two)
    cluster.ready(whole)


def test_a_frozen_postgres_is_ended_and_another_member_takes_over(whole):
    """Left frozen it would keep its role until its session ends, after ten seconds and more."""
    former = postgis.primary(whole)
    with faults.primary_frozen(whole):
        def replaced() -> None:
            if postgis.primary(whole) == former:
                raise NotYet(f"{former} is primary still")
        until(replaced, what="another primary", timeout=30, every=0.2)
    assert "T" not in stopped(whole)


def test_a_killed_drivers_cut_is_mended_by_the_next_command(whole):
    fault = faults.primary_cut_off(whole)
    fault.aim()
    fault.remember()
    fault.strike()
    assert sum(cuts.cuts(whole).values()) == 4
    assert experiment.heal(whole) == "primary_cut_off"
    assert sum(cuts.cuts(whole).values()) == 0


def test_ctrl_c_in_a_torture_undoes_the_fault_and_reports(whole, tmp_path):
    script = ("import sys; from gislab import settings, torture; lab = settings.make("
              f"{{'name': {whole.name!r}, 'subnet': {whole.subnet!r}}}); "
              "torture.inflict(lab, seconds=60, names=['primary_paused'], folder=sys.argv[1])")
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "report")],
                              env={**os.environ, "GISLAB_LAB": ""}, start_new_session=True,
                              # heard also where a shell started us in the background
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def frozen() -> None:
        assert driver.poll() is None, "it ended before its first fault"
        if not paused(whole):
            raise NotYet("nothing is frozen yet")
    until(frozen, what="the fault", timeout=120, every=0.3)
    os.killpg(driver.pid, signal.SIGINT)
    assert driver.wait(timeout=400) == 0
    assert paused(whole) == [] and experiment.heal(whole) is None
    kept = json.loads((tmp_path / "report" / "verdict.json").read_text())
    assert kept["ended"] == "interrupted" and kept["safe"], kept["complaints"]
    cluster.ready(whole, timeout=30)
