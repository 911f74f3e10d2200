"""Virtual Pis: power, cables, and a machine that is left as it was found."""

import pytest

from gislab import engine, nodes, settings, swarm, virtual
from gislab.wait import NotYet, until

pytestmark = pytest.mark.live


def silent(text):
    pass


def answer_in_time(node: nodes.Node, timeout: float = 60) -> None:
    def ask():
        if not node.answers():
            raise NotYet("no answer over SSH")
    until(ask, what=node.name, timeout=timeout)


def born(lab) -> dict[str, tuple[str, str]]:
    """Say of each Pi which container it is, and since when it runs."""
    found = {}
    for machine in lab.machines:
        container = engine.client().containers.get(f"{lab.name}-{machine.name}")
        found[machine.name] = (container.id, container.attrs["State"]["StartedAt"])
    return found


def test_a_second_up_changes_nothing_and_says_nothing(whole):
    before = born(whole)
    virtual.up(whole, nodes.public_key(whole), say=lambda text: pytest.fail(text))
    assert born(whole) == before


def test_a_pi_without_power_is_silent_and_the_others_are_not(whole):
    pi3 = nodes.get(whole, "pi3")
    try:
        nodes.power_cut(whole, "pi3")
        assert virtual.power(whole) == {"pi1": "running", "pi2": "running", "pi3": "exited"}
        assert not pi3.answers()
        assert [node.name for node in nodes.alive(whole)] == ["pi1", "pi2"]
        nodes.power_cut(whole, "pi3")  # twice is as good as once
        with pytest.raises(virtual.VirtualError, match="pi3 has no power; run: gislab power-on"):
            nodes.unplug(whole, "pi3")
    finally:
        nodes.power_on(whole, "pi3")
    assert pi3.answers() and virtual.power(whole)["pi3"] == "running"


def test_a_pi_that_had_no_power_is_a_manager_again_without_help(whole):
    nodes.power_cut(whole, "pi2")
    nodes.power_on(whole, "pi2")
    swarm.ready(whole, timeout=120)


def test_an_unplugged_pi_is_silent_but_its_programs_go_on(whole):
    pi3 = nodes.get(whole, "pi3")
    before = born(whole)["pi3"]
    try:
        nodes.unplug(whole, "pi3")
        assert not pi3.answers()
        assert virtual.power(whole)["pi3"] == "running"
    finally:
        nodes.plug(whole, "pi3")
    answer_in_time(pi3)
    assert born(whole)["pi3"] == before


def test_a_pi_whose_container_was_removed_comes_back_with_its_disk(whole):
    """Its place in the Swarm is on that disk."""
    pi3 = nodes.get(whole, "pi3")
    identity = pi3.docker("info", "--format", "{{.Swarm.NodeID}}")
    engine.client().containers.get(f"{whole.name}-pi3").remove(force=True)
    told = []
    nodes.up(whole, say=told.append)
    assert any(text.startswith("pi3: made at") for text in told)
    swarm.ready(whole, timeout=120)
    assert pi3.docker("info", "--format", "{{.Swarm.NodeID}}") == identity


def test_a_subnet_that_is_taken_is_one_clear_error_and_leaves_nothing(lab):
    other = settings.make({"name": "gislab-other", "subnet": lab.subnet})
    with pytest.raises(virtual.VirtualError, match=f"subnet {lab.subnet} is in use on this "
                       "machine .*take another in lab.toml") as caught:
        virtual.network(other, say=silent)
    assert "\n" not in str(caught.value) and virtual.leftovers(other) == []


def test_two_labs_stand_side_by_side_and_one_goes_without_the_other(lab):
    """The second lab is a network only: two whole ones are too much for a small machine."""
    other = settings.make({"name": "gislab-other", "subnet": "172.30.98.0/24"})
    before = virtual.leftovers(lab)
    try:
        virtual.network(other, say=silent)
        assert virtual.leftovers(other) == ["network gislab-other"]
        assert virtual.network(other, say=lambda text: pytest.fail(text)).name == "gislab-other"
    finally:
        virtual.down(other, say=silent)
    assert virtual.leftovers(other) == [] and virtual.leftovers(lab) == before


def test_down_where_nothing_stands_is_no_error(the_engine):
    told = []
    virtual.down(settings.make({"name": "gislab-never"}), say=told.append)
    assert told == ["lab gislab-never: no container, volume or network of it is left on this "
                    "machine"]


def test_a_pi_that_does_not_exist_is_told_with_the_next_command(the_engine):
    with pytest.raises(virtual.VirtualError, match="pi1 does not exist; run: gislab up"):
        virtual.power_on(settings.make({"name": "gislab-never"}), "pi1")


def test_no_pi_is_reached_but_over_ssh(lab):
    """No port of a Pi is published on this machine, and no Docker API listens on TCP."""
    for node in nodes.all(lab):
        container = engine.client().containers.get(f"{lab.name}-{node.name}")
        assert not any(container.attrs["HostConfig"]["PortBindings"] or {})
        listening = node.run(["ss", "-Hltn"]).out
        assert ":22 " in listening and ":2375 " not in listening and ":2376 " not in listening


def test_what_a_user_starts_weighs_no_more_than_all_containers(whole):
    """As on a Pi with systemd; else two busy processes would leave the containers a third."""
    node = nodes.alive(whole)[0]
    where = r"""
        sed -nE '/^([0-9]+:cpu(,cpuacct)?|0:):/ {s/.*[/]//p; q}' /proc/self/cgroup
        cd /sys/fs/cgroup; [ -e cgroup.controllers ] || cd cpu
        cat {user,docker}/cpu.{shares,weight} 2>/dev/null"""
    group, *weights = node.run(["bash", "-c", where], check=False).out.split()
    assert group == "user"
    assert len(weights) == 2 and weights[0] == weights[1], weights
