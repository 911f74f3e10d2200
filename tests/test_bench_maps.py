"""The bench of maps: what it makes of its trials, that it goes on, that the lab is as before."""

import asyncio
import re

import pandas as pd
import pytest
from bench import bench_maps, growth, maps, series, verdicts

from gislab import cluster, images, probe, question, run, shell, stack

HEAD = {"kind": "virtual", "map_server": "mapserver", "images": {"mapserver": "1@a"}}


def grown(rate=20, used=5.0, idle=0.1, failed=0):
    """A Run of one number of map servers: `rate` maps a second, from 10 s to 20 s on its clock."""
    samples = [("maps", n / rate - 0.5, 0.5, "failed" if 0 < n - 10 * rate <= failed else "ok")
               for n in range(30 * rate)]
    at = [(10, "begin", 1.0), (20, "end", 1.0 + used), (21, "rest", 7.0), (26, "rested", 7 + idle)]
    # two containers, of which each uses half
    system = [(t, "pi1", kind, box, str(seconds / 2)) for t, kind, seconds in at for box in "ab"]
    return run.make(samples, [(t, kind) for t, kind, _ in at], settings=HEAD, system=system)


def remembered(**mb):
    return run.make([], settings=HEAD, system=[
        (0.0, node, "memory", part, str(size)) for node in ("pi1", "pi2")
        for part, size in mb.items()])


def sizes(**mb):
    return run.make([], settings=HEAD, system=[(0.0, "", "image", name, str(size))
                                               for name, size in mb.items()])


def trials(used, n=bench_maps.TRIALS):
    """Trials that come to 20 maps a second with any number of servers, at these seconds each."""
    return {growth.name(count): {i: grown(used=seconds) for i in range(1, n + 1)}
            for count, seconds in zip(growth.COUNTS, used, strict=True)}


def shown(kept, server="mapserver"):
    """Return (what, set-up) -> line of the table."""
    table = verdicts.table(bench_maps.records(kept), bench_maps.goals(server))
    return {(line["what"], line["set-up"]): line for line in table.to_dict("records")}


def test_maps_are_counted_where_they_came_and_what_the_containers_used_is_added_up():
    one = {growth.name(1): {1: grown(rate=20, used=5.0, idle=0.1, failed=3)}}
    found = {line[1]: line[4:] for line in bench_maps.records(one)}
    per_second, failed, asked = found[bench_maps.RATE[1]]
    assert asked == pytest.approx(200, abs=1) and failed == 3
    assert per_second == pytest.approx((asked - 3) / 10)
    assert found[bench_maps.BUSY[1]][0] == pytest.approx(0.5)
    assert found[bench_maps.IDLE[1]][0] == pytest.approx(0.02)
    assert found[bench_maps.EACH[1]][0] == pytest.approx((asked - 3) / 5)
    assert bench_maps.GROWN[1] not in found, "one server is compared with itself"


@pytest.mark.parametrize("used, verdict", [((9.0, 9.0, 9.9), "yes"), ((9.0, 9.0, 10.2), "no")])
def test_what_a_processor_makes_must_stay_as_map_servers_grow(used, verdict):
    found = shown(trials(used))
    assert found[bench_maps.GROWN[1], "2 map servers"]["reached"] == "yes"
    assert found[bench_maps.GROWN[1], "3 map servers"]["reached"] == verdict
    assert found[bench_maps.RATE[1], "3 map servers"]["reached"] == ""


def test_a_server_is_compared_with_one_of_the_same_trial():
    kept = trials((9.0, 9.0, 9.0), n=2)
    for name in kept:  # the machine was twice as slow in the second trial
        kept[name][2] = grown(used=18.0)
    del kept[growth.name(2)][1], kept[growth.name(1)][2]
    made = [line for line in bench_maps.records(kept) if line[:2] == bench_maps.GROWN]
    assert [(setup, trial, value) for _, _, setup, trial, value, *_ in made] == [
        ("3 map servers", 1, pytest.approx(100))]
    assert shown(kept)[bench_maps.GROWN[1], "3 map servers"]["reached"] == "yes, 1 of 10 trials"


def test_memory_has_another_limit_with_geoserver_and_the_fullest_pi_counts():
    kept = {"memory": {i: remembered(postgis=300, dockerd=299.0) for i in range(1, 11)}}
    assert shown(kept)[bench_maps.HELD[1], "pi2"]["reached"] == "yes"
    kept["memory"][4] = remembered(postgis=300, dockerd=302.0)
    assert shown(kept)[bench_maps.HELD[1], "pi1"]["reached"] == "no"
    assert shown(kept, "geoserver")[bench_maps.HELD[1], "pi1"]["reached"] == "yes"


def test_an_image_is_measured_once_and_that_of_mapserver_has_no_target():
    found = shown({"images": {1: sizes(mapserver=324.0, postgis=301.0)}})
    assert found["image of postgis", "ours"]["reached"] == "no"
    assert found["image of mapserver", "ours"]["reached"] == ""
    found = shown({"images": {1: sizes(geoserver=325.0, postgis=299.0)}}, "geoserver")
    assert {line["reached"] for line in found.values()} == {"yes"}


@pytest.mark.parametrize("text, seconds", [
    ("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n10481471058\n", 10.481471058),
    ("usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n", 2.5),
    ("usage_usec 0\nuser_usec 0\n3000000000\n", 3.0)])
def test_both_versions_of_control_groups_are_understood(text, seconds):
    assert growth.used(text) == pytest.approx(seconds)


def test_a_container_that_is_gone_is_no_container_that_used_nothing():
    with pytest.raises(growth.GrowthError, match="gislab status"):
        growth.used("")


MEMORY = """gis_postgis2.1.x8q 143.2MiB / 768MiB
gis_mapserver.1.k2 28.5MiB / 768MiB
gis_mapserver.3.k3 0.5GiB / 768MiB
60240 30000 dockerd
20120 20000 containerd
4000 12000 containerd-shim
5000 13000 containerd-shim
5000 4000 sshd
"""


def test_memory_is_added_up_by_part_and_docker_is_one():
    found = growth.parts(MEMORY)
    assert set(found) == {"postgis", "mapserver", growth.ENGINE}
    assert found["postgis"] == pytest.approx(150.2, abs=0.1)
    assert found["mapserver"] == pytest.approx(29.9 + 536.9, abs=0.1)
    assert found[growth.ENGINE] == pytest.approx(152360 * 1024 / 1e6)


@pytest.mark.parametrize("told", ["0B / 0B", "-- / --"])
def test_a_kernel_that_does_not_count_memory_makes_no_number(told):
    with pytest.raises(growth.GrowthError, match="docs/faults.md"):
        growth.parts(f"gis_haproxy.1.a {told}")


def test_a_trial_that_lacks_one_number_of_servers_is_done_anew(tmp_path, paper, monkeypatch):
    for count in growth.COUNTS:
        grown().save(series.path(tmp_path, growth.name(count), 1))
    grown().save(series.path(tmp_path, growth.name(2), 2))
    remembered(postgis=1).save(series.path(tmp_path, "memory", 3))
    assert bench_maps.grown(tmp_path, 3) == [2, 3]
    done, scaled = [], []
    monkeypatch.setattr(growth, "sized", lambda *_: done.append("sizes"))
    monkeypatch.setattr(growth, "grown", lambda lab, folder, n: done.append(("grown", n)))
    monkeypatch.setattr(growth, "remembered", lambda lab, folder, n: done.append(("memory", n)))
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    monkeypatch.setattr(stack, "containers", lambda lab, service: [()] * 4)
    monkeypatch.setattr(stack, "scale", lambda lab, what, count, **how: scaled.append(count))
    bench_maps.measure(paper, bench_maps.ROWS, 3, tmp_path)
    assert done == ["sizes", ("grown", 2), ("grown", 3), ("memory", 1), ("memory", 2)]
    assert scaled == [4], "there are as many as before"
    with pytest.raises(KeyboardInterrupt), growth.as_before(paper):
        raise KeyboardInterrupt
    assert scaled == [4, 4]
    bench_maps.measure(paper, (10,), 1, tmp_path)
    assert scaled == [4, 4], "nothing is touched where nothing is missing"


class Drawer:
    """A question to which a whole map comes at once."""

    def __init__(self, url, *, judge, timeout, connect):
        assert f"WIDTH={growth.SIZE}" in url and "LAYERS=alive" in url
        self.timeout = timeout

    async def ask(self, number):
        return ""

    def row(self, number):
        return None

    async def close(self):
        pass


@pytest.fixture
def drawn(pis, paper, monkeypatch):
    """A lab whose map servers draw at once; each time one is read, it has used a second more."""
    for name, value in (("WARM", 2), ("SECONDS", 0.3), ("CALM", 0.05), ("COUNTS", (2,))):
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr(question, "Maps", Drawer)
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    monkeypatch.setattr(stack, "scale", lambda lab, service, count, **how: None)
    monkeypatch.setattr(stack, "spread", lambda lab, **how: None)
    pis.answer("sh", "-c")
    pis.answer("docker", "ps", out="abc")
    monkeypatch.setattr(stack, "digests", lambda lab: {"mapserver": "1@a"})
    for remote in pis:
        asked = remote.commands

        def find(args, remote=remote, asked=asked, former=remote.run, **how):
            if args[0] != "find":
                return former(args, **how)
            asked.append(tuple(args))
            return shell.Result(tuple(args), 1, f"{10**9 * remote.speed * len(asked)}\n", "gone")
        remote.speed, remote.run = 1, find
    return pis


def test_a_trial_is_kept_with_what_each_container_used_and_makes_a_line(drawn, paper, tmp_path):
    growth.grown(paper, tmp_path, 1)
    made = bench_maps.records({growth.name(2): series.runs(tmp_path, growth.name(2))})
    found = {line[1]: line[4] for line in made}
    # each of the three was found to have used a second more at each reading
    assert found[bench_maps.RATE[1]] / found[bench_maps.BUSY[1]] == pytest.approx(
        found[bench_maps.EACH[1]]) and found[bench_maps.EACH[1]] > 5
    (kept,) = series.runs(tmp_path, growth.name(2)).values()
    assert list(kept.events["kind"]) == ["begin", "end", "rest", "rested"]
    assert kept.system.groupby("kind")["node"].nunique().tolist() == [3] * 4
    assert kept.settings["servers"] == 2


def test_a_trial_in_which_a_map_server_was_not_asked_is_none(drawn, paper, tmp_path):
    drawn[2].speed = 0
    with pytest.raises(growth.GrowthError, match="did not ask all map servers alike"):
        growth.grown(paper, tmp_path, 1)
    assert bench_maps.grown(tmp_path, 1) == [1]


def test_memory_is_read_on_every_pi_after_maps_were_asked_for(drawn, paper, tmp_path):
    drawn.answer("sh", "-c", growth._MEMORY, out=MEMORY)
    growth.remembered(paper, tmp_path, 1)
    found = bench_maps.memory({"memory": series.runs(tmp_path, "memory")})
    assert set(found["node"]) == {m.name for m in paper.machines} and len(found) == 9


def test_clients_ask_again_only_when_they_have_their_answer(monkeypatch, paper):
    """Twice as many clients as servers, never more: a closed loop."""
    at_once, most = [], []

    class Slow(Drawer):
        async def ask(self, number):
            at_once.append(number)
            most.append(len(at_once))
            await asyncio.sleep(0.02)
            at_once.pop()
            return ""
    monkeypatch.setattr(question, "Maps", Slow)
    monkeypatch.setattr(growth, "WARM", 10)
    with growth._loaded(paper, 3) as probes:
        assert isinstance(probes, probe.Probes)
    assert max(most) == growth.CLIENTS * 3


def test_what_is_no_whole_map_is_no_map(paper):
    class Answer:
        status_code, content = 200, b"<ServiceException/>"
    with pytest.raises(question.Failed, match="not a PNG"):
        growth._whole(Answer)
    Answer.status_code = 503
    with pytest.raises(question.Failed, match="HTTP 503"):
        growth._whole(Answer)


def test_the_sizes_are_those_that_the_engine_tells(paper, tmp_path, monkeypatch):
    monkeypatch.setattr(stack, "digests", lambda lab: {})
    monkeypatch.setattr(images, "build", lambda lab, only, say: pd.DataFrame(
        {"image": only, "size MB": [324.04, 299.0]}))
    growth.sized(paper, tmp_path)
    made = bench_maps.records({"images": series.runs(tmp_path, "images")})
    assert [line[1:5] for line in made] == [("image of mapserver", "ours", 1, 324.0),
                                            ("image of postgis", "ours", 1, 299.0)]


def test_the_page_stands_apart_for_each_map_server_and_tells_how_to_have_it_again(
        tmp_path, paper, capsys):
    folder = tmp_path / "trials" / "mapserver"
    for name, kept in trials((9.0, 9.0, 9.9), n=2).items():
        for number, one in kept.items():
            one.save(series.path(folder, name, number))
    remembered(postgis=300, dockerd=299.0).save(series.path(folder, "memory", 1))
    other = sizes(mapserver=324.0, postgis=299.0)
    other.settings["images"] = {"mapserver": "2@b"}
    other.save(series.path(folder, "images", 1))
    words = ["--report", "--trials", "2", "--output", str(tmp_path / "docs")]
    assert bench_maps.main(words, lab=paper, folder=tmp_path / "trials") == 0
    text = (tmp_path / "docs/bench-maps-mapserver.md").read_text()
    assert 'make bench-maps ARGS="--trials 2"' in text and "processors" in text
    assert "none is to spare" in text and "909 MB" in text and str(tmp_path) not in text
    assert "2 builds" in text and "delete the older" in capsys.readouterr().out
    assert (tmp_path / "docs/bench-maps-mapserver.png").read_bytes()[:4] == b"\x89PNG"
    assert re.search(r"^\| dockerd \| 299 \| 299 \|$", text, re.MULTILINE)
    wide = [line for line in text.splitlines() if re.match(r"\| 1[024] ", line)]
    assert len(wide) == 4 * 3 + 2 + 2 + 2 and {line.count("|") for line in wide} == {12}


def test_there_is_no_page_of_nothing(tmp_path, paper):
    with pytest.raises(SystemExit, match="no trial"):
        bench_maps.main(["--report", "--output", str(tmp_path)], lab=paper, folder=tmp_path)


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
def test_the_bench_in_short_loses_no_map_and_leaves_the_lab_as_it_was(whole, tmp_path):
    """`make bench-maps ARGS=--quick`: one trial of each row."""
    before = len(stack.containers(whole, "mapserver"))
    assert bench_maps.main(["--quick", "--output", str(tmp_path)], lab=whole,
                           folder=tmp_path / "trials") == 0
    kept = bench_maps.runs(tmp_path / "trials" / whole.serves, bench_maps.ROWS)
    found = {(line["row"], line["what"], line["setup"]): line
             for line in verdicts.lines(bench_maps.records(kept))}
    for count in growth.COUNTS:
        line = found[(*bench_maps.RATE, f"{count} map server" + "s" * (count > 1))]
        assert line["failed"] == 0 and line["asked"] > 20
    assert all(100 < found[(*bench_maps.HELD, m.name)]["median"] < 4000 for m in whole.machines)
    assert len(stack.containers(whole, "mapserver")) == before == maps.SERVERS
    assert (tmp_path / f"bench-maps-{whole.serves}.md").exists()
