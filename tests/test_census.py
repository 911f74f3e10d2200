"""Every single thing is found, killed once, and judged."""

import json

import invented
import pytest

from gislab import blows, census, experiment, faults, history, nodes, plot, run, stack

ROWS = [("consul", "pi1"), ("consul", "pi2"), ("haproxy", "pi1"), ("postgis1", "pi1"),
        ("postgis2", "pi2"), ("mapserver", "pi2"), ("mapserver", "pi2")]


@pytest.fixture
def swarm(pis):
    pis.answer("docker", "node", "ls", out="x")
    pis.answer("docker", "stack", "ps", out="\n".join(json.dumps({
        "ID": "t1", "Name": f"gis_{service}.1", "Node": pi, "Error": "",
        "CurrentState": "Running 3 minutes ago"}) for service, pi in ROWS))
    return pis


def test_things_are_containers_and_whole_pis_in_the_order_of_the_stack(paper, swarm):
    found = census.things(paper)
    assert found[["service", "node"]].values.tolist() == [
        ["consul", "pi1"], ["consul", "pi2"], ["postgis1", "pi1"], ["postgis2", "pi2"],
        ["mapserver", "pi2"], ["haproxy", "pi1"],
        ["power", "pi1"], ["power", "pi2"], ["power", "pi3"], ["registry", "this machine"]]
    assert census._fault(paper, "registry", "this machine").name == "registry_lost"
    alone = census.things(paper, kinds=("registry",))
    assert len(alone) == 1 and census.things(paper, kinds=("registry",), pis=("pi1",)).empty


def test_a_subset_is_chosen_by_kind_and_by_pi(paper, swarm):
    found = census.things(paper, kinds=("postgis", "power"), pis=("pi2",))
    assert found[["service", "node"]].values.tolist() == [["postgis2", "pi2"], ["power", "pi2"]]
    with pytest.raises(ValueError, match="there is no tomcat; there are consul, .*power, "
                       "registry, pi1"):
        census.things(paper, kinds=("tomcat",))
    with pytest.raises(ValueError, match="there is no pi9"):
        census.things(paper, pis=("pi9",))


def test_each_is_killed_once_with_a_fault_of_its_own_and_goes_on_after_an_interrupt(
        paper, swarm, monkeypatch, tmp_path):
    struck, told = [], []

    def measure(lab, fault, *, folder, about, say, **how):
        if len(struck) == 2:
            struck.append("interrupted")
            raise KeyboardInterrupt
        struck.append((fault.name, fault.title))
        assert how["lanes"] == census.LANES and how["recovery"] == 30
        made = run.make([("maps", 0.1, 0.01, "ok")], settings={"fault": fault.name, **about})
        made.save(folder)
    monkeypatch.setattr(experiment, "measure", measure)
    what = census.things(paper, kinds=("consul", "power"), pis=("pi1", "pi2"))
    with pytest.raises(KeyboardInterrupt):
        census.kill_each(paper, what, folder=tmp_path, say=told.append)
    census.kill_each(paper, what, folder=tmp_path, say=told.append)
    assert struck == [("service_killed", "consul on pi1 killed"),
                      ("service_killed", "consul on pi2 killed"), "interrupted",
                      ("pi_power_cut", "power cut: any Pi"), ("pi_power_cut", "power cut: any Pi")]
    assert told[-1].startswith("4 of 4: power of pi2: ")
    with pytest.raises(experiment.ExperimentError, match="consul of pi1, not of power of pi1"):
        census.kill_each(paper, what[2:], folder=tmp_path, say=told.append)


def test_the_container_on_that_pi_is_the_victim_and_its_service_is_waited_for(
        paper, swarm, monkeypatch):
    for number, remote in enumerate(swarm, 1):
        remote.answers["docker", "ps", "-q", "--no-trunc", "--filter",
                       "label=com.docker.swarm.service.name=gis_consul"] = f"c{number}"
        remote.answers["docker", "kill"] = ""
    monkeypatch.setattr(blows, "replaced", lambda service: lambda lab, target: mended
                        .append((service, target.node)))
    mended = []
    with faults.service_killed(paper, "consul", "pi2"):
        assert swarm.sent("docker", "kill") == [("pi2", "docker kill --signal KILL c2")]
    assert mended == [("consul", "pi2")] and nodes.get(paper, "pi2").name == "pi2"
    with pytest.raises(faults.FaultError, match="pi9 runs no consul"):
        faults.service_killed(paper, "consul", "pi9").aim()
    assert stack.NAME == "gis"


def judged(*, bad=(), back=True, held=None):
    """Struck at 2 s, undone at 8; `bad` numbers of questions fail, and all after if not back."""
    samples = [(lane, n / 10, 0.01, "failed" if n in bad or (not back and 20 <= n < 80) else "ok",
                "", n if lane == "sql_write" else None)
               for lane in ("maps", "sql_write") for n in range(100)]
    written = [n for *_, outcome, _, n in samples if outcome == "ok" and n is not None]
    rows = history.reads({"primary postgis1": dict.fromkeys(written if held is None else held, 1)})
    return run.make(samples, [(2.0, "strike"), (8.0, "undo"), (9.0, "undone")], rows=rows,
                    settings={"thing": "consul of pi1", "kind": "virtual",
                              "map_server": "mapserver", "fault": "service_killed"})


@pytest.mark.parametrize("made, said, lives", [
    (judged(), "survived, not noticed", True),
    (judged(bad=range(20, 30)), "survived, 1.1 s", True),
    (judged(back=False), "a single point of failure for maps, sql_write", False),
    (judged(held=range(98)), "2 acknowledged writes are lost", False)])
def test_the_verdict_says_whether_a_death_was_survived(made, said, lives):
    assert census.verdict(made).startswith(said) and census.survived(made) is lives
    line, = census.table([made]).to_dict("records")
    assert line["killed"] == "consul of pi1" and line["verdict"] == census.verdict(made)


def test_a_run_without_rows_is_no_survival():
    made = run.make(judged().samples, judged().events, settings=judged().settings)
    assert census.verdict(made).startswith("not known") and not census.survived(made)


def test_the_survey_shows_each_thing_and_who_did_not_come_back():
    runs = [judged(), judged(back=False), *invented.two_setups(1)]
    figure = plot.survey(runs)
    said = "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "consul of pi1" in said and "not back by itself" in said and "maps by MapServer" in said
    stuck = [line for line in figure.axes[0].lines if line.get_marker() == ">"]
    assert len(stuck) == 4  # two lanes, and the maps of 2016 under both faults
    assert "until mended by hand" in figure.alt
