"""The set-up of 2016 on the standing lab: it answers, breaks as it did, and leaves no trace."""

import pytest

from gislab import (
    check,
    cluster,
    comparison,
    experiment,
    faults2016,
    nodes,
    outage,
    setup2016,
    stack,
    vip,
)

pytestmark = [pytest.mark.live, pytest.mark.long, pytest.mark.timeout(1500, func_only=True)]
HOW = {"before": 3, "after": 1, "recovery": 25, "lanes": comparison.LANES}


@pytest.fixture(scope="module")
def runs(lab, tmp_path_factory):
    """One run of each fault on the set-up of 2016; ours stands again when they are done."""
    cluster.ready(lab)
    found = {}
    with setup2016.standing(lab):
        assert len(vip.holders(lab)) == 2 and setup2016.lacking(lab) == []
        assert faults2016.answering(lab) in vip.holders(lab)
        for name in faults2016.ALL:
            found[name] = experiment.measure(lab, name, **HOW,
                                             folder=tmp_path_factory.mktemp(name))
    return found


def test_before_the_strike_every_question_is_answered(runs):
    for name, run in runs.items():
        calm = run.samples[run.samples["sent"] < run.at("strike") - 0.5]
        assert set(calm["outcome"]) == {"ok"}, name


def test_each_run_says_on_which_set_up_it_was_made_and_whom_it_struck(runs):
    assert {comparison.setup(run) for run in runs.values()} == {"2016"}
    assert runs["primary_killed"].settings["target"] == "postgis1 on pi1"
    assert "with the VIP and postgis" in runs["power_cut"].settings["target"]


def test_a_dead_map_server_goes_on_being_asked_until_somebody_comes(runs):
    found = comparison.cost(runs["map_server_killed"], "maps")
    assert found.stuck and 0.1 < found.share < 0.9


def test_a_dead_haproxy_keeps_the_vip_and_its_clients_have_no_maps(runs):
    assert comparison.cost(runs["haproxy_killed"], "maps").stuck
    assert not comparison.cost(runs["haproxy_killed"], "sql_write").failed


def test_what_pgpool_acknowledged_meanwhile_is_on_one_server_only(runs):
    verdict = outage.writes(runs["primary_killed"])
    assert verdict.readers == ("server postgis1", "server postgis2")
    assert verdict.acknowledged > 20 and verdict.torn and not verdict.doubled


def test_ours_stands_again_and_nothing_of_2016_is_left(runs, whole):
    check.stack(whole)
    check.database(whole)
    check.maps(whole)
    assert not setup2016.stands(whole)
    for node in nodes.all(whole):
        assert setup2016.VOLUME not in node.docker("volume", "ls", "-q").split()
    assert "mapserver1" not in set(stack.tasks(whole)["service"])
