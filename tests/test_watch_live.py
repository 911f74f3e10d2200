"""What the parts say of themselves, on the standing lab, and what that costs."""

import time

import pytest

from gislab import experiment, holders, nodes, outage, phases, postgis, stack, vip, watch
from gislab.wait import NotYet, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300, func_only=True)]
KINDS = {"vip", "primary", "server", "consul_leader", "swarm_leader", "task", "haproxy", "consul",
         "docker", "watch"}


def heard(watched, began, wanted) -> dict:
    """Wait until every Pi has told every kind; return (node, kind, what) -> state."""
    def ask() -> dict:
        states = {(node, kind, what): state
                  for _, node, kind, what, state in watched.seen(began) if kind != "watch"}
        missing = {(node, kind) for node in wanted for kind in KINDS - {"watch"}} - {
            key[:2] for key in states}
        if missing:
            raise NotYet(f"not told: {sorted(missing)}")
        return states
    return until(ask, what="every Pi to tell everything", timeout=20)


def programs(lab) -> dict[str, list[str]]:
    """Return for each Pi the processor seconds of each perl on it, from /proc."""
    script = ("for p in /proc/[0-9]*; do read -r c < $p/comm; "
              "test \"$c\" = perl && cut -d' ' -f14,15 $p/stat; done 2> /dev/null; true")
    return {node.name: node.run(["sh", "-c", script]).out.split("\n")[:-1]
            for node in nodes.all(lab)}


def test_every_pi_tells_what_is_so(whole):
    names = [m.name for m in whole.machines]
    with watch.Watch(whole) as watched:
        states = heard(watched, time.monotonic(), names)
    assert [n for n in names if states[n, "vip", ""] == "here"] == vip.holders(whole)
    primary = postgis.primary(whole)
    assert {states[n, "primary", ""] for n in names} == {primary}
    for name in names:
        assert states[name, "server", f"primary/{primary}"] == "UP"
        assert states[name, "haproxy", ""] == states[name, "consul", ""] == "answers"
        assert states[name, "consul_leader", ""] in names
        assert states[name, "swarm_leader", ""] in names
        up = [key for key, state in states.items()
              if key[:2] == (name, "server") and key[2].startswith("maps/") and state == "UP"]
        assert len(up) == len(stack.containers(whole, "mapserver"))
        assert states[name, "task", "haproxy"] == "running"


def test_an_address_that_comes_for_less_than_a_look_is_told(whole):
    """A false takeover is over in some hundredths of a second."""
    other, *_ = [node for node in nodes.all(whole) if node.name not in vip.holders(whole)]
    with watch.Watch(whole) as watched:
        began = time.monotonic()
        heard(watched, began, [m.name for m in whole.machines])
        other.run(["sh", "-ec", f"ip addr add {whole.vip}/32 dev lo; ip addr del {whole.vip}/32 "
                                "dev lo"])

        def told() -> list[str]:
            states = [state for _, node, kind, _, state in watched.seen(began)
                      if (node, kind) == (other.name, "vip")]
            if len(states) < 3:
                raise NotYet(f"told: {states}")
            return states
        assert until(told, what="a visit", timeout=5) == ["away", "here", "away"]


def test_watching_costs_a_pi_about_a_hundredth_of_a_processor_and_leaves_nothing(whole):
    with watch.Watch(whole) as watched:
        heard(watched, time.monotonic(), [m.name for m in whole.machines])
        before, begin = programs(whole), time.monotonic()
        until(lambda: _later(begin + 10), what="ten seconds", timeout=30)
        after, seconds = programs(whole), time.monotonic() - begin
    for node, (ticks,) in after.items():  # one program on each
        spent = sum(map(int, ticks.split())) - sum(map(int, before[node][0].split()))
        print(f"{node}: {spent / 100 / seconds:.2%} of a processor")
        assert spent / 100 / seconds < 0.025
    until(lambda: _none(programs(whole)), what="the programs to end", timeout=10)


def test_the_phases_of_a_real_failover_are_told(whole, tmp_path):
    former = postgis.primary(whole)
    run = experiment.measure(whole, "primary_container_killed", before=2, after=2,
                             folder=tmp_path / "run")
    assert run.settings["images"].keys() >= {"haproxy", "postgis", "consul", "keepalived"}
    assert all("@sha256:" in digest for digest in run.settings["images"].values())
    assert set(run.system["kind"]) >= KINDS
    told = phases.of(run, "write_primary")
    assert told.move and told.move.former == former
    assert told.move.holder == postgis.primary(whole)
    # the check's two seconds, though Swarm starts the next container sooner
    assert 0.5 < told.detect < 4 and told.decide >= 0 and told.serve >= 0
    assert [span.who for span in holders.spans(run)["primary"]] == [former, told.move.holder]
    assert outage.of(run, "write_primary").outage > told.detect


def _later(moment: float) -> None:
    if time.monotonic() < moment:
        raise NotYet("it runs")


def _none(found: dict[str, list[str]]) -> None:
    if any(found.values()):
        raise NotYet(str(found))
