"""The bench of failover: what it makes of its trials, that it goes on, and that nothing stays."""

import dataclasses
import math
import re
import socketserver
import threading

import pandas as pd
import pytest
import yaml
from bench import (
    bench_database,
    bench_failover,
    doors,
    maps,
    records,
    series,
    verdicts,
    vips,
)

from gislab import cluster, faults, nodes, probe, run, settings, shell, stack, victims, vip
from gislab.settings import PROJECT

HEAD = {"kind": "virtual", "map_server": "mapserver", "images": {"haproxy": "1@a"}, "rate": 50}


def asked(lanes, *, gaps=None, until=40.0, rate=10, events=(), took=0.01):
    """A Run of lanes that are asked steadily, each without an answer from 10 s on for its gap."""
    samples = []
    for lane in lanes:
        for number in range(int(until * rate)):
            sent = number / rate
            away = 10 < sent < 10 + (gaps or {}).get(lane, 0)
            samples.append((lane, sent, 0.4 if away else took, "failed" if away else "ok"))
    return run.make(samples, events or [(10, "strike"), (10, "struck"), (35, "undo"),
                                        (39, "undone")], settings=HEAD)


def vip_runs(ours=(0.5,), one=(3.5,), five=(16.0,)):
    return {n: asked(["ours", "advert 1 s", "advert 5 s"],
                     gaps={"ours": a, "advert 1 s": b, "advert 5 s": c}, rate=50)
            for n, (a, b, c) in enumerate(zip(ours, one, five, strict=True), start=1)}


def way_runs(n=3, through=0.0102, direct=0.010):
    lanes = {f"{kind} {size}": took for size in maps.SIZES
             for kind, took in (("ours", through), ("direct", direct))}
    return {i: run.make([(lane, k, took, "ok") for k in range(9) for lane, took in lanes.items()],
                        settings=HEAD) for i in range(1, n + 1)}


def test_what_the_vip_was_away_for_is_told_beside_its_peers_trial_by_trial():
    found = verdicts.lines(records.of_vip(vip_runs((0.5, 0.4), (5, 8), (15, 16))))
    assert [line["setup"] for line in found] == ["ours", "advert 1 s", "advert 5 s"]
    ours, one, five = found
    assert ours["median"] == pytest.approx(0.45, abs=0.04) and ours["n"] == 2
    # 5 / 0.5 and 8 / 0.4, not 6.5 / 0.45
    assert one["times"] == pytest.approx(15, rel=0.1)
    assert verdicts.verdict(ours, found) == "yes, 2 of 20 trials"
    assert verdicts.verdict(one, found) == ""


def test_ten_times_quicker_than_adverts_of_a_second_is_part_of_the_target():
    found = verdicts.lines(records.of_vip(vip_runs((0.4,) * 20, (3.1,) * 20, (16,) * 20)))
    assert verdicts.verdict(found[0], found) == "no"


def test_what_comes_with_the_power_back_is_not_charged_to_the_vip():
    one = asked(["ours"], gaps={"ours": 0.5})
    late = one.samples["sent"].between(36, 38)
    one.samples.loc[late, "outcome"] = "failed"
    ((*_, value, _, _),) = records.of_vip({1: one})
    assert value < 1


def test_an_address_that_nobody_took_over_has_no_end_and_no_number_is_made_up():
    found = records.of_vip(vip_runs((40,), (3,), (16,)))
    assert found[0][4] == math.inf
    line = verdicts.lines(found)[0]
    assert line["not_recovered"] == 1 and verdicts.amount(line["median"], "s") == "no end"
    assert verdicts.verdict(line, [line]).startswith("no")


def test_a_write_that_was_lost_is_a_target_that_was_missed():
    columns = ["setup", "fault", "trial", "lane", "outage", "recovered", "lost", "acknowledged"]
    rows = [("ours", "power_cut", n, "write_primary", 2.0, True, int(n == 20), 100)
            for n in range(1, 21)]
    rows += [("Patroni's defaults", "power_cut", 1, "write_primary", 30.0, True, 0, 100),
             ("ours", "primary_frozen", 1, "write_primary", 1.0, True, 0, 100),
             ("no watcher, no relay", "power_cut", 1, "write_primary", 9.0, True, 0, 100),
             ("ours", "power_cut", 1, "sql_write", 9.0, True, 0, 100)]
    made = records.of_database(pd.DataFrame(rows, columns=columns), bench_failover.SETUPS)
    found = verdicts.lines(made)
    assert [(x["setup"], x["n"]) for x in found] == [("ours", 20), ("Patroni's defaults", 1)]
    assert found[1]["times"] == 15 and verdicts.verdict(found[0], found) == "no"
    none = [(*one[:5], 0, one[6]) for one in made]
    assert verdicts.verdict(verdicts.lines(none)[0], []) == "yes"
    ours, _ = verdicts.table(made).to_dict("records")
    assert ours["failed"] == "1 of 2,000 writes lost" and ours["median"] == "2 s"


def test_zero_failed_maps_count_only_when_enough_were_asked_for():
    events = [(10, "strike"), (35, "undone")]
    lanes = ["ours", doors.WITHOUT_RETRIES]
    runs = {n: asked(lanes, gaps={lanes[1]: 0.5}, until=20, rate=30, events=events)
            for n in range(1, 21)}
    ours, peer = [x for x in verdicts.table(records.of_killed(runs)).to_dict("records")
                  if x["what"] == records.KILLED[1]]
    assert ours["failed"] == "0 of 12,000" and ours["reached"] == "yes"
    assert peer["failed"].startswith("2") and peer["set-up"] == "HAProxy without retries"
    assert peer["times ours"] == "", "nothing is so many times as much as nothing"
    few = verdicts.table(records.of_scaled({1: runs[1]})).to_dict("records")[0]
    assert few["reached"] == "yes, 1 of 20 trials, 600 of 10,000 maps"


def test_maps_asked_for_after_the_kill_are_compared_with_the_calm_before_it():
    one = asked(["ours"], events=[(10, "strike"), (35, "undone")])
    one.samples.loc[one.samples["sent"] > 10, "took"] = 0.03
    (line,) = [x for x in verdicts.lines(records.of_killed({1: one}))
               if x["what"] == records.SLOWER[1]]
    assert line["median"] == pytest.approx(3)
    assert verdicts.verdict(line, []).startswith("no")


def test_what_the_way_costs_is_told_in_hundredths_of_the_map():
    found = {(x["what"], x["setup"]): x
             for x in verdicts.lines(records.of_way(way_runs(20, 0.0102, 0.010)))}
    small = found[f"{records.COST}, {maps.SIZES[0]} pixels", "ours"]
    assert small["median"] == pytest.approx(2) and small["n"] == 20
    assert verdicts.amount(small["median"] + 0.004, "%") == "2.00 %"
    assert found[f"a map of {maps.SIZES[0]} pixels", "direct"]["median"] == pytest.approx(10)


def test_a_pi_that_was_not_heard_for_a_while_took_nothing_over():
    here = [(0.0, "pi1", "vip", "", "here"), (0.0, "pi1", "primary", "", "postgis1"),
            (5.0, "pi1", "watch", "", "ends"), (6.0, "pi1", "watch", "", "begins"),
            (6.0, "pi1", "vip", "", "here")]
    moved = [*here, (8.0, "pi1", "vip", "", "away"), (8.5, "pi2", "vip", "", "here")]
    for system, expected in ((here, 0), (moved, 1)):
        one = run.make([("maps", n, 0.01, "ok") for n in range(20)], settings=HEAD, system=system)
        ((*_, value, _, _),) = records.of_busy({1: one})
        assert value == expected


def test_every_row_has_a_target_and_is_drawn(tmp_path):
    pairs = {1: asked(["ours", doors.WITHOUT_RETRIES]), 2: asked(["ours", doors.WITHOUT_RETRIES])}
    found = (records.of_vip(vip_runs()) + records.of_killed(pairs) + records.of_scaled(pairs)
             + records.of_way(way_runs()))
    found += [(*what, "ours", 1, 1.0, 0, 9) for what in records.FAULTS.values()]
    found += [(*records.BUSY, "ours", 1, 0, 0, 0)]
    assert {one[:2] for one in found} == set(verdicts.GOALS)
    picture = verdicts.figure(found, "virtual Pis")
    assert picture.png()[:4] == b"\x89PNG" and "row 1" in picture.alt
    for axis in picture.axes:  # colours alone tell nothing: each set-up has a line of its own
        shapes = {(line.get_marker(), line.get_ydata().min() // 1) for line in axis.lines
                  if line.get_marker() != "None"}
        assert len({marker for marker, _ in shapes}) == len(axis.get_yticks())


def test_a_stopped_bench_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    """A trial without its JSON was not measured to its end; those that there are stay."""
    runs = vip_runs((0.5, 0.5, 0.5), (3, 3, 3), (16, 16, 16))
    for number in (1, 3):
        runs[number].save(series.path(tmp_path, vips.NAME, number))
    (tmp_path / f"{vips.NAME}-02").mkdir()
    assert series.missing(tmp_path, vips.NAME, 4) == [2, 4]
    assert list(series.runs(tmp_path, vips.NAME)) == [1, 3]
    done = []
    bench_failover._each([2, 4], math.inf, "row 1", done.append)
    bench_failover._each([5], -math.inf, "row 1", done.append)
    assert done == [2, 4]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_database, "FOLDER", tmp_path / "database")
    folder = tmp_path / "failover"
    for name, runs in ((vips.NAME, vip_runs()), ("way", way_runs())):
        for number, one in runs.items():
            one.save(series.path(folder, name, number))
    return folder


def test_the_page_tells_how_to_have_it_again(kept, tmp_path, paper):
    words = ["--report", "--rows", "9", "1", "--peers", "6", "--output", str(tmp_path / "docs")]
    assert bench_failover.main(words, lab=paper, folder=kept) == 0
    text = (tmp_path / "docs/bench-failover.md").read_text()
    assert 'make bench-failover ARGS="--rows 1 9 --peers 6"' in text
    assert "holder loses power" in text and "builds of the images" not in text
    assert str(tmp_path) not in text and (tmp_path / "docs/bench-failover.png").stat().st_size
    header, rule, *lines = [x for x in text.splitlines() if x.startswith("|")]
    assert len(lines) == 3 + 3 * len(maps.SIZES)
    assert {len(re.findall(r"\|", line)) for line in (header, rule, *lines)} == {13}


def test_trials_of_the_bench_of_the_database_are_taken_from_where_that_keeps_them(kept):
    """Row 1 cuts the power for row 3, too: no number is measured twice."""
    one = asked(["write_primary", "sql_write"], gaps={"write_primary": 3, "sql_write": 4})
    one.save(series.path(bench_database.FOLDER / "ours", "power_cut", 7))
    (found,) = bench_failover.kept(kept, (2, 3))
    assert found[:4] == (*records.FAULTS["power_cut"], "ours", 7)
    assert found[4] == pytest.approx(3, abs=0.2)
    assert series.missing(bench_database.FOLDER / "ours", "power_cut", 8) == [*range(1, 7), 8]


def test_the_page_says_when_trials_of_two_builds_stand_together(kept, tmp_path, paper, capsys):
    other = way_runs(1)[1]
    other.settings["images"] = {"haproxy": "2@b"}
    other.save(series.path(kept, "way", 9))
    bench_failover.main(["--report", "--output", str(tmp_path)], lab=paper, folder=kept)
    assert "2 builds" in (tmp_path / "bench-failover.md").read_text()
    assert "delete the older" in capsys.readouterr().out


def test_the_peers_of_the_vip_have_addresses_and_routers_of_their_own_and_our_rights(paper):
    seen = vips.addresses(paper)
    assert list(seen) == ["ours", *vips.PEERS] and seen["ours"].vip == paper.vip
    last = [lab.vip.rpartition(".")[2] for lab in seen.values()]
    taken = {m.address for m in paper.machines}
    assert len(set(last)) == 3 and not taken & {lab.vip for lab in seen.values()}
    high = settings.make({"vip": "172.30.16.254"})
    assert all(lab.vip in map(str, high.network.hosts()) for lab in vips.addresses(high).values())
    words = vips.create(paper, "pi2", "advert 5 s", "172.30.16.102")
    assert {"NODE_NAME=pi2", "VIP=172.30.16.102", "ADVERT_INT=5"} <= set(words)
    service = yaml.safe_load((stack.FOLDER / "gis.yml").read_text())["services"]["keepalived"]
    assert {words[i + 1] for i, word in enumerate(words) if word == "--cap-add"} == set(
        service["cap_add"])
    text = (PROJECT / "images/keepalived/entrypoint.sh").read_text()
    assert "virtual_router_id ${VIP##*.}" in text and "advert_int $ADVERT_INT" in text


def test_the_peers_of_the_vip_are_stopped_before_they_are_removed(pis, paper):
    """A killed Keepalived would leave its address on the Pi."""
    for remote in pis:
        remote.answers["docker", "create"] = remote.answers["sh", "-c"] = ""
    with pytest.raises(RuntimeError, match="in the middle"), vips.beside(paper) as seen:
        assert len(pis.sent("docker", "create")) == 6
        pis.forget()
        raise RuntimeError("in the middle")
    for _, said in pis.sent("sh", "-c"):
        assert 0 < said.index("docker stop") < said.index("docker rm") < said.index("ip addr del")
        assert all(lab.vip in said for name, lab in seen.items() if name != "ours")
        assert paper.vip + " " not in said.replace(";", " ")
    assert len(pis.sent("sh", "-c")) == 3


def test_every_address_is_brought_to_the_pi_that_holds_the_vip(pis, paper, monkeypatch):
    """So that one power cut strikes all; who holds the lab's own VIP is never changed."""
    pis.answer("docker", "stop")
    pis.answer("docker", "start")
    seen = vips.addresses(paper)
    astray = {seen["advert 5 s"].vip: vips.container("advert 5 s")}
    monkeypatch.setattr(vip, "holders", lambda lab: (
        ["pi1"] if lab.vip in astray and not pis.sent("docker", "stop", astray[lab.vip])
        else ["pi2"]))
    vips.unite(paper, seen)
    assert pis.sent("docker", "stop") == [(pi, "docker stop bench-advert-5-s")
                                          for pi in ("pi1", "pi3")]
    assert len(pis.sent("docker", "start")) == 1 + 3 * len(vips.PEERS)


def test_the_way_to_a_map_is_asked_on_a_pi_without_the_vip_and_warmed_up(
        pis, paper, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ready", lambda lab, **how: None)
    monkeypatch.setattr(vip, "holder", lambda lab: "pi1")
    pis.answer("docker", "ps", out="abc")
    pis.answer("docker", "inspect", out="10.77.0.9")
    pis.answer("sh", "-c")
    count = 2 * len(maps.SIZES) * (maps.PAIRS + maps.SERVERS)
    pis.answer("docker", "exec", out="200 image/png 0.010\n" * count)
    maps.way(paper, tmp_path, 1)
    assert [pi for pi, _ in pis.sent("docker", "exec")] == ["pi2"]
    (kept,) = series.runs(tmp_path, "way").values()
    assert set(kept.samples.groupby("probe").size()) == {maps.PAIRS}
    pis.answer("docker", "exec", out="503 text/html; charset=utf-8 0.001\n" * count)
    with pytest.raises(shell.CommandFailed, match="503"):
        maps.way(paper, tmp_path, 2)
    assert series.missing(tmp_path, "way", 2) == [2]


def test_the_power_comes_back_even_if_the_probes_have_died(paper):
    class Dead:
        def now(self):
            return 1.0

        def steady(self, seconds, timeout):
            raise RuntimeError("a mistake of ours")

    done, events = [], []
    cut = dataclasses.replace(
        faults.power_cut(paper), hit=lambda lab, target: done.append("dark"),
        mend=lambda lab, target: done.append("light"), target=victims.Target("pi1", what="pi1"))
    wrapped = vips.noted(cut, Dead(), events)
    wrapped.strike()
    with pytest.raises(RuntimeError, match="a mistake"):
        wrapped.undo()
    assert done == ["dark", "light"]
    assert [kind for _, kind, *_ in events] == ["strike", "struck", "undo", "undone"]


@pytest.fixture
def swarm(pis, paper, monkeypatch):
    """Pis that make services and forget them; maps come at once."""
    for words in (("node", "ls"), ("service", "rm"), ("service", "create"), ("config", "create"),
                  ("config", "rm"), ("config", "ls"), ("ps",)):
        pis.answer("docker", *words)
    pis.answer("ip", "-o", out="")
    pis[1].answers["ip", "-o"] = f"2: eth0    inet {paper.vip}/32 scope global eth0"
    monkeypatch.setattr(doors, "_maps_come", lambda base: None)
    return pis


@pytest.mark.parametrize("name", [doors.WITHOUT_RETRIES, doors.OF_2016])
def test_a_second_haproxy_stands_where_the_vip_is_and_goes_on_an_error_too(swarm, paper, name):
    with pytest.raises(RuntimeError, match="middle"), doors.beside(paper, name) as base:
        assert base == f"http://{paper.machines[1].address}:{doors.PORTS[name]}"
        ((_, said),) = swarm.sent("docker", "service", "create")
        assert "node.hostname==pi2" in said and f"published={doors.PORTS[name]}" in said
        assert ("getent" in said) == (name == doors.OF_2016)
        swarm.forget()
        raise RuntimeError("in the middle")
    assert swarm.sent("docker", "service") == [("pi1", f"docker service rm {name}")]
    assert swarm.sent("docker", "config", "rm") == [("pi1", f"docker config rm {name}")]


def test_the_second_haproxy_is_ours_without_its_second_tries():
    ours, text = (stack.FOLDER / "haproxy.cfg").read_text(), doors.without_retries()
    gone = [line for line in ours.partition("# --- SQL")[0].splitlines()
            if line not in text.splitlines()]
    assert [line.split("  #")[0].strip() for line in gone] == [
        "retries 3", "option redispatch 1", "retry-on all-retryable-errors"]
    assert "retries 0" in text and "backend primary" not in text
    assert "monitor-uri /health" in text and "server-template maps" in text


def test_the_haproxy_of_2016_is_the_files_own_up_to_its_servers():
    text = doors.of_2016()
    assert text.rstrip().splitlines()[-1].lstrip().startswith("option httpchk")
    assert "backend geoserver" in text and "bind *:8080" in text and "    server" not in text


def test_a_second_haproxy_takes_no_port_of_the_lab(paper):
    ports = set(vars(paper.ports).values())
    assert len(set(doors.PORTS.values()) - ports) == len(doors.PORTS)


def test_both_ways_to_a_map_are_asked_alike_in_an_order_that_is_drawn_anew():
    servers = [f"http://10.77.0.{n}:8080" for n in (2, 3, 4)]
    plan = maps.turns("http://172.30.16.100", servers, 1)
    assert plan == maps.turns("http://172.30.16.100", servers, 1)
    assert plan != maps.turns("http://172.30.16.100", servers, 2)
    for (one, a), (two, b) in zip(plan[::2], plan[1::2], strict=True):
        assert {one.split()[0], two.split()[0]} == {"ours", "direct"}
        assert one.split()[1] == two.split()[1] and a.split("/ows")[1] == b.split("/ows")[1]
    direct = [url.split("/")[2] for lane, url in plan if lane.startswith("direct")]
    assert max(map(direct.count, set(direct))) - min(map(direct.count, set(direct))) <= 2
    first = [lane.split()[0] for lane, _ in plan[::2]]
    assert 0.3 < first.count("ours") / len(first) < 0.7
    text = maps.curl_config([url for _, url in plan])
    assert text.count("url = ") == text.count("/dev/null") == len(plan)


class Door(socketserver.BaseRequestHandler):
    """Answers as HAProxy's monitor-uri does, or as its server says."""

    def handle(self):
        self.request.recv(100)
        self.request.sendall(self.server.says)


@pytest.mark.parametrize("says, outcome", [(b"HTTP/1.0 200 OK\r\n\r\n", "ok"),
                                           (b"HTTP/1.0 503 no\r\n\r\n", "failed"),
                                           (b"", "failed")])
def test_a_knock_is_ok_only_if_haproxy_says_that_it_is_well(says, outcome):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        server.says = says
        threading.Thread(target=server.serve_forever, daemon=True).start()
        knock = vips.Knock("127.0.0.1", server.server_address[1])
        with probe.Probes({"ours": knock}, rate=50) as probes:
            probes.watch(0.3)
        server.shutdown()
    found = probes.samples()
    assert len(found) > 5 and set(found["outcome"]) == {outcome}


def test_a_knock_where_nobody_listens_fails_and_does_not_stop_the_probes():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        port = server.server_address[1]
    with probe.Probes({"ours": vips.Knock("127.0.0.1", port)}, rate=50) as probes:
        probes.watch(0.3)
    assert set(probes.samples()["outcome"]) == {"failed"}


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(900, func_only=True)
def test_a_quick_bench_has_every_peer_loses_no_map_and_leaves_nothing(
        whole, tmp_path, monkeypatch):
    """`make bench-failover ARGS=--quick`: one trial each of the rows 1, 5, 6 and 9."""
    monkeypatch.setattr(bench_database, "FOLDER", tmp_path / "database")
    folder = tmp_path / "failover"
    assert bench_failover.main(["--quick", "--output", str(tmp_path)], lab=whole,
                               folder=folder) == 0
    found = verdicts.lines(bench_failover.kept(folder, bench_failover.QUICK))
    by_what = {}
    for line in found:
        by_what.setdefault((line["row"], line["what"]), {})[line["setup"]] = line
    gap = {name: line["median"] for name, line in by_what[records.VIP].items()}
    # three adverts and the skew (RFC 5798, 6.1), of which up to one had gone by
    assert gap["ours"] < gap["advert 1 s"] < 8 < gap["advert 5 s"] < 30
    for what, peer in ((records.KILLED, doors.WITHOUT_RETRIES), (records.SCALED, doors.OF_2016)):
        assert set(by_what[what]) == {"ours", peer}
        assert by_what[what]["ours"]["failed"] == 0 and by_what[what]["ours"]["asked"] > 300
    assert by_what[records.SCALED][doors.OF_2016]["failed"] > 0, "it was not stopped"
    assert (tmp_path / "bench-failover.png").read_bytes()[:4] == b"\x89PNG"
    left_behind(whole)


def left_behind(lab):
    """Nothing of the bench is on any Pi, and the lab has its three map servers."""
    manager = nodes.manager(lab)
    assert "bench" not in manager.docker("service", "ls") + manager.docker("config", "ls")
    for node in nodes.all(lab):
        assert "bench" not in node.docker("ps", "--all", "--format", "{{.Names}}")
    assert [vip.holders(peer) for name, peer in vips.addresses(lab).items() if name != "ours"] == [
        [], []]
    assert len(stack.containers(lab, "mapserver")) == maps.SERVERS
