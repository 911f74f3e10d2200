"""How often what is measured on the standing lab is as long as theory says; it is printed, too."""

import pytest

from gislab import experiment, trials

pytestmark = [pytest.mark.live, pytest.mark.long,
              pytest.mark.timeout(1200, func_only=True)]
LANES = ("maps", "write_primary")
SHARE = 2 / 3  # of all trials and lanes; a lab with much else to do is late now and then
QUICK = dict(before=2, during=1, after=1, settle=3, lanes=LANES)


def test_two_thirds_of_what_is_measured_lie_between_best_and_worst(whole, tmp_path):
    """The address, the lock, and both with Consul's gossip: three faults, each three times."""
    runs = [run for fault in ("haproxy_killed", "primary_killed", "power_cut")
            for run in experiment.repeat(whole, fault, 3, folder=tmp_path / fault, **QUICK)]
    found = trials.inside(runs)
    print(found.to_string())
    share = found["inside"].sum() / found["trials"].sum()
    print(f"{share:.0%} of {found['trials'].sum()} outages were as long as predicted")
    assert found["trials"].tolist() == [3] * 6, "a lane was not asked"
    assert share >= SHARE, found.to_string()


def test_theory_holds_most_of_the_time(whole, tmp_path):
    """Where nothing but timers decides: the address moves, and the proxy's death is noticed."""
    runs = experiment.repeat(whole, "haproxy_killed", 10, folder=tmp_path / "trials", **QUICK)
    found = trials.inside(runs)
    print(found.to_string())
    assert (found["inside"] >= 7).all(), found.to_string()
