"""A planned change is judged by what clients noticed before, during and after it."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
from recorded import node_ls  # noqa: F401  (the recorded Pis' module is found from here)

from gislab import (
    catalog,
    change,
    engine,
    holders,
    images,
    nodes,
    outage,
    plot,
    registry,
    run,
    stack,
    swarm,
    vip,
)

SAMPLES = [("maps", t / 10, 0.010 if t < 50 else 0.020 if t < 80 else 0.030, "ok")
           for t in range(100)]
EVENTS = [(5.0, "strike", "3 to 5", "x"), (8.0, "undo", "", "x"), (8.0, "undone", "", "x")]


def made(samples=SAMPLES) -> run.Run:
    return run.make(samples, EVENTS, settings={
        "title": "3 to 5", "fault": "x", "kind": "virtual", "map_server": "mapserver"})


def test_each_phase_has_its_own_latency():
    line = change.table(made()).iloc[0]
    assert [line[f"p50 {p} [ms]"] for p in change.PHASES] == [10, 20, 30]
    assert (line["asked"], line["failed"], line["took [s]"]) == (100, 0, 3)


def test_a_failed_and_an_unanswered_question_both_count():
    bad = SAMPLES + [("maps", 6.0, 0.1, "failed"), ("maps", 6.1, 2.0, "unknown")]
    assert change.table(made(bad)).iloc[0]["failed"] == 2


def test_a_phase_without_an_answer_has_no_latency():
    early = [s for s in SAMPLES if s[1] < 5]
    assert change.table([made(early)]).isna().iloc[0]["p99 after [ms]"]


def test_a_change_is_drawn_like_a_fault():
    assert plot.timeline(made()).alt.startswith("Timeline of the run '3 to 5'")


def test_a_change_under_writers_numbers_its_rows_from_where_it_is_told(paper, pis, monkeypatch):
    """From 0 they would be those of earlier runs, and count as doubled."""
    asked = {}
    pis.answer("perl", out="1.00\tvip\t\there\n")

    class Stop(Exception):
        pass

    def vip(lab, **how):
        asked.update(how)
        raise Stop
    monkeypatch.setattr(change.probe, "vip", vip)
    with pytest.raises(Stop):
        change.measure(paper, "x", lambda: None, lanes=("sql_write",), rate=10, first=7000)
    assert asked["first"] == 7000 and asked["lanes"] == ("sql_write",)


LOAD = {"before": 4, "after": 4, "rate": 5, "say": lambda text: None}


def nothing_failed(result: run.Run) -> None:
    line = change.table(result)
    print(line.to_string())
    assert set(line["probe"]) == set(change.LANES) and line["asked"].min() > 35
    bad = result.samples[result.samples["outcome"] != "ok"]
    assert bad.empty, bad.to_string()


def spread(lab) -> list[str]:
    """Return the Pis of the map servers; never all on one."""
    found = [node.name for node, _ in stack.containers(lab, "mapserver")]
    assert len(set(found)) > 1
    return found


@pytest.mark.live
@pytest.mark.long  # notebook 06 does the same in every run of the tests, and checks it
def test_map_servers_grow_to_five_and_shrink_to_three_and_nobody_notices(whole, tmp_path):
    """0 failed; no Pi ever has all of them, nor more than two."""
    grown = change.measure(whole, "3 to 5", lambda: stack.scale(whole, "mapserver", 5),
                           folder=tmp_path / "5", **LOAD)
    five = spread(whole)
    shrunk = change.measure(whole, "5 to 3", lambda: stack.scale(whole, "mapserver", 3),
                            folder=tmp_path / "3", **LOAD)
    assert len(five) == 5 and max(map(five.count, five)) == 2
    assert len(spread(whole)) == 3
    nothing_failed(grown)
    nothing_failed(shrunk)


@pytest.fixture
def newer(whole, tmp_path, monkeypatch):
    """The map server's image after a change of its Dockerfile, where the Pis can pull it."""
    folder = shutil.copytree(images.FOLDER, tmp_path / "images")
    with (folder / whole.serves / "Dockerfile").open("a") as file:
        file.write("LABEL gislab.test=newer\n")
    with monkeypatch.context() as patch:
        patch.setattr(images, "FOLDER", folder)
        images.build(whole, [whole.serves], say=lambda text: None)
        registry.push(whole, say=lambda text: None)
        tag, reference = images.tag(whole, whole.serves), registry.reference(whole, whole.serves)
    assert reference != registry.reference(whole, whole.serves)
    yield reference
    engine.client().images.remove(tag, force=True)


@pytest.mark.live
def test_an_upgrade_replaces_every_map_server_and_nobody_notices(whole, newer, tmp_path):
    """By another image, one after another, each when the one before holds the catalog."""
    before = {container for _, container in stack.containers(whole, "mapserver")}
    quiet = {"say": lambda text: None}
    try:
        result = change.measure(whole, "update", lambda: stack.update(
            whole, "mapserver", newer, **quiet), folder=tmp_path / "u", **LOAD)
        after = {container for _, container in stack.containers(whole, "mapserver")}
        assert len(after) == len(before) and not after & before
        assert stack.digests(whole)[whole.serves].startswith(newer.rpartition(":")[2] + "@")
        spread(whole)
        assert catalog.status(whole)["state"].eq("current").sum() == len(after)
    finally:
        stack.update(whole, "mapserver", **quiet)
    nothing_failed(result)


@pytest.mark.live
def test_an_image_that_does_not_run_stops_the_upgrade_and_the_others_serve_on(whole):
    """A bad image costs one server of three, and a word with the remedy."""
    wrong = registry.reference(whole, "haproxy")  # runs, but is no map server
    with pytest.raises(stack.StackError, match="(paused|rollback).*gislab up"):
        stack.update(whole, "mapserver", wrong, say=lambda text: None, timeout=120)
    assert len([c for c in stack.containers(whole, "mapserver")]) >= 2
    stack.update(whole, "mapserver", say=lambda text: None)


@pytest.mark.live
@pytest.mark.parametrize("holds_the_vip", [
    pytest.param(False, id="another", marks=pytest.mark.long),  # notebook 06 does this one, too
    pytest.param(True, id="holder")])
def test_a_pi_is_drained_and_comes_back_and_nobody_notices(whole, tmp_path, holds_the_vip):
    """Maintenance of a Pi: its services move, then return.

    Where it holds the VIP, what is asked while the address moves fails, and no more.
    """
    name = next(n.name for n in nodes.all(whole) if (n.name == vip.holder(whole)) is holds_the_vip)
    quiet = {"say": lambda text: None}
    try:
        gone = change.measure(whole, "drain", lambda: swarm.drain(whole, name, **quiet),
                              folder=tmp_path / "d", **LOAD)
        assert name not in spread(whole)
        assert vip.holder(whole) not in (None, name)
        assert nodes.get(whole, name).docker("ps", "-q", "--filter",
                                             "label=com.docker.swarm.task.id") == ""
    finally:
        swarm.activate(whole, name, **quiet)
    stack.wait(whole, say=None)
    back = change.measure(whole, "spread", lambda: stack.spread(whole, **quiet),
                          folder=tmp_path / "s", **LOAD)
    assert sorted(spread(whole)) == sorted(n.name for n in nodes.all(whole))
    if holds_the_vip:
        for lane in change.LANES:
            seen = outage.of(gone, lane)
            assert seen.recovered and seen.outage < 2, seen
    else:
        nothing_failed(gone)
    nothing_failed(back)


@pytest.mark.live
def test_a_published_style_arrives_under_load_and_nobody_notices(whole, tmp_path):
    said = []
    dots = catalog.Style("dots", "point", (catalog.Rule("x", fill="#ff0000", size=9),))
    was = catalog.current(whole)
    result = change.measure(whole, "publish", lambda: catalog.put(
        whole, was.with_style(dots), say=said.append), folder=tmp_path / "p", **LOAD)
    catalog.put(whole, was, say=said.append)
    nothing_failed(result)


@pytest.fixture
def watched(pis, monkeypatch):
    """Three Pis of which the first says what it holds, at once; nobody answers at the VIP."""
    monkeypatch.setattr(change.probe, "WARM", 0)  # it is measured all the same
    pis[0].answers["perl",] = "1.00\tvip\t\there\n1.00\tprimary\t\tpostgis2\n"
    for remote in pis[1:]:
        remote.answers["perl",] = "1.00\tvip\t\taway\n1.00\tprimary\t\tpostgis2\n"
    return pis


def test_a_change_is_kept_with_what_the_parts_said_and_its_timeline_shows_it(
        paper, watched, tmp_path):
    """Nobody answers here; that is no hindrance to watching."""
    made = change.measure(paper, "a change", lambda: None, before=0.5, after=0.5, rate=5,
                          folder=tmp_path / "c", say=lambda text: None)
    kept = run.load(tmp_path / "c")
    for one in (made, kept):
        assert set(one.system["node"]) == {"pi1", "pi2", "pi3"}
        assert {row: [s.who for s in spans] for row, spans in holders.spans(one).items()} == {
            "vip": ["pi1"], "primary": ["postgis2"]}
    assert "VIP: pi1; primary: postgis2" in plot.timeline(kept).alt
    with (tmp_path / "c" / "run.json").open() as head:
        assert json.load(head)["format"] == 2 == run.FORMAT


def test_measuring_ends_when_the_change_fails(paper, watched):
    """The probes stop, and the mistake is told."""
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        change.measure(paper, "x", lambda: 1 / 0, before=0, after=0, rate=1)
    assert threading.active_count() <= before
